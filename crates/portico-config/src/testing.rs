//! What the tests of this crate share: a command line in, what comes of it out.

use std::ffi::OsString;

use crate::parse::{Parsed, parse};
use crate::resolution::Resolved;
use crate::resolved::Config;

/// An environment of just these variables.
pub(crate) fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    move |wanted| variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| OsString::from(value))
}

/// What this environment and command line resolve to.
pub(crate) fn resolved(variables: &[(&str, &str)], args: &[&str]) -> Resolved {
    match parse(args.iter().map(OsString::from), &environment(variables)) {
        Ok(Parsed::Run(resolved)) => *resolved,
        other => panic!("{args:?} gave {other:?}"),
    }
}

/// The configuration of this environment and command line.
pub(crate) fn with_environment(variables: &[(&str, &str)], args: &[&str]) -> Config {
    resolved(variables, args).config
}

/// The configuration of this command line in an empty environment.
pub(crate) fn config(args: &[&str]) -> Config {
    with_environment(&[], args)
}

/// Why this command line is refused; or, where gunicorn's options are taken more widely, why it is refused in
/// PORTICO_CMD_ARGS.
pub(crate) fn refusal(args: &[&str]) -> String {
    match parse(args.iter().map(OsString::from), &|_| None) {
        Err(error) => {
            assert_eq!(error.exit_status(), 2);
            error.to_string()
        }
        Ok(_) => {
            let words: Vec<String> = args.iter().map(|word| format!("'{word}'")).collect();
            let refused = parse(std::iter::empty(), &environment(&[("PORTICO_CMD_ARGS", &words.join(" "))]));
            let refused = refused.map(|_| panic!("{args:?} is not refused")).unwrap_or_else(|error| error);
            refused.to_string().replace(" in PORTICO_CMD_ARGS", "")
        }
    }
}
