//! Settings of the protocols that gateways speak: uwsgi, SCGI, FastCGI.

use super::keep;
use crate::bind::WireProtocol;
use crate::proxies::TrustedPeers;
use crate::setting::{Applies, Area, Fixed, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[PROTOCOL, UWSGI_ALLOW_IPS];

pub(crate) const PROTOCOL: Setting = Setting {
    name: "protocol",
    applies: Applies::Upgrade(Fixed::any(|new, old| keep(&mut new.protocol, &old.protocol))),
    flags: &["protocol"],
    value: ValueType::Choice {
        of: &[
            ("http", |config| config.protocol = WireProtocol::Http),
            ("uwsgi", |config| config.protocol = WireProtocol::Uwsgi),
            ("scgi", |config| config.protocol = WireProtocol::Scgi),
            ("fastcgi", |config| config.protocol = WireProtocol::Fastcgi),
        ],
        alone: None,
    },
    default: "http",
    area: Area::Proxies,
    help: "Protocol of a --bind without a scheme: http, uwsgi, scgi or fastcgi",
    details: "uwsgi, scgi and fastcgi are for a web server in front, which then describes the client: see \
        --uwsgi-allow-from. `--bind uwsgi://unix:/run/app.sock` sets it for one address.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn protocol() {
    use crate::testing::{config, refusal};
    let protocols = |args: &[&str]| -> Vec<WireProtocol> {
        config(args).binds.iter().map(|bind| bind.protocol).collect()
    };
    assert_eq!(protocols(&[]), [WireProtocol::Http]);
    assert_eq!(protocols(&["--protocol", "uwsgi"]), [WireProtocol::Uwsgi]);
    assert_eq!(
        protocols(&["-bhttp://:1", "-bunix:a", "-b", "fastcgi://:2", "--protocol=scgi"]),
        [WireProtocol::Http, WireProtocol::Scgi, WireProtocol::Fastcgi]
    );
    assert!(refusal(&["--protocol", "ajp"]).contains("write one of http, uwsgi, scgi, fastcgi"));
}

pub(crate) const UWSGI_ALLOW_IPS: Setting = Setting {
    name: "uwsgi_allow_ips",
    flags: &["uwsgi-allow-from"],
    value: ValueType::List {
        metavar: "ADDRESS",
        set: |config, words| TrustedPeers::parse(words).map(|read| config.gateway_allow = read),
    },
    default: "127.0.0.1,::1",
    area: Area::Proxies,
    help: "Addresses and networks of web servers that may speak uwsgi, SCGI or FastCGI",
    details: "Portico believes everything that these say about the client: its address, its scheme, the \
        user. Connections of others are closed. Also: private, unix (UNIX sockets, which are believed unless \
        the value is none), none, and *, as in --forwarded-allow-ips. A web server passes on X-Forwarded-For \
        and similar headers as its client has sent them; they are used only if REMOTE_ADDR is in \
        --forwarded-allow-ips.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn uwsgi_allow_from() {
    use crate::testing::{config, refusal};
    let peers = config(&[]).gateway_allow;
    assert!(peers.names([127, 0, 0, 1].into()) && !peers.names([10, 0, 0, 1].into()));
    assert!(peers.unix && !peers.anybody);
    assert!(config(&["--uwsgi-allow-from", "10.0.0.0/8"]).gateway_allow.names([10, 0, 0, 1].into()));
    assert!(config(&["--uwsgi-allow-from=*"]).gateway_allow.anybody);
    assert!(!config(&["--uwsgi-allow-from=none"]).gateway_allow.unix);
    assert!(refusal(&["--uwsgi-allow-from", "nginx"]).contains("is no address"));
}
