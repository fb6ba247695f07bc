//! Settings that say what stands in front, and what of its word is believed.

use crate::error::ParseError;
use crate::proxies::{self, Behind, EarlyHints, ForwardedHeaders, HeaderMap, SchemeHeader, TrustedPeers};
use crate::setting::{Area, Platform, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[
    BEHIND,
    FORWARDED_ALLOW_IPS,
    FORWARDED_HEADERS,
    SECURE_SCHEME_HEADERS,
    FORWARDER_HEADERS,
    HEADER_MAP,
    EARLY_HINTS,
    PERMIT_UNCONVENTIONAL_HTTP_METHOD,
];

pub(crate) const BEHIND: Setting = Setting {
    name: "behind",
    flags: &["behind"],
    value: ValueType::Choice {
        of: &[
            ("alb", |config| config.behind = Some(Behind::Alb)),
            ("gclb", |config| config.behind = Some(Behind::Gclb)),
            ("heroku", |config| config.behind = Some(Behind::Heroku)),
            ("nginx", |config| config.behind = Some(Behind::Nginx)),
            ("cloudflare", |config| config.behind = Some(Behind::Cloudflare)),
        ],
        alone: None,
    },
    area: Area::Proxies,
    help: "Preset for what stands in front: whom to believe, and keep-alive",
    details: "It sets --forwarded-allow-ips, --forwarded-headers and --keep-alive unless they are set; a \
        line at the start shows the values. alb (AWS): private addresses; for, proto, port; 75 s. gclb \
        (Google Cloud): private addresses, 35.191.0.0/16 and 130.211.0.0/22; for, proto; 620 s; the last \
        address of X-Forwarded-For, which is the load balancer's own, is skipped. heroku: private addresses; \
        for, proto, port; 95 s. nginx: private addresses; for, proto; 75 s. cloudflare: for, proto; 905 s; \
        the client's address comes from CF-Connecting-IP. Cloudflare's addresses change, so \
        --forwarded-allow-ips must name them, or the address of your tunnel.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn behind() {
    use std::time::Duration;

    use crate::testing::{config, refusal, resolved};
    assert_eq!(config(&[]).behind, None);
    assert_eq!(resolved(&[], &[]).notes, [""; 0]);
    let alb = resolved(&[], &["--behind", "alb"]);
    assert_eq!(alb.config.behind, Some(Behind::Alb));
    assert!(alb.config.forwarded_allow.names([10, 0, 0, 9].into()));
    assert!(alb.config.forwarded_headers.port && !alb.config.forwarded_headers.forwarded);
    assert_eq!(
        alb.notes,
        ["--behind alb: --forwarded-allow-ips private --forwarded-headers for,proto,port --keep-alive 75"]
    );
    let said = resolved(&[("FORWARDED_ALLOW_IPS", "10.0.0.1")], &["--behind=gclb", "--keep-alive", "9"]);
    assert_eq!(said.config.keep_alive, Duration::from_secs(9));
    assert!(!said.config.forwarded_allow.names([10, 0, 0, 9].into()));
    assert_eq!(said.notes, ["--behind gclb: --forwarded-headers for,proto"]);
    assert_eq!(config(&["--behind", "gclb"]).keep_alive, Duration::from_secs(620));
    assert_eq!(config(&["--behind", "heroku"]).keep_alive, Duration::from_secs(95));
    assert_eq!(config(&["--behind", "nginx"]).keep_alive, Duration::from_secs(75));
    let cloudflare = ["--behind", "Cloudflare", "--forwarded-allow-ips", "173.245.48.0/20"];
    assert_eq!(config(&cloudflare).keep_alive, Duration::from_secs(905));
    assert!(refusal(&cloudflare[..2]).starts_with("--behind: Cloudflare's addresses change"));
    assert!(refusal(&["--behind", "apache"]).contains("write one of alb, gclb"));
}

pub(crate) const FORWARDED_ALLOW_IPS: Setting = Setting {
    name: "forwarded_allow_ips",
    empty_list: Some(""),
    flags: &["forwarded-allow-ips"],
    platform: Some(Platform { variables: &["FORWARDED_ALLOW_IPS"], translate: str::to_owned }),
    value: ValueType::List {
        metavar: "ADDRESS",
        set: |config, words| TrustedPeers::parse(words).map(|read| config.forwarded_allow = read),
    },
    default: "127.0.0.1,::1",
    area: Area::Proxies,
    help: "Addresses and networks of proxies that may describe the client",
    details: "Also: private (loopback, RFC 1918, RFC 4193, RFC 6598 and link-local addresses), unix (UNIX \
        sockets, which are believed unless the value is none), none, and * for every peer. X-Forwarded-For \
        is read from its right end; the first address that is not in this list is the client's. With * alone \
        that is the last address, because anybody can write the others. Headers about the client (Forwarded, \
        X-Forwarded-*, X-Real-IP, and those of --secure-scheme-headers and --forwarder-headers) from other \
        peers do not reach the application.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn forwarded_allow_ips() {
    use crate::testing::{config, refusal, with_environment};
    let peers = config(&[]).forwarded_allow;
    assert!(peers.names([127, 0, 0, 1].into()) && !peers.names([127, 0, 0, 2].into()));
    assert!(peers.unix && !peers.anybody);
    let peers =
        config(&["--forwarded-allow-ips", "10.0.0.0/8, unix", "--forwarded-allow-ips=*"]).forwarded_allow;
    assert!(peers.names([10, 9, 9, 9].into()) && peers.anybody);
    assert!(with_environment(&[("FORWARDED_ALLOW_IPS", "*")], &[]).forwarded_allow.anybody);
    assert!(
        !with_environment(&[("FORWARDED_ALLOW_IPS", "*")], &["--forwarded-allow-ips=none"])
            .forwarded_allow
            .unix
    );
    assert!(refusal(&["--forwarded-allow-ips", "10.0.0.0/33"]).contains("is no address"));
}

pub(crate) const FORWARDED_HEADERS: Setting = Setting {
    name: "forwarded_headers",
    empty_list: Some("none"),
    flags: &["forwarded-headers"],
    value: ValueType::List {
        metavar: "WORD",
        set: |config, words| ForwardedHeaders::parse(words).map(|read| config.forwarded_headers = read),
    },
    default: "for,proto,forwarded",
    area: Area::Proxies,
    help: "Which headers of a believed proxy are used",
    details: "for: X-Forwarded-For sets REMOTE_ADDR and REMOTE_PORT. proto: --secure-scheme-headers set \
        wsgi.url_scheme. host: X-Forwarded-Host sets HTTP_HOST, SERVER_NAME and SERVER_PORT. port: \
        X-Forwarded-Port sets SERVER_PORT. prefix: X-Forwarded-Prefix goes before --root-path in \
        SCRIPT_NAME. forwarded: RFC 7239's Forwarded is read as well, for those of for, proto and host that \
        are named here. none: nothing. Name only what your proxy sets: it passes on the other headers as the \
        client sent them, and a client that chooses the host chooses where the links in your mails lead.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn forwarded_headers() {
    use crate::testing::{config, refusal};
    let headers = config(&[]).forwarded_headers;
    assert!(headers.client && headers.scheme && headers.forwarded);
    assert!(!headers.host && !headers.port && !headers.prefix);
    let headers = config(&["--forwarded-headers", "Host,port,prefix"]).forwarded_headers;
    assert!(headers.host && headers.port && headers.prefix && !headers.client && !headers.forwarded);
    assert_eq!(config(&["--forwarded-headers", "none"]).forwarded_headers, ForwardedHeaders::default());
    assert!(refusal(&["--forwarded-headers", "ip"]).contains("write some of for, proto"));
}

pub(crate) const SECURE_SCHEME_HEADERS: Setting = Setting {
    name: "secure_scheme_headers",
    empty_list: Some("none"),
    flags: &["secure-scheme-headers"],
    value: ValueType::List {
        metavar: "NAME=VALUE",
        set: |config, pairs| SchemeHeader::parse(pairs).map(|read| config.secure_scheme_headers = read),
    },
    default: "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on",
    area: Area::Proxies,
    help: "Headers by which a believed proxy says that its client uses TLS",
    details: "With the given value wsgi.url_scheme is https, with another one http. Requests with \
        contradictory headers get 400. none: there are none. In gunicorn.conf.py it is a dictionary.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn secure_scheme_headers() {
    use crate::testing::{config, refusal};
    let headers = config(&[]).secure_scheme_headers;
    assert_eq!(headers.len(), 3);
    assert_eq!((headers[1].name.as_str(), headers[1].value.as_str()), ("x-forwarded-proto", "https"));
    let headers = config(&["--secure-scheme-headers", "X-Scheme = a=b"]).secure_scheme_headers;
    assert_eq!((headers[0].name.as_str(), headers[0].value.as_str()), ("x-scheme", "a=b"));
    assert!(config(&["--secure-scheme-headers=none"]).secure_scheme_headers.is_empty());
    for bad in ["X-Scheme", "=x", "a b=c"] {
        assert!(refusal(&["--secure-scheme-headers", bad]).contains("is no pair"), "{bad}");
    }
}

pub(crate) const FORWARDER_HEADERS: Setting = Setting {
    name: "forwarder_headers",
    empty_list: Some(""),
    flags: &["forwarder-headers"],
    value: ValueType::List {
        metavar: "NAME",
        set: |config, names| forwarder_names(names).map(|read| config.forwarder_headers = read),
    },
    default: "SCRIPT_NAME,PATH_INFO",
    area: Area::Proxies,
    help: "Headers that only believed proxies may send, with underscores allowed",
    details: "A name may end in *. Such a header reaches the application (as HTTP_ and its name) only from \
        proxies of --forwarded-allow-ips, and only in this spelling: a client's OIDC-CLAIM-sub cannot pass \
        for a proxy's OIDC_CLAIM_sub. SCRIPT_NAME also replaces --root-path. The proxy must overwrite or \
        remove what clients send under these names.",
    ..Setting::BLANK
};

/// Names of fields in lower case, each with `*` at its end where it stands for all that begin so.
fn forwarder_names(names: &[&str]) -> Result<Vec<String>, ParseError> {
    let mut read = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        let (stem, all) = name.strip_suffix('*').map_or((*name, false), |stem| (stem, true));
        if !(proxies::is_field_name(stem) || (all && stem.is_empty())) || stem.contains('*') {
            return Err(format!(
                "{name:?} is no name of a field; write names such as REMOTE_USER or OIDC_CLAIM_*"
            )
            .into());
        }
        let name = name.to_ascii_lowercase();
        if ["content-length", "transfer-encoding"].contains(&name.replace('_', "-").as_str()) {
            return Err(format!(
                "{name:?} says where a body ends, which no proxy may say twice; leave it out"
            )
            .into());
        }
        read.push(name);
    }
    Ok(read)
}

#[cfg(test)]
#[test]
fn forwarder_headers() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).forwarder_headers, ["script_name", "path_info"]);
    assert_eq!(
        config(&["--forwarder-headers", "OIDC_CLAIM_*,Remote-User"]).forwarder_headers,
        ["oidc_claim_*", "remote-user"]
    );
    assert_eq!(config(&["--forwarder-headers", "*"]).forwarder_headers, ["*"]);
    assert!(config(&["--forwarder-headers="]).forwarder_headers.is_empty());
    for bad in ["a b", "*a", "a*b*", "a:"] {
        assert!(refusal(&["--forwarder-headers", bad]).contains("is no name"), "{bad}");
    }
    assert!(refusal(&["--forwarder-headers", "Content_Length"]).contains("where a body ends"));
}

pub(crate) const HEADER_MAP: Setting = Setting {
    name: "header_map",
    flags: &["header-map"],
    value: ValueType::Choice {
        of: &[
            ("drop", |config| config.header_map = HeaderMap::Drop),
            ("refuse", |config| config.header_map = HeaderMap::Refuse),
            ("dangerous", |config| config.header_map = HeaderMap::Dangerous),
        ],
        alone: None,
    },
    default: "drop",
    area: Area::Proxies,
    help: "What to do with headers whose names have underscores",
    details: "In environ X_Y and X-Y are both HTTP_X_Y, so a client could use one to imitate the other, \
        which a proxy has checked. drop removes them and logs it once for each name; refuse answers 400; \
        dangerous keeps them, and joins the values if both are sent. Even then no underscore stands for a \
        hyphen in headers about the client (X_Forwarded_For) and in those that frame a body \
        (Content_Length).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn header_map() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).header_map, HeaderMap::Drop);
    assert_eq!(config(&["--header-map", "refuse"]).header_map, HeaderMap::Refuse);
    assert_eq!(config(&["--header-map", "dangerous"]).header_map, HeaderMap::Dangerous);
    assert!(refusal(&["--header-map", "keep"]).contains("write one of drop, refuse, dangerous"));
}

pub(crate) const EARLY_HINTS: Setting = Setting {
    name: "early_hints",
    flags: &["early-hints"],
    value: ValueType::Choice {
        of: &[
            ("direct", |config| config.early_hints = EarlyHints::Direct),
            ("always", |config| config.early_hints = EarlyHints::Always),
            ("never", |config| config.early_hints = EarlyHints::Never),
        ],
        alone: None,
    },
    default: "direct",
    area: Area::Proxies,
    help: "Where to send the application's early hints (103)",
    details: "direct: not to a believed proxy that names its client, because nginx before 1.29 takes a 103 \
        for the final response, and its client would wait for ever. always: to proxies too, if yours passes \
        103 on, as HAProxy and Apache do. environ[\"wsgi.early_hints\"] can always be called.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn early_hints() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).early_hints, EarlyHints::Direct);
    assert_eq!(config(&["--early-hints", "always"]).early_hints, EarlyHints::Always);
    assert_eq!(config(&["--early-hints", "never"]).early_hints, EarlyHints::Never);
    assert!(refusal(&["--early-hints", "yes"]).contains("write one of direct, always, never"));
}

pub(crate) const PERMIT_UNCONVENTIONAL_HTTP_METHOD: Setting = Setting {
    name: "permit_unconventional_http_method",
    flags: &["permit-unconventional-http-method"],
    value: ValueType::Switch { given: true, set: |_, _| {} },
    default: "false",
    area: Area::Proxies,
    help: "Has no effect: every method that RFC 9110 allows is served",
    details: "For gunicorn's configurations: without this option it refuses methods with lower-case letters and \
        short or long ones. Portico accepts any token as a method, and the application decides which it supports.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn permit_unconventional_http_method() {
    use crate::testing::config;
    assert_eq!(config(&["--permit-unconventional-http-method"]), config(&[]));
}
