//! Tests of what becomes of nginx's configurations, small ones; whole ones are in tests/nginx.

use std::path::Path;

fn migrated(text: &str) -> (String, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.conf");
    std::fs::write(&path, text).unwrap();
    let done = crate::migrate::migrate(&path, None, &|_| None, None).unwrap();
    let lines: Vec<&str> = done.text.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let text = lines.join("; ").replace("; [[route]]", "\n[[route]]");
    let text = text.trim_start_matches("bind = [\"http://0.0.0.0:80\"]").trim_start().to_owned();
    let shorten = |lines: Vec<String>| lines.join("\n").replace(&format!("{}/", folder.path().display()), "");
    (text, shorten(done.notes), shorten(done.problems))
}

#[test]
fn locations_are_routes() {
    for (text, expected) in [
        (
            "root /srv/www; location /img/ { expires 30d; } location = /x.txt { alias /srv/y.txt; }",
            "[[route]]  # n.conf:1; static = \"/srv/www\"\n\
             [[route]]  # n.conf:1; path = \"/img\"; max_age = 2592000\n\
             [[route]]  # n.conf:1; exact = \"/x.txt\"; static = \"/srv\"; rewrite = \"/y.txt\"",
        ),
        (
            "root /srv; location / { try_files $uri $uri/ /index.html; }\n\
             location ^~ /a/ { alias /b/; autoindex on; }",
            "[[route]]  # n.conf:1; static = \"/srv\"; fallback = \"/index.html\"\n\
             [[route]]  # n.conf:2; path = \"/a\"; static = \"/b\"; fallback = 404; listing = true",
        ),
        (
            "location /old { return 301 /new; } location = /gone { return 410; } return 404;",
            "[[route]]  # n.conf:1; respond = 404",
        ),
        (
            "root /s; location = /old { return 301 /new; } location = /gone { return 410; }",
            "[[route]]  # n.conf:1; static = \"/s\"\n\
             [[route]]  # n.conf:1; exact = \"/old\"; redirect = \"/new\"; status = 301\n\
             [[route]]  # n.conf:1; exact = \"/gone\"; respond = 410",
        ),
        (
            "root /s; rewrite ^/old/(.*)$ /new/$1 permanent; location ~ ^/(a|b)/ { deny all; }",
            "[[route]]  # n.conf:1; static = \"/s\"\n\
             [[route]]  # n.conf:1; path = \"/a\"; allow = []\n\
             [[route]]  # n.conf:1; path = \"/b\"; allow = []\n\
             [[route]]  # n.conf:1; exact = \"/old/{rest…}\"; redirect = \"/new/{rest}\"; status = 301",
        ),
        (
            "root /s; error_page 404 /errors/404.html; error_page 500 /errors/500.html;",
            "[[route]]  # n.conf:1; static = \"/s\"; error_pages = \"/s/errors\"",
        ),
        (
            "location / { proxy_pass http://a:1; } location /v1/ { proxy_pass http://a:1/api/; }\n\
             location = /x { proxy_pass http://a:1/y; } location /same/ { proxy_pass http://a:1/same/; }",
            "; limit_request_body = \"1m\"\n[[route]]  # n.conf:1; app = true\n\
             [[route]]  # n.conf:2; exact = \"/x\"; app = true; rewrite = \"/y\"\n\
             [[route]]  # n.conf:1; exact = \"/v1/{rest…}\"; app = true; rewrite = \"/api/{rest}\"",
        ),
        (
            "root /s; location /a/ { if (-f /down) { return 503; } }",
            "[[route]]  # n.conf:1; path = \"/a\"; if_file = \"/down\"; respond = 503\n\
             [[route]]  # n.conf:1; static = \"/s\"",
        ),
        (
            "root /s; index a.html; if (-f $document_root/down) { return 503; }",
            "[[route]]  # n.conf:1; if_file = \"/s/down\"; respond = 503\n\
             [[route]]  # n.conf:1; static = \"/s\"; index = [\"a.html\"]",
        ),
    ] {
        let (routes, _, problems) = migrated(&format!("server {{ {text} }}"));
        assert_eq!((routes.as_str(), problems.as_str()), (expected, ""), "{text}");
    }
}

#[test]
fn a_location_has_nothing_of_the_location_around_its_path() {
    let (routes, _, problems) = migrated(
        "server { location / { proxy_pass http://app; allow 10.0.0.0/8; deny all; proxy_read_timeout 5m; \
         gzip on; }\n\
         location /open/ { proxy_pass http://app; }\nlocation /up/ { proxy_pass http://app/; \
         client_max_body_size 50m; } }",
    );
    let expected = "bind = [\"http://0.0.0.0:80\"]; limit_request_body = \"1m\"\n\
         [[route]]  # n.conf:1; app = true; allow = [\"10.0.0.0/8\"]; timeout = 300; compress = true\n\
         [[route]]  # n.conf:3; exact = \"/up/{rest…}\"; app = true; allow = [\"0.0.0.0/0\", \"::/0\"]; \
         timeout = 60; limit_request_body = \"50m\"; compress = false; rewrite = \"/{rest}\"\n\
         [[route]]  # n.conf:2; path = \"/open\"; allow = [\"0.0.0.0/0\", \"::/0\"]; timeout = 60; \
         compress = false";
    assert_eq!(
        (routes.trim_start_matches("; "), problems.as_str()),
        (expected.split_once("; ").unwrap().1, "")
    );
    let (_, notes, problems) = migrated(
        "server { root /s; location / { auth_basic x; auth_basic_user_file /u; add_header X-A b; }\n\
         location /open/ { add_header X-C d; } }",
    );
    assert!(problems.contains("n.conf:2: location: nginx has no auth here"), "{problems}");
    assert!(
        notes.contains("n.conf:2: location: a route has the headers of the route around it, so it keeps X-A")
    );
}

#[test]
fn servers_are_hosts() {
    let (routes, notes, problems) = migrated(
        "http { server { listen 80 default_server; server_name _; return 301 https://$host$request_uri; }\n\
         server { listen 443 ssl; server_name a.example .b.example; ssl_certificate /c; ssl_certificate_key /k;\n\
         root /a; }\nserver { listen 443 ssl; server_name www.a.example; ssl_certificate /c;\n\
         ssl_certificate_key /k; return 301 https://a.example$request_uri; } }",
    );
    let expected = "bind = [\"redirect://0.0.0.0:80\", \"https://0.0.0.0:443\"]; certfile = [\"/c\"]; \
         keyfile = [\"/k\"]\n\
         [[route]]  # n.conf:2; host = [\"a.example\", \"b.example\", \"*.b.example\"]; static = \"/a\"\n\
         [[route]]  # n.conf:4; host = \"www.a.example\"; redirect = \"https://a.example{path}\"; status = 301";
    assert_eq!((routes.as_str(), problems.as_str()), (expected, ""));
    assert!(notes.contains("requests for hosts that no server names"), "{notes}");
    let (routes, notes, _) = migrated(
        "server { server_name a.example www.a.example; location /.well-known/acme-challenge/ { root /x; }\n\
         return 301 https://a.example$request_uri; } server { listen 443 ssl; server_name a.example;\n\
         ssl_certificate /c; ssl_certificate_key /k; root /s; }",
    );
    assert!(routes.contains("redirect://0.0.0.0:80") && notes.contains("certbot's DNS plugins"), "{notes}");
    assert!(
        routes.contains("host = [\"www.a.example\"]; redirect = \"https://a.example{path}\""),
        "{routes}"
    );
    assert!(notes.contains("www.a.example is led to https at its own name first"), "{notes}");
    let (routes, _, problems) = migrated(
        "server { server_name a.example; root /a; if (-f /down) { return 503; } }\n\
         server { server_name b.example; root /b; }",
    );
    assert!(routes.contains("host = \"a.example\"; if_file = \"/down\"") && problems.is_empty(), "{routes}");
    let (routes, ..) =
        migrated("server { server_name a.example b.example; return 302 $scheme://$host/x$request_uri; }");
    assert_eq!(routes.matches("host = ").count(), 2, "{routes}");
}

#[test]
fn what_becomes_nothing_is_named_with_its_line() {
    for (text, note) in [
        (
            "sendfile on;\ntcp_nopush on;",
            "not needed here, or always so, with their lines: sendfile (1), tcp_nopush (2)",
        ),
        ("keepalive_timeout 5;", "n.conf:1: keepalive_timeout 5: say keep_alive"),
        ("proxy_cache c;", "n.conf:1: proxy_cache c: left out, there is no cache in this version"),
        ("brotli on;", "n.conf:1: brotli on: left out, nothing is known of it here"),
        ("location /shop { root /s; }", "nginx takes /shop-more by it too"),
        ("location ~ \\.css$ { expires 1d; }", "left out, a route is for paths; write max_age"),
        ("location ~ /\\. { deny all; }", "files whose names begin with a dot are never served"),
        ("location / { return 200 \"ok\"; }", "the text is left out; write it to a file"),
        ("root /s; location / { try_files $uri /index.html; }", "/index.html is for navigation of browsers"),
        ("location / { proxy_pass http://a; }", "n.conf: a is taken for the application"),
        ("location = /favicon.ico { access_log off; }", "left out, it names no folder, and nginx looks into"),
        ("listen 80; listen 443 quic; ssl_certificate /c; ssl_certificate_key /k; root /s;", "HTTP/3 is not"),
        ("root /s; error_page 500 502 /50x.html;", "left out; put pages named 404.html"),
        ("include mime.types; include none/*.conf; root /s;", ""),
    ] {
        let (_, notes, problems) = migrated(&format!("server {{ {text} }}"));
        assert!(notes.contains(note) && problems.is_empty(), "{text}: {notes} / {problems}");
    }
}

#[test]
fn what_would_be_another_site_is_an_error() {
    for (text, problem) in [
        ("location ~ ^/a+ { root /s; }", "left out, no route can say which paths it is for"),
        ("location ~ \\.php$ { fastcgi_pass x; }", "left out, it is no WSGI application; keep nginx"),
        ("location ~ \\.css$ { deny all; }", "not for extensions"),
        (
            "location / { proxy_pass http://a; } location /b/ { proxy_pass http://a; } \
          location /c/ { proxy_pass http://c; }",
            "http://c: left out, there is no proxy in this version",
        ),
        (
            "location / { proxy_pass http://a; } location /a/ { proxy_pass http://a/b; }",
            "n.conf:1: location /a/: its path and that of proxy_pass do not both end with a slash",
        ),
        (
            "location /a/ { proxy_pass http://a/$uri; }",
            "the path that requests are passed on with has variables",
        ),
        (
            "location /a/ { proxy_pass http://a/; } location /a/b/ { root /s; }",
            "gives its requests another path, and so is before all within it",
        ),
        ("location /a/ { root html; }", "it is relative to the folder of nginx"),
        ("location / { return 444; }", "no connection is closed without a response"),
        ("location / { return 301 https://x.example$foo; }", "where it leads cannot be said"),
        (
            "if ($request_method = POST) { return 405; }",
            "n.conf:1: if ($request_method = POST): left out, routes have no",
        ),
        ("root /s; rewrite ^/a$ /b last;", "a route changes no path for other routes"),
        ("root /s; location / { try_files $uri.html =404; }", "$uri.html is not tried"),
        ("root /s; location / { try_files $uri @php; }", "@php is no application"),
        ("root /s; add_header X-A $host;", "values of headers have no variables"),
        (
            "root /s; allow 10.0.0.1; deny 10.0.0.0/8;",
            "allow and deny: left out, an address is allowed within",
        ),
        ("root /s; limit_req zone=a;", "left out, its limit_req_zone is not in this file"),
        ("root /s; auth_basic x;", "no file of users is named"),
        ("root /srv/$host;", "routes have no variables"),
        ("root /s; satisfy any;", "a route asks for both"),
        ("include none.conf;", "none.conf cannot be read"),
        ("server_name ~^a$; root /s;", "server_name ~^a$: no route can say it"),
        ("listen 443 ssl; root /s;", "it has no certificate with its key"),
        ("root /s; expires $x;", "a route has one age in seconds"),
    ] {
        let (_, notes, problems) = migrated(&format!("server {{ {text} }}"));
        assert!(problems.contains(problem), "{text}: {notes} / {problems}");
    }
    let (_, _, problems) = migrated("server { root /a; } server { root /b; listen 81; }");
    assert!(problems.contains("it is for a host of that in"), "{problems}");
    let (_, _, problems) = migrated("server {");
    assert_eq!(problems, "n.conf:1: a } is missing at the end of the file");
}

#[test]
fn the_kind_of_a_file_is_told_by_what_is_in_it() {
    let is = |text: &str| super::is_configuration(text);
    assert!(is("events {}\nhttp { }") && is("server { }") && is("upstream a { server b; }\nserver { }"));
    assert!(!is("bind = '127.0.0.1:8000'\nworkers = 2\n") && !is("") && !is("server;") && !is("x = {1: 2}"));
    assert!(!Path::new("x").exists());
}

/// A server whose application is asked for everything that no other location is for.
fn with_application(text: &str) -> (String, String, String) {
    migrated(&format!("server {{ location / {{ proxy_pass http://app; }}\n{text} }}"))
}

#[test]
fn a_location_that_only_restricts_access_is_a_route() {
    for (text, expected) in [
        ("location /private/ { deny all; }", "path = \"/private\"; respond = 403"),
        ("location = /p.it { deny all; }", "exact = \"/p.it\"; respond = 403"),
        (
            "location /p/ { auth_basic x; auth_basic_user_file /f; }",
            "path = \"/p\"; respond = 404; auth = \"/f\"",
        ),
        (
            "location /p/ { allow 10.0.0.0/8; deny all; }",
            "path = \"/p\"; respond = 404; allow = [\"10.0.0.0/8\"]",
        ),
        ("location /p/ { deny 10.0.0.1; }", "path = \"/p\"; respond = 404; deny = [\"10.0.0.1\"]"),
        ("location /i/ { internal; proxy_pass http://app; }", "path = \"/i\"; respond = 404"),
        ("location /i/ { internal; }", "path = \"/i\"; respond = 404"),
        ("location /i/ { internal; return 200; }", "path = \"/i\"; respond = 404"),
        ("location /i/ { internal; alias /f/; }", "path = \"/i\"; static = \"/f\"; internal = true"),
        ("location /p/ { deny all; root /s; }", "path = \"/p\"; static = \"/s/p\"; allow = []"),
        (
            "location /p/ { deny all; } location /p/open/ { proxy_pass http://app; }",
            "path = \"/p\"; respond = 403\n[[route]]  # n.conf:2; path = \"/p/open\"; app = true",
        ),
    ] {
        let (routes, notes, problems) = with_application(text);
        let routes = routes.split_once("app = true\n").map_or("", |(_, routes)| routes);
        assert_eq!(problems, "", "{text}");
        assert_eq!(routes.trim_start_matches("[[route]]  # n.conf:2; "), expected, "{text}: {notes}");
    }
    let (_, notes, _) =
        with_application("location = /p { auth_basic Staff; auth_basic_user_file /f; root /s; }");
    assert!(notes.contains("n.conf:2: auth_basic Staff: the realm is left out"), "{notes}");
}

/// An argument with which a directive restricts access.
fn restricting(name: &str) -> String {
    match name {
        "internal" | "secure_link" => format!("{name};"),
        "if" => "if ($http_x) { return 403; }".to_owned(),
        "limit_except" => "limit_except GET { deny all; }".to_owned(),
        "map" | "geo" => format!("{name} $a $b {{ default 0; }}"),
        "auth_basic" => "auth_basic x; auth_basic_user_file /f;".to_owned(),
        "limit_req" => "limit_req zone=l;".to_owned(),
        "allow" => "allow 10.0.0.0/8; deny all;".to_owned(),
        _ => {
            format!("{name} all;").replace("satisfy all", "satisfy any").replace("deny all", "deny 10.0.0.1")
        }
    }
}

#[test]
fn nothing_that_restricts_access_is_lost_without_a_problem() {
    for name in super::known::RESTRICTING {
        let guard = restricting(name);
        // As a route that has it, or as a problem that names it or its location.
        for inner in ["", "proxy_pass http://app;", "root /s;", "return 200;"] {
            let (routes, notes, problems) = with_application(&format!("location /p/ {{ {guard} {inner} }}"));
            let keys = ["allow = ", "deny = ", "auth = ", "limit = ", "internal = ", "respond = 40"];
            let route = routes.split_once("path = \"/p\"").map_or("", |(_, route)| route);
            let is_there = keys.iter().any(|key| route.contains(key));
            let is_told = problems.contains(&format!("n.conf:2: {name}"));
            assert!(is_there || is_told, "{guard} {inner}: {routes} / {notes} / {problems}");
        }
        // Where no route can have it, there is a problem in any case.
        for location in [
            "location @named {",
            "location ~ ^/a+ {",
            "location ~ \\.css$ {",
            "location ~ /\\. {",
            "location ~ ^/a/[0-9]+/b {",
            "location /p {",
            "location ~ ^/p {",
            "location ~* ^/p/ {",
        ] {
            if *name == "internal" && location.contains('@') {
                continue; // Nobody asks for it by its name.
            }
            let (_, notes, problems) =
                with_application(&format!("{location} {guard} proxy_pass http://app; }}"));
            assert!(problems.contains("n.conf:2: "), "{location} {guard}: {notes} / {problems}");
        }
    }
}

#[test]
fn guards_that_count_in_another_order_are_problems() {
    let open = "proxy_pass http://app;";
    for (text, problem) in [
        (
            format!("location ~ ^/(a|b)/ {{ deny all; }}\nlocation /a/deep/ {{ {open} }}"),
            "n.conf:2: location: it restricts access, and the one in n.conf:3 comes before it",
        ),
        (
            format!("location ^~ /a/deep/ {{ deny all; }}\nlocation ~ ^/a/(.*)$ {{ {open} }}"),
            "n.conf:2: location: it restricts access, and the one in n.conf:3 comes before it",
        ),
        (
            format!("location /a/ {{ deny all; }}\nlocation ~ ^/a/[0-9]+$ {{ {open} }}"),
            "n.conf:3: location: its route has more paths than it, and has not the allow of",
        ),
        (
            "set_real_ip_from 10.0.0.1; real_ip_header X-Real-IP; location /a/ { deny 10.0.0.2; }".to_owned(),
            "n.conf: allow and deny are about the clients that real_ip names",
        ),
    ] {
        let text = text.replace("location /a/ { deny all; }", "location /a/ { deny all; root /s; }");
        let (_, notes, problems) = with_application(&text);
        assert!(problems.contains(problem), "{text}: {notes} / {problems}");
    }
    for text in [
        "location ~ ^/(a|b)/ { deny all; } location ^~ /a/deep/ { proxy_pass http://app; }",
        "location /p/ { satisfy all; auth_request off; ssl_verify_client off; auth_basic off; \
         allow all; root /s; }",
    ] {
        let (_, _, problems) = with_application(text);
        assert_eq!(problems, "", "{text}");
    }
}
