//! The servers of nginx: where they listen, their certificates, and which hosts they are for.

use toml::Value as Toml;

use super::NginxSite;
use super::listen::{NginxServer, leads_to_https, listens};
use super::location::{BODY_MAX, NginxScope};
use super::syntax::NginxDirective;
use super::values::size;
use crate::draft::{MigratedRoute, MigrationDraft};
use crate::settings;

impl MigrationDraft {
    pub(super) fn take_servers(&mut self, site: &NginxSite<'_>) {
        let blocks = site.http.iter().copied().filter(|it| it.name == "server" && it.block.is_some());
        let servers: Vec<NginxServer<'_>> = blocks.map(|it| self.server(it)).collect();
        self.take_addresses(&servers);
        self.take_certificates(&servers, site);
        let serving: Vec<&NginxServer<'_>> = servers.iter().filter(|server| !server.only_redirects).collect();
        for (index, server) in serving.iter().enumerate() {
            let same = |other: &&&NginxServer<'_>| {
                other.hosts.iter().any(|host| server.hosts.contains(host))
                    || (other.hosts.is_empty() && server.hosts.is_empty())
            };
            if let Some(other) = serving[..index].iter().find(same) {
                self.problems.push(format!(
                    "{}: server: it is for a host of that in {} too; routes are the same on all addresses",
                    server.place, other.place
                ));
            }
        }
        if serving.len() > 1 && serving.iter().all(|server| !server.hosts.is_empty()) {
            self.notes.push(format!(
                "{}: requests for hosts that no server names get the first server of nginx, and the application \
                 of Portico; say allowed_hosts, or write a route without host",
                serving[0].place
            ));
        }
        let body = site.http.iter().find(|it| it.name == "client_max_body_size");
        let body = body.map_or_else(|| Toml::from(BODY_MAX), |it| size(it.first()));
        if site.application.is_some() {
            if !site.http.iter().any(|it| it.name == "client_max_body_size") {
                let place = servers.first().map_or("", |server| server.place);
                let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
                self.notes.push(format!(
                    "{file}: names no client_max_body_size for all servers, which is {BODY_MAX} for nginx and \
                     written so"
                ));
            }
            let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            self.say("client_max_body_size", &settings::LIMIT_REQUEST_BODY, vec![text]);
        }
        for server in &serving {
            // A server alone takes all hosts, as nginx has it.
            let hosts = if serving.len() == 1 { Vec::new() } else { server.hosts.clone() };
            self.take_server(server, &hosts, site, &body);
            if !server.block.iter().any(|it| it.name == "return") {
                self.tell_lost_guards(server.block, site);
            }
        }
    }

    fn server<'d>(&mut self, directive: &'d NginxDirective) -> NginxServer<'d> {
        let block = directive.block.as_deref().unwrap_or_default();
        let names = block.iter().filter(|it| it.name == "server_name");
        let names: Vec<String> = names.flat_map(|it| &it.arguments).cloned().collect();
        let mut hosts = Vec::new();
        for name in names.iter().filter(|name| !matches!(name.as_str(), "_" | "")) {
            match name.strip_prefix('.') {
                Some(parent) => hosts.extend([parent.to_owned(), format!("*.{parent}")]),
                None if name.starts_with('~') || name.ends_with('*') || name.contains('$') => {
                    self.problems
                        .push(format!("{}: server_name {name}: no route can say it", directive.place));
                }
                None => hosts.push(name.clone()),
            }
        }
        let listens = listens(block, &directive.place);
        for listen in
            block.iter().filter(|it| it.name == "listen" && it.arguments.iter().any(|it| it == "quic"))
        {
            self.notes.push(format!("{}: {}: HTTP/3 is not spoken", listen.place, listen.shown()));
        }
        let is_plain = listens.iter().all(|listen| !listen.is_tls);
        NginxServer {
            place: &directive.place,
            block,
            only_redirects: is_plain && leads_to_https(block, &names),
            hosts,
            listens,
        }
    }

    fn take_addresses(&mut self, servers: &[NginxServer<'_>]) {
        let mut addresses: Vec<&str> = Vec::new();
        for server in servers {
            for listen in &server.listens {
                if !addresses.contains(&listen.address.as_str()) {
                    addresses.push(&listen.address);
                }
            }
        }
        for address in addresses {
            let there =
                |server: &&NginxServer<'_>| server.listens.iter().any(|listen| listen.address == address);
            let here: Vec<&NginxServer<'_>> = servers.iter().filter(there).collect();
            let listen = here.iter().flat_map(|it| &it.listens).find(|it| it.address == address);
            let Some(listen) = listen else { continue };
            let redirecting: Vec<&&NginxServer<'_>> = here.iter().filter(|it| it.only_redirects).collect();
            let scheme = match (listen.is_tls, redirecting.len() == here.len()) {
                (true, _) => "https",
                (false, true) => "redirect",
                (false, false) => "http",
            };
            if scheme == "http" {
                for server in &redirecting {
                    self.problems.push(format!(
                        "{}: server: left out, others are served at {address}, and routes are the same for http \
                         and https; let redirect://{address} lead all of them to https",
                        server.place
                    ));
                }
            }
            if scheme == "redirect" {
                for server in &redirecting {
                    self.note_redirect(server, servers);
                }
            }
            let proxy = if listen.has_proxy_protocol { "?proxy=auto" } else { "" };
            let text = format!("{scheme}://{address}{proxy}");
            self.say(&listen.place, &settings::BIND, vec![text]);
            if !proxy.is_empty() {
                self.notes.push(format!("{}: name the proxies in front with proxy_allow_ips", listen.place));
            }
        }
    }

    /// What `redirect://` does otherwise than a server that leads to https.
    fn note_redirect(&mut self, server: &NginxServer<'_>, servers: &[NginxServer<'_>]) {
        for it in server.block.iter().filter(|it| it.name == "location" && it.first() != "/") {
            self.notes.push(format!(
                "{}: {}: left out, redirect:// leads all requests to https; ask for certificates by another way, \
                 such as certbot's DNS plugins, or by https",
                it.place,
                it.shown()
            ));
        }
        let Some(target) = redirect_host(server.block) else { return };
        let is_served = |host: &&String| {
            let serving = servers.iter().filter(|server| !server.only_redirects);
            **host != target && !serving.flat_map(|server| &server.hosts).any(|other| other == *host)
        };
        let others: Vec<String> = server.hosts.iter().filter(is_served).cloned().collect();
        if others.is_empty() {
            return;
        }
        self.notes.push(format!(
            "{}: server: {} is led to https at its own name first, and needs a certificate for it",
            server.place,
            others.join(" ")
        ));
        let mut route = MigratedRoute::at(server.place);
        route.set("host", others);
        route.set("redirect", format!("https://{target}{{path}}"));
        route.set("status", 301);
        self.add_route(route);
    }

    /// The certificates of all servers, each once.
    fn take_certificates(&mut self, servers: &[NginxServer<'_>], site: &NginxSite<'_>) {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for server in servers.iter().filter(|server| server.listens.iter().any(|listen| listen.is_tls)) {
            let scope = NginxScope::of(site.http.iter().copied()).within(server.block);
            let certificates = scope.all(&["ssl_certificate"]);
            let keys = scope.all(&["ssl_certificate_key"]);
            if certificates.is_empty() || certificates.len() != keys.len() {
                self.problems.push(format!("{}: server: it has no certificate with its key", server.place));
            }
            for (certificate, key) in certificates.into_iter().zip(keys) {
                if !pairs.contains(&(certificate.first(), key.first())) {
                    pairs.push((certificate.first(), key.first()));
                    self.say(&certificate.place, &settings::CERTFILE, vec![certificate.first().to_owned()]);
                    self.say(&key.place, &settings::KEYFILE, vec![key.first().to_owned()]);
                }
            }
        }
    }
}

/// The host that a server leads to, if it names one.
fn redirect_host(block: &[NginxDirective]) -> Option<String> {
    let returned = block.iter().find(|it| it.name == "return")?.arguments.last()?;
    let host = returned.strip_prefix("https://")?.split(['/', '$']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}
