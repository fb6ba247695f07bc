//! What is wrong with a configuration, in one line, and the exit status that goes with it.

use std::fmt;

/// A configuration that cannot be used: one line that names the option, variable or place in a file, and
/// the exit status that goes with it. Whoever gets one prints it and ends, or keeps the former
/// configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    exit_status: u8,
}

impl ConfigError {
    /// A mistake on the command line. Exit status 2, as argparse, getopt and clap programs have it.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_status: 2 }
    }

    /// A mistake anywhere else: in a configuration file, the environment, a keyword argument. Exit status 1,
    /// gunicorn's for a bad configuration. `message` is one line that says where it is and what to do.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_status: 1 }
    }

    /// Status for the process to exit with: 2 for the command line, 1 for anything else.
    pub fn exit_status(&self) -> u8 {
        self.exit_status
    }
}

impl fmt::Display for ConfigError {
    /// One line: the option or variable, what is wrong with it, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The fault of a text that an operator has written, and what to write instead. It is the end of a line: whoever
/// knows where the text stands puts the option, the variable or the place in a file before it, and makes a
/// [`ConfigError`] of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(String);

impl From<String> for ParseError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

impl From<&str> for ParseError {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}
