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
    help: "Hosts that requests may be for; those for others are answered 421",
    details: "By default any. A name stands for itself, .example.com also for all names below it, *.example.com \
        for those alone; an address or a network for addresses. With a port, that one alone counts. Other \
        requests are answered before their bodies are read, and the application sees nothing of them. The host is \
        what the application finds as HTTP_HOST: that of a believed proxy where --forwarded-headers has host. An \
        X-Forwarded-Host that is passed on has to be allowed as well. Health checks that ask for an address need \
        it here: 10.0.0.0/8 for all of such a network. `*` allows all.",
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
