//! The setting that says for which hosts requests are served.

use crate::hosts::AllowedHosts;
use crate::setting::{Area, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[ALLOWED_HOSTS];

pub(crate) const ALLOWED_HOSTS: Setting = Setting {
    name: "allowed_hosts",
    flags: &["allowed-hosts"],
    value: ValueType::List {
        metavar: "HOST,...",
        set: |config, words| AllowedHosts::parse(words).map(|hosts| config.allowed_hosts = hosts),
    },
    area: Area::Requests,
    help: "Hosts for which requests are accepted; requests for others get 421",
    details: "By default any host. A name matches itself, .example.com also all names below it, \
        *.example.com only those; an address or a network matches addresses. With a port, only that port \
        matches. Other requests get their response before their bodies are read, and the application never \
        sees them. The host is the application's HTTP_HOST: a believed proxy's if --forwarded-headers has \
        host. An X-Forwarded-Host that is passed on must be allowed as well. Health checks that use an \
        address as host need it here, unless they are for --health-path: 10.0.0.0/8 for a whole network. `*` \
        allows all.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn allowed_hosts() {
    use crate::testing::{config, refusal, with_environment};
    assert!(!config(&[]).allowed_hosts.is_limited());
    let hosts = config(&["--allowed-hosts", "a.example, .b.example", "--allowed-hosts=[::1]"]).allowed_hosts;
    for authority in ["a.example", "x.b.example", "[::1]:8000"] {
        assert!(hosts.allows(authority.as_bytes(), 80), "{authority}");
    }
    assert!(!hosts.allows(b"c.example", 80));
    assert!(with_environment(&[("PORTICO_ALLOWED_HOSTS", "a")], &[]).allowed_hosts.is_limited());
    assert!(!config(&["--allowed-hosts", "*"]).allowed_hosts.is_limited());
    assert!(refusal(&["--allowed-hosts", "http://a"]).contains("is no host"));
}
