//! Settings of the PROXY protocol.

use crate::proxies::{ProxyProtocol, TrustedPeers};
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[PROXY_PROTOCOL, PROXY_ALLOW_IPS];

pub(crate) const PROXY_PROTOCOL: Setting = Setting {
    name: "proxy_protocol",
    flags: &["proxy-protocol"],
    value: ValueType::Choice {
        of: &[
            ("off", |config| config.proxy_protocol = ProxyProtocol::Off),
            ("v1", |config| config.proxy_protocol = ProxyProtocol::V1),
            ("v2", |config| config.proxy_protocol = ProxyProtocol::V2),
            ("auto", |config| config.proxy_protocol = ProxyProtocol::Auto),
        ],
        alone: Some("auto"),
    },
    default: "off",
    area: Area::Proxies,
    help: "PROXY protocol of a load balancer: off, v1, v2, or auto for either",
    details: "The client's address becomes REMOTE_ADDR and REMOTE_PORT, before TLS, and the address to which \
        it connected becomes PROXY_ADDR and PROXY_PORT. It applies to every --bind without a ?proxy= of its \
        own. Connections from --proxy-allow-from must begin with this header, as the protocol demands: if it \
        were optional, a client could write it. Connections from others are read without one. \
        --forwarded-allow-ips is then compared with the client's address.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn proxy_protocol() {
    use crate::testing::{config, refusal, with_environment};
    assert_eq!(config(&[]).proxy_protocol, ProxyProtocol::Off);
    assert_eq!(config(&["--proxy-protocol"]).proxy_protocol, ProxyProtocol::Auto);
    assert_eq!(config(&["--proxy-protocol=v2"]).proxy_protocol, ProxyProtocol::V2);
    let followed = config(&["--proxy-protocol", "v1", "app:app"]);
    assert_eq!((followed.proxy_protocol, followed.app.as_deref()), (ProxyProtocol::V1, Some("app:app")));
    assert_eq!(with_environment(&[("PORTICO_PROXY_PROTOCOL", "v1")], &[]).proxy_protocol, ProxyProtocol::V1);
    assert_eq!(
        with_environment(&[("PORTICO_PROXY_PROTOCOL", "False")], &[]).proxy_protocol,
        ProxyProtocol::Off
    );
    assert!(refusal(&["--proxy-protocol=v3"]).contains("write one of off, v1"));
}

pub(crate) const PROXY_ALLOW_IPS: Setting = Setting {
    name: "proxy_allow_ips",
    flags: &["proxy-allow-from"],
    value: ValueType::List {
        metavar: "ADDRESS",
        set: |config, words| TrustedPeers::parse(words).map(|read| config.proxy_allow = read),
    },
    default: "127.0.0.1,::1",
    area: Area::Proxies,
    help: "Addresses and networks of load balancers that speak the PROXY protocol",
    details: "The words are those of --forwarded-allow-ips. UNIX sockets are among them unless it is none.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn proxy_allow_ips() {
    use crate::testing::{config, refusal};
    let peers = config(&[]).proxy_allow;
    assert!(peers.names([127, 0, 0, 1].into()) && peers.unix && !peers.anybody);
    assert!(config(&["--proxy-allow-from", "10.0.0.0/8,*"]).proxy_allow.anybody);
    assert!(refusal(&["--proxy-allow-from", "nowhere"]).contains("is no address"));
}
