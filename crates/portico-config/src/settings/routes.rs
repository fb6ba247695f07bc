//! Settings that say what responds to which requests: `[[route]]`, the options that are short spellings of one,
//! and what holds for all routes.

use std::path::PathBuf;

use super::keep;
use crate::error::ParseError;
use crate::raw::{RawConfig, SettingSource};
use crate::resolved::Config;
use crate::route::{Route, RouteOrigin};
use crate::route_table;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    ROUTE,
    STATIC,
    MOUNT,
    REDIRECT,
    LIMIT,
    AUTH,
    HEADER,
    COMPRESS,
    DJANGO_STATIC,
    STATIC_CACHE,
    LIMIT_SLOTS,
    ERROR_PAGES,
];

/// What is common to them, to be completed.
const BLANK: Setting = Setting { area: Area::Routes, ..Setting::BLANK };

/// A site has dozens. The tables of thousands of old addresses are files of `redirects`.
const ROUTES_MAX: usize = 4096;

pub(crate) const ROUTE: Setting = Setting {
    name: "route",
    gunicorn: Some("routes"),
    value: ValueType::Tables {
        set: |config, texts| {
            for text in texts {
                config.edge.routes.extend(route_table::read_text(text)?);
            }
            limited(config)
        },
    },
    help: "What responds to which requests, and how",
    details: "Each route is a table: `[[route]]` in portico.toml, `[[tool.portico.route]]` in pyproject.toml. In \
        the environment and in gunicorn.conf.py it is a text such as `{ path = \"/static\", static = \"dist\" }`.\
        \n\n\
        A route says where it applies, what responds, and how. The most specific route counts, wherever it \
        stands: a host before *.host before none; then exact before the longest path; then one with methods. If \
        two are equally specific, the server does not start. What a route does not say, it inherits from the \
        route that contains it, headers one by one. `portico route /shop` explains which route a request has.\
        \n\n\
        Paths are compared decoded, without duplicate slashes and dots, below --root-path; the SCRIPT_NAME of a \
        gateway is a part of them. A request whose path would choose another route as it was sent gets 400.\
        \n\n\
        An application of a route (`app = \"shop:app\"`) runs in the same processes and threads as the others and \
        is imported with them. The route's path is its SCRIPT_NAME, the rest PATH_INFO. Django has one settings \
        module in a process: two of its projects are refused. Where all requests have such a route, no main \
        application is looked for; what no route takes gets 404.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn route() {
    use crate::route::RoutePath;
    use crate::testing::{environment, with_environment};
    let of = |text: &str| with_environment(&[("PORTICO_ROUTE", text)], &[]).edge.routes;
    let routes = of("[{ path = '/a/', respond = 204 }, { host = 'A.example.', app = 'b:c' }]");
    assert_eq!(routes[0].path, RoutePath::Prefix("/a".to_owned()));
    assert_eq!(routes[1].hosts[0].to_string(), "a.example");
    assert_eq!(routes[1].origin, RouteOrigin::Option("PORTICO_ROUTE".to_owned()));
    let many = |number| {
        let routes: Vec<String> = (0..number).map(|n| format!("{{path='/{n}',respond=204}}")).collect();
        let text = format!("[{}]", routes.join(","));
        let parsed = crate::parse::parse(std::iter::empty(), &environment(&[("PORTICO_ROUTE", &text)]));
        parsed.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(many(ROUTES_MAX), Ok(()));
    assert!(many(ROUTES_MAX + 1).unwrap_err().contains("at most 4096"));
}

pub(crate) const STATIC: Setting = Setting {
    name: "static",
    gunicorn: Some("static_routes"),
    flags: &["static"],
    value: ValueType::List {
        metavar: "/PATH=FOLDER",
        set: |config, texts| add(config, texts, route_table::static_option),
    },
    help: "Serve the files of a folder below a path; may be repeated",
    details: "`--static /static=dist` is a route with path and static. Other settings of files are in \
        `[[route]]`.",
    ..BLANK
};

pub(crate) const MOUNT: Setting = Setting {
    name: "mount",
    gunicorn: Some("mount_routes"),
    flags: &["mount"],
    value: ValueType::List {
        metavar: "/PATH=APP",
        set: |config, texts| add(config, texts, route_table::mount_option),
    },
    help: "Have another application respond below a path; may be repeated",
    details: "`--mount /shop=shop:app` is a route with path and app. The application has the path in SCRIPT_NAME \
        and the rest in PATH_INFO.",
    ..BLANK
};

pub(crate) const REDIRECT: Setting = Setting {
    name: "redirect",
    gunicorn: Some("redirect_routes"),
    flags: &["redirect"],
    value: ValueType::List {
        metavar: "/OLD=/NEW",
        set: |config, texts| add(config, texts, route_table::redirect_option),
    },
    help: "Redirect a path with status 302; may be repeated",
    details: "`--redirect /old=/new` is a route with exact and redirect: `/old/{rest…}=/new/{rest}` covers all \
        that is below. The query is kept. A permanent one needs status = 301 in `[[route]]`.",
    ..BLANK
};

pub(crate) const LIMIT: Setting = Setting {
    name: "limit",
    gunicorn: Some("limit_routes"),
    flags: &["limit"],
    value: ValueType::List {
        metavar: "/PATH=RATE",
        set: |config, texts| add(config, texts, route_table::limit_option),
    },
    help: "Limit the rate of each client's requests below a path; may be repeated",
    details: "`--limit /login=5/m` allows five requests a minute, all of which may come at once; `5/m burst 10` \
        allows ten at once. Units are s, m, h and d. It holds for all workers together. Other requests get 429 \
        with Retry-After. A client is an IPv4 address or the first 64 bits of an IPv6 address, as \
        --forwarded-allow-ips has it believed. What was counted outlives workers and reloads; an upgrade begins \
        anew.",
    ..BLANK
};

pub(crate) const AUTH: Setting = Setting {
    name: "auth",
    gunicorn: Some("auth_routes"),
    flags: &["auth"],
    value: ValueType::List {
        metavar: "/PATH=FILE",
        set: |config, texts| add(config, texts, route_table::auth_option),
    },
    help: "Ask for a password below a path; may be repeated",
    details: "The file has a line `user:hash` for each user, as htpasswd -B and `portico hash-password` write it: \
        bcrypt, argon2id or sha512-crypt. It is read at the start and at a reload, by each worker as its user. \
        The application has the user's name in REMOTE_USER and Basic in AUTH_TYPE; it gets no Authorization, and \
        what a gateway says of a user does not count. Passwords are verified beside the application and \
        remembered for five minutes. A client may try ten wrong ones in a minute; then it gets 429.",
    ..BLANK
};

pub(crate) const HEADER: Setting = Setting {
    name: "header",
    gunicorn: Some("header_routes"),
    flags: &["header"],
    value: ValueType::Texts {
        metavar: "NAME: VALUE",
        set: |config, texts| {
            for text in texts.iter().filter(|text| !text.is_empty()) {
                let route = route_table::header_option(text)?;
                merge(&mut config.edge.routes, route)?;
            }
            Ok(())
        },
    },
    help: "Set a header of all responses; may be repeated",
    details: "`Name: value` replaces what the application says, `Name?: value` counts where it says nothing, \
        `Name:` takes the header out. Errors and 304 have it as well. Strict-Transport-Security is sent over \
        HTTPS only.",
    ..BLANK
};

pub(crate) const COMPRESS: Setting = Setting {
    name: "compress",
    gunicorn: Some("compress_routes"),
    flags: &["compress"],
    value: ValueType::Switch {
        given: true,
        set: |config, on| {
            if on {
                // No other option says so.
                let _ = merge(&mut config.edge.routes, route_table::compress_option());
            }
        },
    },
    default: "false",
    help: "Compress the application's responses",
    details: "It is a route with compress = true for all paths. Text, JSON, XML, SVG, fonts and WebAssembly of \
        1 KiB or more, or of unknown length, leave as zstd, brotli or gzip, whichever the client prefers; \
        streams of events (text/event-stream) never. Each block leaves at once. Strong ETags become weak, and \
        Vary names Accept-Encoding. The thread that runs the application compresses, with the interpreter let \
        go.\n\n\
        The application excludes a response with Content-Encoding or with Cache-Control: no-transform. What a \
        gateway or a trusted proxy asks for on behalf of its client is left to that proxy.\n\n\
        The length of a response that holds both a secret and something of an attacker's choice tells of the \
        secret when it is compressed (BREACH). Up to 64 random bytes make that harder, not impossible: exclude \
        such responses.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn short_spellings_are_routes() {
    use crate::route::{HeaderAction, RoutePath, RouteResponse};
    use crate::testing::{config, refusal};
    let routes = |args: &[&str]| config(args).edge.routes;
    let found = routes(&["--static", "/s=dist, /t/=x", "--mount", "/shop=shop:app", "--compress"]);
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].response, Some(RouteResponse::Files(vec!["dist".into()])));
    assert_eq!(found[1].path, RoutePath::Prefix("/t".to_owned()));
    assert_eq!(found[2].origin.to_string(), "--mount /shop=shop:app");
    assert_eq!(found[3].compress, Some(true));
    let one =
        routes(&["--header", "X-A: 1, 2", "--header", "X-B?: 3", "--header", "Server:", "--static", "/=d"]);
    let actions: Vec<_> = one[0].headers.iter().map(|rule| rule.action.clone()).collect();
    let expected =
        [HeaderAction::Set("1, 2".into()), HeaderAction::SetIfAbsent("3".into()), HeaderAction::Remove];
    assert!(one.len() == 1 && actions.len() == 3 && expected.iter().all(|rule| actions.contains(rule)));
    let both = routes(&["--auth", "/admin=users", "--limit", "/admin=5/m"]);
    assert!(both.len() == 1 && both[0].auth.is_some() && both[0].limit.is_some());
    let redirect = &routes(&["--redirect", "/old/{rest...}=/new/{rest}"])[0];
    assert_eq!(redirect.path, RoutePath::Exact("/old/{rest…}".to_owned()));
    for (option, text, problem) in [
        ("--static", "/s", "is not /static=FOLDER"),
        ("--static", "s=dist", "does not begin with a slash"),
        ("--redirect", "/a=//evil.example", "leads nowhere"),
        ("--redirect", "/a=/{b}", "{b} is in no exact path"),
        ("--limit", "/a=5", "is no rate"),
        ("--limit", "/a=0/s", "from 1 to 1000000"),
        ("--header", "X-A", "is no header"),
        ("--header", "Content-Length: 1", "by the server alone"),
        ("--header", "X-A: \u{7f}", "no header may have"),
    ] {
        assert!(refusal(&[option, text]).contains(problem), "{option} {text}: {}", refusal(&[option, text]));
    }
    assert!(refusal(&["--static", "/a=b,/a=c"]).contains("what responds"));
    for option in ["--proxy", "--cache", "--domain"] {
        assert_eq!(
            refusal(&[option, "/ws=http://x"]),
            format!("{option} is not in this version of Portico; remove it")
        );
    }
}

pub(crate) const DJANGO_STATIC: Setting = Setting {
    name: "django_static",
    flags: &["no-django-static"],
    value: ValueType::Switch { given: false, set: |config, on| config.edge.django_static = on },
    default: "true",
    help: "Do not serve Django's STATIC_ROOT, nor Flask's folder of static files",
    details: "By default they are served where the application has them and no route of yours covers their \
        path: the path of STATIC_URL, or that of Flask's folder, below the path of the application. A line in the \
        log says which folder is served. A file that is not there is asked of the application. What \
        `staticfiles.json` or `.vite/manifest.json` lists never changes; clients keep it for a year. A route of \
        yours for the same path that has no response says how they are served: max_age, headers.\n\n\
        They are left to the application under --reload, in DEBUG, where STATIC_URL is of another host, and where \
        WhiteNoise serves them. So are those that WSGI middleware, a function of a Flask application, or a route \
        of yours with conditions may guard; the log says why.",
    ..BLANK
};

pub(crate) const STATIC_CACHE: Setting = Setting {
    name: "static_cache",
    flags: &["static-cache"],
    value: ValueType::Size {
        range: 64 << 10..=64 << 30,
        zero: Some("none"),
        set: |config, bytes| config.edge.static_cache_bytes = bytes,
    },
    default: "16m",
    help: "Memory of each worker for small files, as whole responses",
    details: "Files up to 64 KiB are kept; a change of one is noticed within a second.",
    ..BLANK
};

pub(crate) const LIMIT_SLOTS: Setting = Setting {
    name: "limit_slots",
    flags: &["limit-slots"],
    applies: Applies::Upgrade(Fixed::any(|new, old| keep(&mut new.edge.limit_slots, &old.edge.limit_slots))),
    value: ValueType::Count {
        range: 1024..=16 << 20,
        zero: None,
        unit: "slots",
        set: |config, n| config.edge.limit_slots = n as u32,
    },
    default: "65536",
    help: "How many clients limits can tell apart",
    details: "All workers share one table of this many slots, 16 bytes each. A client needs one until it could \
        make its whole burst again. Where there is none left, a client that has used little of its limit is \
        forgotten: it may make its burst again. `portico status` tells how many were. The number is rounded up \
        to a power of two.",
    ..BLANK
};

pub(crate) const ERROR_PAGES: Setting = Setting {
    name: "error_pages",
    flags: &["error-pages"],
    value: ValueType::Text {
        metavar: "FOLDER",
        set: |config, text| {
            config.edge.error_pages = (!text.is_empty()).then(|| PathBuf::from(text));
            Ok(())
        },
    },
    help: "Folder of pages for the server's own errors: 404.html, 5xx.html",
    details: "They are read at the start. A page for the status counts before one for its class. Routes may name \
        a folder of their own.",
    ..BLANK
};

#[cfg(test)]
#[test]
fn what_holds_for_all_routes() {
    use crate::testing::{config, refusal};
    let default = config(&[]).edge;
    assert!(default.django_static && default.routes.is_empty() && default.error_pages.is_none());
    assert_eq!((default.static_cache_bytes, default.limit_slots), (16 << 20, 65_536));
    let edge = config(&[
        "--no-django-static",
        "--static-cache",
        "0",
        "--limit-slots",
        "1024",
        "--error-pages",
        "errors",
    ])
    .edge;
    assert!(!edge.django_static && edge.error_pages == Some("errors".into()));
    assert_eq!((edge.static_cache_bytes, edge.limit_slots), (0, 1024));
    assert!(refusal(&["--limit-slots", "1023"]).contains("from 1024"));
    assert!(refusal(&["--static-cache", "1"]).contains("from 64k"));
}

fn add(
    config: &mut Config,
    texts: &[&str],
    read: fn(&str) -> Result<Route, ParseError>,
) -> Result<(), ParseError> {
    for text in texts.iter().filter(|text| !text.is_empty()) {
        merge(&mut config.edge.routes, read(text)?)?;
    }
    limited(config)
}

fn limited(config: &Config) -> Result<(), ParseError> {
    match config.edge.routes.len() {
        0..=ROUTES_MAX => Ok(()),
        number => Err(format!("{number} routes are too many; at most {ROUTES_MAX} are taken").into()),
    }
}

/// Adds what an option says to the route of the same place, if there is one.
///
/// # Errors
/// Both say the same thing.
fn merge(routes: &mut Vec<Route>, option: Route) -> Result<(), ParseError> {
    let Some(other) = routes.iter_mut().find(|route| route.is_same_place(&option)) else {
        routes.push(option);
        return Ok(());
    };
    let (origin, theirs) = (option.origin.clone(), other.origin.clone());
    other.absorb(option).map_err(|key| {
        format!("{origin} and {theirs} both say {key} of the route for {other}; remove one of them").into()
    })
}

/// Tells each route of a table where it was said; `lines` has those of a file.
pub(crate) fn place_routes(config: &mut Config, raw: &RawConfig) {
    let Some(said) = raw.said(&ROUTE) else { return };
    let of_tables = config.edge.routes.iter_mut().filter(|route| route.origin == RouteOrigin::Implied);
    for (index, route) in of_tables.enumerate() {
        route.origin = match (&said.source, raw.route_lines().get(index)) {
            (SettingSource::File { path, .. }, Some(line)) => {
                RouteOrigin::File { path: path.clone(), line: *line }
            }
            (source, _) => RouteOrigin::Option(source.naming(&ROUTE)),
        };
    }
}
