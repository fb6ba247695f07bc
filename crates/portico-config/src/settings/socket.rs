//! Settings of the sockets that Portico listens on.

use super::keep;
use crate::bind::{Bind, WireProtocol, bind};
use crate::resolved::Config;
use crate::setting::{Applies, Area, Fixed, Platform, Setting, ValueType};

pub(super) const SETTINGS: &[Setting] = &[BIND, BACKLOG, REUSE_PORT, SOCKET_MODE];

pub(crate) const BIND: Setting = Setting {
    name: "bind",
    applies: Applies::Upgrade(Fixed::any(keep_binds)),
    flags: &["bind"],
    short: Some('b'),
    platform: Some(Platform { variables: &["PORT"], translate: |port| format!("0.0.0.0:{port}") }),
    value: ValueType::List {
        metavar: "ADDRESS",
        set: |config, addresses| {
            config.binds = addresses.iter().map(|address| bind(address)).collect::<Result<_, _>>()?;
            Ok(())
        },
    },
    default: "127.0.0.1:8000",
    area: Area::Socket,
    help: "Listen here: HOST:PORT, [IPV6]:PORT, unix:PATH, fd://N; may be repeated",
    details: "A scheme in front sets the protocol: http:// (the default), https://, uwsgi://, scgi://, \
        fastcgi://, and redirect://, which redirects every request to https, as in https://0.0.0.0:443 or \
        uwsgi://unix:/run/app.sock. ?proxy=off, v1, v2 or auto after an address sets --proxy-protocol for \
        this address, as in https://0.0.0.0:443?proxy=v2.\n\n\
        HOST alone listens on port 8000, whatever the scheme. :PORT listens on every IPv4 address. Port 0 \
        listens on a free port, which is printed. A name is looked up once, at the start, and Portico \
        listens on every address that it has. fd://N takes over a listening socket that this process has \
        inherited. `tcp://HOST:PORT` and `unix://PATH` are accepted too.\n\n\
        Without this setting, if the variable PORT is set, as hosting platforms do, Portico listens on \
        0.0.0.0:$PORT. Otherwise, if systemd passes sockets (LISTEN_FDS), it listens on all of them; \
        fd://NAME chooses those whose FileDescriptorName is NAME.",
    ..Setting::BLANK
};

/// Sockets are bound before the workers are forked, and inherited by them. What --protocol says of a bind is not
/// told of the bind too.
fn keep_binds(new: &mut Config, old: &Config) -> bool {
    let said = |config: &Config| -> Vec<Bind> {
        let plain = |bind: &Bind| match bind.named {
            true => bind.clone(),
            false => Bind { protocol: WireProtocol::Http, ..bind.clone() },
        };
        config.binds.iter().map(plain).collect()
    };
    let differs = said(new) != said(old);
    new.binds.clone_from(&old.binds);
    differs
}

#[cfg(test)]
#[test]
fn binds() {
    use crate::bind::BindAddress;
    use crate::testing::{config, refusal, with_environment};
    let tcp = |text: &str| -> Bind {
        BindAddress::Tcp { text: text.to_owned(), addresses: vec![text.parse().unwrap()] }.into()
    };
    assert_eq!(config(&[]).binds, [tcp("127.0.0.1:8000")]);
    assert_eq!(config(&["-b", "127.0.0.1:1"]).binds, [tcp("127.0.0.1:1")]);
    assert_eq!(
        config(&["--bind", "127.0.0.1:1", "-bunix:a.sock", "--bind=fd://3"]).binds,
        [tcp("127.0.0.1:1"), BindAddress::Unix("a.sock".into()).into(), BindAddress::Fd(3).into()]
    );
    let environment = [("PORTICO_BIND", "127.0.0.1:1, fd://3"), ("PORT", "5000")];
    assert_eq!(with_environment(&environment, &[]).binds, [tcp("127.0.0.1:1"), BindAddress::Fd(3).into()]);
    assert_eq!(with_environment(&environment[1..], &[]).binds, [tcp("0.0.0.0:5000")]);
    assert_eq!(config(&["-b", "scgi://127.0.0.1:1"]).binds[0].protocol, WireProtocol::Scgi);
    assert!(refusal(&["-b", "127.0.0.1:http"]).starts_with("--bind: \"127.0.0.1:http\""));
}

pub(crate) const BACKLOG: Setting = Setting {
    name: "backlog",
    applies: Applies::Upgrade(Fixed::any(|new, old| keep(&mut new.backlog, &old.backlog))),
    flags: &["backlog"],
    value: ValueType::Count {
        range: 1..=65_535,
        zero: None,
        unit: "connections",
        set: |config, n| config.backlog = n as u32,
    },
    default: "2048",
    area: Area::Socket,
    help: "Connections that may wait in the kernel to be accepted",
    details: "The kernel lowers it to net.core.somaxconn (4096 on current Linux).",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn backlog() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).backlog, 2048);
    assert_eq!(config(&["--backlog", "65535"]).backlog, 65_535);
    assert!(refusal(&["--backlog", "0"]).contains("from 1 to 65535"));
}

pub(crate) const REUSE_PORT: Setting = Setting {
    name: "reuse_port",
    // Sockets that an upgrade takes over are as they were bound.
    applies: Applies::Start(Fixed::any(|new, old| keep(&mut new.reuse_port, &old.reuse_port))),
    flags: &["reuse-port"],
    value: ValueType::Switch { given: true, set: |config, on| config.reuse_port = on },
    default: "false",
    area: Area::Socket,
    help: "Let other servers of the same user listen on the same TCP ports",
    details: "The kernel divides the connections among the servers (SO_REUSEPORT); all of them must ask for \
        it. The workers of one server share its sockets without it.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn reuse_port() {
    use crate::testing::{config, with_environment};
    assert!(!config(&[]).reuse_port);
    assert!(config(&["--reuse-port"]).reuse_port);
    assert!(with_environment(&[("PORTICO_REUSE_PORT", "1")], &[]).reuse_port);
}

pub(crate) const SOCKET_MODE: Setting = Setting {
    name: "socket_mode",
    applies: Applies::Upgrade(Fixed::any(|new, old| {
        // Where the mask is another one, that is what is told.
        let of_mask = new.system.umask != old.system.umask;
        keep(&mut new.socket_mode, &old.socket_mode) && !of_mask
    })),
    flags: &["socket-mode"],
    value: ValueType::Mode { set: |config, mode| config.socket_mode = mode },
    default: "666",
    area: Area::Socket,
    help: "Permissions of UNIX sockets, in octal",
    // connect(2) asks for write permission alone (unix(7)), so that 666 admits whom gunicorn's 777 (its umask
    // is 0) admits; nginx sets 666 as well.
    details: "The default lets every user of the machine connect, as on a TCP port and as with gunicorn and \
        nginx. 660 together with the folder's group admits one group, such as the web server's.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn socket_mode() {
    use crate::testing::{config, refusal};
    assert_eq!(config(&[]).socket_mode, 0o666);
    assert_eq!(config(&["--socket-mode", "0o660"]).socket_mode, 0o660);
    assert!(refusal(&["--socket-mode", "rw"]).contains("octal"));
}
