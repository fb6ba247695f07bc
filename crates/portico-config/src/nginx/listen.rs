//! Where nginx listens: `listen` of all servers as addresses of `bind`, and servers that only lead to https.

use super::syntax::NginxDirective;
use super::values::target;

/// A `server`.
pub(super) struct NginxServer<'d> {
    pub place: &'d str,
    pub block: &'d [NginxDirective],
    /// As routes have them; empty for all.
    pub hosts: Vec<String>,
    pub listens: Vec<Listen>,
    /// All that it does is to lead to https.
    pub only_redirects: bool,
}

/// One `listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listen {
    /// As `bind` has it, without a scheme.
    pub address: String,
    pub is_tls: bool,
    pub is_default: bool,
    /// Whether a proxy in front speaks the PROXY protocol there.
    pub has_proxy_protocol: bool,
    pub place: String,
}

/// The addresses of a server; `listen 80` where it names none.
pub(super) fn listens(block: &[NginxDirective], place: &str) -> Vec<Listen> {
    let found: Vec<Listen> = block.iter().filter(|it| it.name == "listen").map(listen).collect();
    if !found.is_empty() {
        return found;
    }
    let (address, place) = ("0.0.0.0:80".to_owned(), place.to_owned());
    vec![Listen { address, is_tls: false, is_default: false, has_proxy_protocol: false, place }]
}

fn listen(directive: &NginxDirective) -> Listen {
    let text = directive.first();
    let says = |word: &str| directive.arguments.iter().any(|it| it == word);
    let address = match text.strip_prefix("*:") {
        _ if text.starts_with("unix:") => text.to_owned(),
        Some(port) => format!("0.0.0.0:{port}"),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => format!("0.0.0.0:{text}"),
        None if text.starts_with('[') && text.ends_with(']') => format!("{text}:80"),
        None if !text.contains(':') => format!("{text}:80"),
        None => text.to_owned(),
    };
    Listen {
        address,
        is_tls: says("ssl") || says("quic"),
        is_default: says("default_server") || says("default"),
        has_proxy_protocol: says("proxy_protocol"),
        place: directive.place.clone(),
    }
}

/// Whether all that a server does is to lead to the same place by https.
pub(super) fn leads_to_https(block: &[NginxDirective], names: &[String]) -> bool {
    const ASIDE: [&str; 9] = [
        "listen",
        "server_name",
        "access_log",
        "error_log",
        "server_tokens",
        "root",
        "index",
        "charset",
        "log_not_found",
    ];
    let mut redirects = 0;
    for it in block.iter().filter(|it| !ASIDE.contains(&it.name.as_str())) {
        match (it.name.as_str(), it.block.as_deref()) {
            ("return" | "rewrite", None) if is_to_https(it, names) => redirects += 1,
            // As certbot writes it: an `if` for each host, and 404 for the others.
            ("return", None) if it.first() == "404" => {}
            ("if", Some([only])) if it.first() == "($host" && is_to_https(only, names) => redirects += 1,
            ("location", Some([only])) if it.first() == "/" && is_to_https(only, names) => redirects += 1,
            // Where certificates are asked for.
            ("location", Some(_)) if it.arguments.last().is_some_and(|it| it.contains("acme-challenge")) => {}
            _ => return false,
        }
    }
    redirects > 0
}

/// Whether a directive leads to the path that was asked for, by https, at the host or one of these.
fn is_to_https(directive: &NginxDirective, names: &[String]) -> bool {
    let to = match (directive.name.as_str(), &directive.arguments[..]) {
        ("return", [status, to]) if matches!(status.as_str(), "301" | "302" | "307" | "308") => to,
        ("return", [to]) => to,
        ("rewrite", [regex, to, ..])
            if matches!(regex.as_str(), "^" | "^(.*)$" | "^(.*)" | "(.*)" | "^/(.*)$") =>
        {
            to
        }
        _ => return false,
    };
    let to = to.replace("/$1", "{path}").replace("$1", "{path}");
    let is_host = |name: &str| name == "same" || names.iter().any(|own| own == name);
    let leads = |to: String| {
        to.strip_prefix("https://").and_then(|rest| rest.strip_suffix("{path}")).is_some_and(is_host)
    };
    target(&to, Some("same"), "https").is_some_and(leads)
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn addresses() {
        for (text, address, is_tls) in [
            ("listen 80;", "0.0.0.0:80", false),
            ("listen 443 ssl http2 default_server;", "0.0.0.0:443", true),
            ("listen [::]:443 ssl ipv6only=on;", "[::]:443", true),
            ("listen [::1];", "[::1]:80", false),
            ("listen *:8080;", "0.0.0.0:8080", false),
            ("listen localhost;", "localhost:80", false),
            ("listen 127.0.0.1:81;", "127.0.0.1:81", false),
            ("listen unix:/run/x.sock;", "unix:/run/x.sock", false),
            ("", "0.0.0.0:80", false),
        ] {
            let found = listens(&parse(text, "").unwrap(), "f:1");
            assert_eq!((found[0].address.as_str(), found[0].is_tls), (address, is_tls), "{text}");
        }
    }

    #[test]
    fn servers_that_lead_to_https() {
        let names = ["a.example".to_owned()];
        for (text, expected) in [
            ("listen 80; return 301 https://$host$request_uri;", true),
            ("return 301 https://a.example$request_uri;", true),
            ("rewrite ^ https://$server_name$request_uri? permanent;", true),
            ("rewrite ^(.*)$ https://$host$1 permanent;", true),
            ("location / { return 308 https://$host$request_uri; }", true),
            (
                "location ^~ /.well-known/acme-challenge/ { root /x; } return 301 https://$host$request_uri;",
                true,
            ),
            ("if ($host = a.example) { return 301 https://$host$request_uri; } return 404;", true),
            ("return 404;", false),
            ("return 301 https://b.example$request_uri;", false),
            ("return 301 http://$host$request_uri;", false),
            ("return 301 https://$host/;", false),
            ("location /x { return 301 https://$host$request_uri; }", false),
            ("location / { proxy_pass http://x; }", false),
        ] {
            assert_eq!(leads_to_https(&parse(text, "").unwrap(), &names), expected, "{text}");
        }
    }
}
