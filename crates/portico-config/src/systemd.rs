//! Listening sockets that systemd passes to this process (sd_listen_fds(3)): which there are, and their names
//! in `--bind`.

use crate::bind::{BindAddress, FIRST_INHERITED, split_parameters, split_scheme};
use crate::environment::{Environment, read_variable};
use crate::error::{ConfigError, ParseError};
use crate::raw::{RawConfig, SettingSource};
use crate::resolved::Config;
use crate::settings;
use crate::value::{escaped, items};

/// Far above what a unit has; it bounds what is made of a number in the environment.
const SOCKETS_MAX: usize = 512;

const PID: &str = "LISTEN_PID";
const NUMBER: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// The sockets that were passed: as many descriptors from [`FIRST_INHERITED`] up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemdSockets {
    number: usize,
    /// Of the first descriptors; fewer than `number` where not all have one.
    names: Vec<String>,
}

impl SystemdSockets {
    /// Those that `env` says were passed to the process `pid`. Variables that are meant for another process
    /// came down to this one with the rest of its parent's environment, and count for nothing.
    ///
    /// # Errors
    /// The variables are for this process, but cannot be read.
    pub(crate) fn read(env: Environment<'_>, pid: u32) -> Result<Self, ConfigError> {
        if read_variable(env, PID)?.and_then(|text| text.parse().ok()) != Some(pid) {
            return Ok(Self::default());
        }
        let Some(text) = read_variable(env, NUMBER)? else { return Ok(Self::default()) };
        let number = text.parse().ok().filter(|number| *number <= SOCKETS_MAX).ok_or_else(|| {
            let limits = format!("pass a number of sockets from 0 to {SOCKETS_MAX}, or unset {PID}");
            ConfigError::new(format!("{NUMBER}: {text:?} is no such number; {limits}"))
        })?;
        let names = read_variable(env, NAMES)?.unwrap_or_default();
        Ok(Self { number, names: names.split(':').take(number).map(str::to_owned).collect() })
    }

    /// Puts these sockets in place of what `raw` says of `--bind`: all of them where it says nothing, and
    /// their descriptors for their names.
    ///
    /// # Errors
    /// A name is not among them.
    pub(crate) fn say(&self, raw: &mut RawConfig) -> Result<(), ConfigError> {
        let setting = &settings::BIND;
        let Some(said) = raw.said(setting) else {
            raw.say(setting, self.descriptors().map(text).collect(), SettingSource::Platform(NUMBER));
            return Ok(());
        };
        let mut texts = Vec::new();
        for part in said.texts.iter().flat_map(|text| items(text)) {
            let (scheme, rest) = split_scheme(&part);
            let (address, parameters) = split_parameters(rest);
            let around = |fd| {
                let scheme = scheme.map_or(String::new(), |scheme| format!("{scheme}://"));
                let parameters = parameters.map_or(String::new(), |them| format!("?{them}"));
                format!("{scheme}{}{}", text(fd), escaped(&parameters))
            };
            match name(address) {
                Some(name) => texts.extend(
                    self.named(name).map_err(|problem| said.source.error(setting, &problem))?.map(around),
                ),
                None => texts.push(escaped(&part)),
            }
        }
        let source = said.source.clone();
        raw.say(setting, texts, source);
        Ok(())
    }

    /// A warning where a socket was passed that `config` does not listen on: what connects to it waits for
    /// ever.
    pub(crate) fn warn(&self, config: &Config, warnings: &mut Vec<String>) {
        let unused: Vec<String> = self.descriptors().filter(|fd| !is_bound(config, *fd)).map(text).collect();
        if !unused.is_empty() {
            warnings.push(format!(
                "systemd passed {}, which no --bind names; nobody answers what connects there",
                unused.join(", ")
            ));
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = i32> {
        (FIRST_INHERITED..).take(self.number)
    }

    fn named(&self, name: &str) -> Result<impl Iterator<Item = i32>, ParseError> {
        let wanted = self.descriptors().zip(&self.names).filter(move |(_, other)| *other == name);
        let found: Vec<i32> = wanted.map(|(fd, _)| fd).collect();
        match found.is_empty() {
            false => Ok(found.into_iter()),
            true if self.number == 0 => Err(format!(
                "{:?} names a socket, but none was passed to this process ({NUMBER}, {PID})",
                format!("fd://{name}")
            )
            .into()),
            true => Err(format!(
                "no socket of the name {name:?} was passed; {NAMES} has {:?}",
                self.names.join(":")
            )
            .into()),
        }
    }
}

fn is_bound(config: &Config, fd: i32) -> bool {
    config.binds.iter().any(|bind| bind.address == BindAddress::Fd(fd))
}

/// The name in `fd://NAME`; digits are a descriptor's number.
fn name(bind: &str) -> Option<&str> {
    bind.strip_prefix("fd://")
        .filter(|name| !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// As `--bind` names a descriptor.
fn text(fd: i32) -> String {
    format!("fd://{fd}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::parse::Parsed;
    use crate::parse::parse_as;
    use crate::proxies::ProxyProtocol;
    use crate::resolution::Resolved;
    use crate::testing::environment;

    const THREE: [(&str, &str); 3] =
        [("LISTEN_PID", "7"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web:admin:web")];

    /// What process 7 makes of it.
    fn resolved(env: &[(&str, &str)], args: &[&str]) -> Result<Resolved, ConfigError> {
        match parse_as(7, args.iter().map(OsString::from), &environment(env), None, None)? {
            Parsed::Run(resolved) => Ok(*resolved),
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    fn descriptors(env: &[(&str, &str)], args: &[&str]) -> Vec<i32> {
        let binds = resolved(env, args).unwrap().config.binds;
        binds
            .iter()
            .filter_map(|bind| if let BindAddress::Fd(fd) = bind.address { Some(fd) } else { None })
            .collect()
    }

    #[test]
    fn all_are_listened_on_where_nothing_is_said() {
        let resolved = resolved(&THREE, &[]).unwrap();
        assert_eq!(resolved.config.binds, [3, 4, 5].map(|fd| BindAddress::Fd(fd).into()));
        assert_eq!(resolved.warnings, [""; 0]);
        assert_eq!(descriptors(&THREE[..2], &[]), [3, 4, 5]);
    }

    #[test]
    fn names_choose_among_them() {
        assert_eq!(descriptors(&THREE, &["-b", "fd://web"]), [3, 5]);
        assert_eq!(descriptors(&THREE, &["-b", "fd://admin, fd://web", "-b", "fd://9"]), [4, 3, 5, 9]);
        let environment = [&THREE[..], &[("PORTICO_BIND", "fd://admin")]].concat();
        assert_eq!(descriptors(&environment, &[]), [4]);
        let binds = resolved(&THREE, &["-b", "redirect://fd://web?proxy=v1"]).unwrap().config.binds;
        assert!(binds.iter().all(|bind| bind.proxy == Some(ProxyProtocol::V1) && bind.named));
        assert_eq!(binds.len(), 2);
    }

    #[test]
    fn what_was_said_counts_and_what_was_passed_besides_is_a_warning() {
        for (env, args) in [
            (&[][..], &["-b", "127.0.0.1:1"][..]),
            (&[("PORTICO_BIND", "127.0.0.1:1")], &[]),
            (&[("PORT", "1")], &[]),
        ] {
            let resolved = resolved(&[&THREE[..], env].concat(), args).unwrap();
            assert_eq!(resolved.config.binds.len(), 1);
            assert!(matches!(resolved.config.binds[0].address, BindAddress::Tcp { .. }));
            assert!(resolved.warnings[0].contains("fd://3, fd://4, fd://5"), "{:?}", resolved.warnings);
        }
        let warnings = resolved(&THREE, &["-b", "fd://web"]).unwrap().warnings;
        assert!(warnings[0].contains("fd://4,"), "{warnings:?}");
    }

    #[test]
    fn those_of_another_process_are_not_ours() {
        for pid in ["8", "", "x", "-7"] {
            let env = [("LISTEN_PID", pid), ("LISTEN_FDS", "x")];
            assert_eq!(descriptors(&env, &[]), [0; 0], "{pid:?}");
        }
        assert_eq!(descriptors(&[("LISTEN_FDS", "3")], &[]), [0; 0]);
        assert_eq!(descriptors(&[("LISTEN_PID", "7")], &[]), [0; 0]);
        assert_eq!(descriptors(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "0")], &[]), [0; 0]);
    }

    #[test]
    fn a_name_that_was_not_passed_is_refused_by_who_said_it() {
        let refusal = |env: &[(&str, &str)], args: &[&str]| resolved(env, args).unwrap_err().to_string();
        assert_eq!(
            refusal(&THREE, &["-b", "fd://shop"]),
            "--bind: no socket of the name \"shop\" was passed; LISTEN_FDNAMES has \"web:admin:web\""
        );
        assert!(refusal(&[], &["-b", "fd://shop"]).starts_with("--bind: \"fd://shop\" names a socket"));
        assert!(refusal(&[("PORTICO_BIND", "fd://-1")], &[]).starts_with("PORTICO_BIND: "));
        assert!(refusal(&THREE, &["-b", "fd://"]).starts_with("--bind: \"fd://\" names no file descriptor"));
    }

    #[test]
    fn a_number_that_is_none_or_too_large_is_refused() {
        for text in ["x", "-1", "513"] {
            let env = [("LISTEN_PID", "7"), ("LISTEN_FDS", text)];
            let error = resolved(&env, &[]).unwrap_err();
            assert!(error.to_string().starts_with("LISTEN_FDS: "), "{error}");
            assert_eq!(error.exit_status(), 1);
        }
        assert_eq!(descriptors(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "512")], &[]).len(), 512);
    }
}
