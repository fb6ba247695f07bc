//! uWSGI's internal routing and headers as routes, as far as they are one of ours; its files by `static_files.rs`.

use toml::Value as Toml;

use super::ini::{Ini, IniOption};
use crate::draft::{MigratedRoute, MigrationDraft};
use crate::path_regex::{self, PathRegex, RegexPlace};
use crate::settings;

/// The options that are read here.
const OPTIONS: &[&str] = &[
    "static-map",
    "static-map2",
    "check-static",
    "check-static-docroot",
    "static-index",
    "static-expires",
    "static-expires-uri",
    "static-expires-type",
    "static-safe",
    "add-header",
    "del-header",
    "route",
    "route-uri",
    "route-host",
    "route-run",
    "http-to-https",
];

/// Whether an option becomes a route.
pub(super) fn takes(name: &str) -> bool {
    OPTIONS.contains(&name)
}

/// Options that keep something from clients, whatever their value is.
const RESTRICTING: &[&str] = &["static-skip-ext", "static-skip-dir"];

/// Actions of rules that keep somebody from what is behind them, or lead around rules that do.
const RESTRICTING_ACTIONS: &[&str] = &[
    "access",
    "basicauth",
    "basicauth-next",
    "break",
    "break-with-status",
    "chain",
    "goto",
    "ldapauth",
    "ldapauth-next",
    "radius",
    "return",
    "return-status",
    "spnego",
];

/// Whether an option restricts access. Where it becomes nothing, others reach what it keeps from them.
pub(super) fn restricts(name: &str, value: &str) -> bool {
    let is_rule = name.contains("route");
    let acts = |word: &str| RESTRICTING_ACTIONS.contains(&word.split(':').next().unwrap_or_default());
    RESTRICTING.contains(&name) || (is_rule && value.split_ascii_whitespace().any(acts))
}

impl MigrationDraft {
    /// Takes all options that are about routes, in the order of the file.
    pub(super) fn take_routes(&mut self, ini: &Ini) {
        let options: Vec<&IniOption> =
            ini.options.iter().filter(|option| takes(&option.name) && option.unknown.is_empty()).collect();
        let mut files = self.static_files(&options);
        let mut index: Vec<Toml> = Vec::new();
        for option in options {
            let place = format!("{}: {}", option.place, option.name);
            let value = option.value.as_str();
            match option.name.as_str() {
                "static-index" => index.push(value.into()),
                "static-expires" | "static-expires-uri" => self.expire(&mut files, option, &place),
                "static-expires-type" => self
                    .notes
                    .push(format!("{place}: left out, a route has one max_age for all of its types")),
                "static-safe" => self.notes.push(format!(
                    "{place}: left out, links out of a folder are not followed; symlinks = \"follow\" in the \
                     route follows all"
                )),
                "add-header" => self.header(value, &place, MigratedRoute::at(&option.place)),
                "del-header" => {
                    let mut route = MigratedRoute::at(&option.place);
                    route.set_header(value, false);
                    self.add_route(route);
                }
                "http-to-https" => {
                    let address = super::address(&super::shared(ini, value));
                    self.say(&place, &settings::BIND, vec![format!("redirect://{address}")]);
                }
                "route" | "route-uri" | "route-host" | "route-run" => self.take_rule(option, &place),
                _ => {}
            }
        }
        for file in files {
            self.add_route(file.route(&index));
        }
    }

    /// `Name: value`
    fn header(&mut self, text: &str, place: &str, mut route: MigratedRoute) {
        match text.split_once(':') {
            Some((name, value)) if !name.trim().is_empty() && !value.contains("${") => {
                route.set_header(name.trim(), value.trim());
                self.add_route(route);
            }
            _ => self.problems.push(format!("{place}: left out, {text:?} has no value that is known here")),
        }
    }

    /// `REGEX ACTION:ARGUMENTS`
    fn take_rule(&mut self, option: &IniOption, place: &str) {
        let value = option.value.as_str();
        let (regex, action) = match (option.name.as_str(), value.split_once(char::is_whitespace)) {
            ("route-run", _) => ("", value),
            (_, Some((regex, action))) => (regex, action.trim()),
            (_, None) => {
                self.problems.push(format!("{place}: left out, it does nothing"));
                return;
            }
        };
        let (action, arguments) = action.split_once(':').unwrap_or((action, ""));
        let arguments = arguments.trim();
        let mut base = MigratedRoute::at(&option.place);
        let found = if option.name == "route-host" {
            let Some(host) = host_of(regex) else {
                return self.refuse_rule(place, "which hosts it is for cannot be said in a route");
            };
            base.set("host", host);
            vec![PathRegex { place: RegexPlace::Any, captures: Vec::new(), remarks: Vec::new() }]
        } else {
            path_regex::read(regex).unwrap_or_default()
        };
        let is_routable =
            |it: &PathRegex| !matches!(it.place, RegexPlace::Extensions(_) | RegexPlace::DotFiles);
        if found.is_empty() || !found.iter().all(is_routable) {
            return self.refuse_rule(place, "which paths it is for cannot be said in a route");
        }
        let is_wider = found.iter().flat_map(|it| &it.remarks).all(|it| *it == path_regex::ONE_SEGMENT);
        let remarks: Vec<String> =
            found.iter().flat_map(|it| &it.remarks).map(|remark| format!("{place}: {remark}")).collect();
        for paths in found {
            let mut route = base.clone();
            match &paths.place {
                RegexPlace::Prefix(path) => route.set("path", path.as_str()),
                RegexPlace::Exact(path) => route.set("exact", path.as_str()),
                _ => {}
            }
            self.act(action, arguments, &paths, route, place);
        }
        let lines = match restricts(&option.name, action) && !is_wider {
            true => &mut self.problems,
            false => &mut self.notes,
        };
        for remark in remarks {
            if !lines.contains(&remark) {
                lines.push(remark);
            }
        }
    }

    fn act(
        &mut self,
        action: &str,
        arguments: &str,
        paths: &PathRegex,
        mut route: MigratedRoute,
        place: &str,
    ) {
        match action {
            "redirect" | "redirect-302" | "redirect-permanent" | "redirect-301" => {
                let host = route.get("host").and_then(Toml::as_str).filter(|host| !host.starts_with('*'));
                let mut to = arguments.replace("${REQUEST_URI}", "{path}").replace("${PATH_INFO}", "{path}");
                if let Some(host) = host {
                    to = to.replace("${HTTP_HOST}", host);
                }
                let Some(to) = path_regex::fill(&to, &paths.captures) else {
                    return self.refuse_rule(place, "where it leads cannot be said in a route");
                };
                route.set("redirect", to);
                if matches!(action, "redirect-permanent" | "redirect-301") {
                    route.set("status", 301);
                }
                self.add_route(route);
            }
            "addheader" => self.header(arguments, place, route),
            "delheader" | "remheader" => {
                route.set_header(arguments, false);
                self.add_route(route);
            }
            "basicauth" => match arguments.split_once(',').map(|(_, users)| users.trim()) {
                Some(users) if !users.is_empty() && !users.contains(':') => {
                    route.set("auth", users);
                    self.notes.push(format!("{place}: the realm is left out"));
                    self.notes.push(format!(
                        "{place}: passwords in {users} that are hashed by crypt, or not at all, are refused; \
                         `portico hash-password USER` makes its lines"
                    ));
                    self.add_route(route);
                }
                _ => self.problems.push(format!(
                    "{place}: left out, passwords are not written into the configuration: put what `portico \
                     hash-password USER` prints into a file and name that with auth"
                )),
            },
            "break" | "return" | "break-with-status" => {
                match arguments.split_ascii_whitespace().next().map(str::parse::<i64>) {
                    Some(Ok(status)) => {
                        route.set("respond", status);
                        self.add_route(route);
                    }
                    _ => self.refuse_rule(place, "it has no status"),
                }
            }
            "static" => self.serve_file(arguments, paths, route, place),
            "donotlog" => {
                self.notes.push(format!("{place}: left out, the access log has all requests or none"));
            }
            "last" | "continue" => {} // The most specific route counts in any case.
            _ => self.refuse_rule(place, &format!("no route does what {action} does")),
        }
    }

    /// `static:FILE`, or `static:FOLDER/$1` for the rest of the path.
    fn serve_file(&mut self, file: &str, paths: &PathRegex, mut route: MigratedRoute, place: &str) {
        let below = match &paths.place {
            RegexPlace::Exact(path) if paths.captures == ["{rest}"] => path.strip_suffix("/{rest…}"),
            _ => None,
        };
        match (below, file.strip_suffix("/$1"), file.rsplit_once('/')) {
            (Some(path), Some(folder), _) => {
                let mut whole = MigratedRoute::at(&route.place);
                whole.set("path", if path.is_empty() { "/" } else { path });
                whole.set("static", folder);
                self.add_route(whole);
            }
            (None, None, Some((folder, name))) if !file.contains('$') => {
                route.set("static", if folder.is_empty() { "/" } else { folder });
                route.set("rewrite", format!("/{name}"));
                self.add_route(route);
            }
            _ => self.refuse_rule(place, "which file it is cannot be said in a route"),
        }
    }

    fn refuse_rule(&mut self, place: &str, why: &str) {
        self.problems.push(format!("{place}: left out, {why}"));
    }
}

/// The host that an expression stands for: `^www\.example\.com$`, `\.example\.com$`.
fn host_of(regex: &str) -> Option<String> {
    let (is_whole, rest) = match regex.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, regex),
    };
    let text = rest.strip_suffix('$').filter(|text| !text.ends_with('\\'))?.replace("\\.", "\u{0}");
    let is_name = |text: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | 0);
        !text.is_empty() && text.bytes().all(is_part)
    };
    let name = |text: &str| text.replace('\u{0}', ".");
    let wild = ["(.*)\u{0}", "(.+)\u{0}", ".*\u{0}", ".+\u{0}"];
    match wild.iter().find_map(|start| text.strip_prefix(start)) {
        Some(parent) if is_name(parent) => Some(format!("*.{}", name(parent))),
        _ if is_whole && is_name(&text) => Some(name(&text)),
        _ => text
            .strip_prefix('\u{0}')
            .filter(|parent| !is_whole && is_name(parent))
            .map(|parent| format!("*.{}", name(parent))),
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    fn migrated(text: &str) -> (String, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.ini");
        let base = "processes = 1\nthreads = 1\nharakiri = 1\ndisable-logging = 1\n";
        std::fs::write(&path, format!("[uwsgi]\n{base}{text}")).unwrap();
        let done = crate::migrate::migrate(&path, None, &|_| None, None).unwrap();
        let routes = done.text.split_once("timeout = 1\n").unwrap().1.replace("\n\n", "\n");
        let lines: Vec<&str> = routes.lines().filter(|line| !line.is_empty()).collect();
        let lines = lines.join("; ").replace("; [[route]]", "\n[[route]]");
        (lines, done.notes.join("\n"), done.problems.join("\n"))
    }

    #[test]
    fn files_and_headers_are_routes() {
        for (text, expected) in [
            (
                "static-map = /static=/srv/static\nstatic-expires = /* 600\n",
                "[[route]]  # u.ini:6; path = \"/static\"; static = \"/srv/static\"; fallback = \"app\"; \
                 index = []; max_age = 600",
            ),
            (
                "static-map = /s/=/a\nstatic-map = /s=/b\nstatic-index = index.html\nstatic-gzip-all\n",
                "[[route]]  # u.ini:6; path = \"/s\"; static = [\"/a\", \"/b\"]; fallback = \"app\"; \
                 index = [\"index.html\"]",
            ),
            (
                "static-map2 = /s=/srv/\nstatic-expires-uri = ^/s/ 60\n",
                "[[route]]  # u.ini:6; path = \"/s\"; static = \"/srv/s\"; fallback = \"app\"; index = []; \
                 max_age = 60",
            ),
            (
                "check-static = /srv/public\n",
                "[[route]]  # u.ini:6; static = \"/srv/public\"; fallback = \"app\"; index = []",
            ),
            (
                "static-map = /favicon.ico=/srv/img/fav.ico\n",
                "[[route]]  # u.ini:6; exact = \"/favicon.ico\"; static = \"/srv/img\"; rewrite = \"/fav.ico\"",
            ),
            (
                "add-header = X-Frame-Options: DENY\nadd-header = X-A: b, c\ndel-header = Server\n",
                "[[route]]  # u.ini:6; headers = { Server = false, X-A = \"b, c\", X-Frame-Options = \"DENY\" }",
            ),
            (
                "route = ^/old/(.*)$ redirect-permanent:/new/$1\n",
                "[[route]]  # u.ini:6; exact = \"/old/{rest…}\"; redirect = \"/new/{rest}\"; status = 301",
            ),
            (
                "route-host = ^www\\.a\\.example$ redirect:https://a.example${REQUEST_URI}\n",
                "[[route]]  # u.ini:6; host = \"www.a.example\"; redirect = \"https://a.example{path}\"",
            ),
            (
                "route = ^/admin(/|$) basicauth:Staff,/etc/users\nroute = ^/admin(/|$) addheader:X-A: b\n\
                 route-uri = ^/gone$ break:410 Gone\nroute = ^/media/(.*)$ static:/srv/media/$1\n\
                 route-run = delheader:X-B\nroute = ^/r.txt$ static:/srv/x.txt\n",
                "[[route]]  # u.ini:6; path = \"/admin\"; headers = { X-A = \"b\" }; auth = \"/etc/users\"\n\
                 [[route]]  # u.ini:8; exact = \"/gone\"; respond = 410\n\
                 [[route]]  # u.ini:9; path = \"/media\"; static = \"/srv/media\"\n\
                 [[route]]  # u.ini:10; headers = { X-B = false }\n\
                 [[route]]  # u.ini:11; exact = \"/r.txt\"; static = \"/srv\"; rewrite = \"/x.txt\"",
            ),
        ] {
            let (routes, _, problems) = migrated(text);
            assert_eq!((routes.as_str(), problems.as_str()), (expected, ""), "{text}");
        }
    }

    #[test]
    fn what_is_lost_is_told_with_its_line() {
        for (text, note) in [
            (
                "static-map = /s=/a\nstatic-expires = \\.css$ 60\n",
                "u.ini:7: static-expires: left out, a route",
            ),
            ("static-expires-type = text/css 60\n", "u.ini:6: static-expires-type: left out, a route"),
            ("static-safe = /x\n", "u.ini:6: static-safe: left out, links"),
            ("check-static-docroot = true\n", "left out, the folder is not in this file"),
            ("route = ^/x$ donotlog:\n", "left out, the access log"),
            ("route = ^/x redirect:/y\n", "u.ini:6: route: the expression takes longer names too"),
            ("route = ^/x/[a-z]+$ break:403\n", "u.ini:6: route: the expression takes certain characters"),
            ("route = ^/x$ basicauth:R,/f\n", "u.ini:6: route: the realm is left out"),
            ("route = ^/x$ basicauth:R,/f\n", "hashed by crypt"),
            (
                "route-if = empty:${HTTP_X} addheader:X-A: b\n",
                "u.ini:6: route-if: a route has no such condition",
            ),
            ("static-skip-extra = .php\n", "u.ini:6: static-skip-extra: not known here"),
        ] {
            let (_, notes, problems) = migrated(text);
            assert!(notes.contains(note) && problems.is_empty(), "{text}: {notes} {problems}");
        }
        for (text, problem) in [
            ("route = (.*)x redirect:/y\n", "u.ini:6: route: left out, which paths"),
            ("route = \\.php$ break:404\n", "left out, which paths"),
            ("route = ^/x$ redirect:${HTTP_X}\n", "left out, where it leads"),
            ("route = ^/x$ redirect:x\n", "u.ini:6: written as a route, but redirect:"),
            ("route = ^/x$ basicauth:R,a:b\n", "left out, passwords are not written"),
            ("route = ^/x$ rewrite:/y\n", "left out, no route does what rewrite does"),
            ("route = ^/x$ break:\n", "left out, it has no status"),
            ("route = ^/x$\n", "left out, it does nothing"),
            ("route-host = ^(a|b)$ break:403\n", "left out, which hosts"),
            (
                "route = ^/x$ break:404\nroute = ^/x$ break:410\n",
                "u.ini:6 says respond of the same route too",
            ),
            ("add-header = X-A\n", "left out, \"X-A\" has no value"),
            ("static-map = /x\n", "it maps nothing"),
            ("static-map = /s=/a\nstatic-expires = x\n", "it is no expression and a number"),
        ] {
            let (_, notes, problems) = migrated(text);
            assert!(problems.contains(problem), "{text}: {notes} {problems}");
        }
    }

    #[test]
    fn nothing_that_restricts_access_is_lost_without_a_problem() {
        let conditions =
            ["route-if = empty:${HTTP_X}", "route-if-not = ipv4in:${REMOTE_ADDR};10.0.0.0/8"].into_iter();
        let conditions = conditions.chain(["route-remote-addr = !^10\\.", "route-remote-user = ^$"]);
        let conditions = conditions.chain(["route-user-agent = bot", "route-qs = x", "final-route = ^/x"]);
        for condition in conditions {
            for action in super::RESTRICTING_ACTIONS {
                let (routes, _, problems) = migrated(&format!("{condition} {action}:403\n"));
                let name = condition.split(' ').next().unwrap();
                let line = format!("u.ini:6: {name}: left out, and it restricts access");
                assert!(routes.is_empty() && problems.contains(&line), "{condition} {action}: {problems}");
            }
        }
        for name in super::RESTRICTING {
            let (_, _, problems) = migrated(&format!("static-map = /s=/a\n{name} = .php\n"));
            assert!(problems.contains(&format!("u.ini:7: {name}: left out, and it restricts")), "{problems}");
        }
        for action in super::RESTRICTING_ACTIONS {
            let (routes, notes, problems) = migrated(&format!("route = ^/x$ {action}:403\n"));
            let is_there = routes.contains("respond = 403");
            assert!(is_there || problems.contains("u.ini:6: route: left out"), "{action}: {routes} {notes}");
        }
        let (_, _, problems) = migrated("route = ^/x break:403\n");
        assert!(problems.contains("u.ini:6: route: the expression takes longer names too"), "{problems}");
        let (_, _, problems) = migrated("route = ^/x basicauth:R,/f\n");
        assert!(problems.contains("u.ini:6: route: the expression takes longer names too"), "{problems}");
    }

    #[test]
    fn hosts_of_expressions() {
        for (regex, host) in [
            ("^www\\.a\\.example$", Some("www.a.example")),
            ("^www.a.example$", Some("www.a.example")),
            ("\\.a\\.example$", Some("*.a.example")),
            ("^(.*)\\.a\\.example$", Some("*.a.example")),
            ("a\\.example$", None),
            ("^a\\.example", None),
            ("^(a|b)\\.example$", None),
            ("^$", None),
        ] {
            assert_eq!(host_of(regex).as_deref(), host, "{regex}");
        }
    }
}
