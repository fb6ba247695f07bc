//! `portico hash-password`: a line for a file of users, which `auth` reads.

use std::io::{self, IsTerminal, Write, stdin};

use portico_edge::access::{SALT_BYTES, hash_password};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::output::Output;

/// Longer ones could not be sent: credentials have that many bytes in all.
const PASSWORD_BYTES_MAX: usize = 512;

/// Asks for a password and prints its hash, behind the name of `user` if one is named. The password is never an
/// argument, which other users of the machine could read.
pub fn make(user: Option<&str>) -> Output {
    let password = match ask() {
        Ok(password) => password,
        Err(error) => return Output::failure(format!("hash-password: no password was read: {error}")),
    };
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX || password.chars().any(char::is_control) {
        let problem = "hash-password: a password has 1 to 512 bytes and no control characters";
        return Output::failure(problem.to_owned());
    }
    let mut salt = [0; SALT_BYTES];
    match getrandom(&mut salt, GetRandomFlags::empty()) {
        Ok(SALT_BYTES) => {}
        _ => return Output::failure("hash-password: the system has no random numbers".to_owned()),
    }
    let hash = hash_password(password.as_bytes(), salt);
    Output::of(user.map_or(hash.clone(), |user| format!("{user}:{hash}")))
}

/// A line of standard input; from a terminal without showing it, and twice.
fn ask() -> io::Result<String> {
    if !stdin().is_terminal() {
        return line();
    }
    let (first, second) = (hidden("Password: ")?, hidden("Again: ")?);
    if first == second { Ok(first) } else { Err(io::Error::other("the two differ")) }
}

fn hidden(prompt: &str) -> io::Result<String> {
    let mut terminal = io::stderr();
    terminal.write_all(prompt.as_bytes())?;
    let shown = tcgetattr(stdin())?;
    let mut without = shown.clone();
    without.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin(), OptionalActions::Flush, &without)?;
    let read = line();
    tcsetattr(stdin(), OptionalActions::Now, &shown)?;
    terminal.write_all(b"\n")?;
    read
}

fn line() -> io::Result<String> {
    let mut text = String::new();
    stdin().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
