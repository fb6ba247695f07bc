//! Descriptors 0 to 2, closed in processes of their own.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

use std::env;
use std::fs::{File, read_link};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};

use portico_os::{above_standard, fill_standard};

/// Tells a copy of a test that it is one, and what it is to close.
const CLOSED: &str = "PORTICO_TEST_CLOSED";

const WAYS: [&str; 7] = ["0", "1", "2", "01", "12", "02", "012"];

/// What is open in this process under a number.
fn opened(number: RawFd) -> String {
    let link = read_link(format!("/proc/self/fd/{number}"));
    link.map_or_else(|_| "nothing".to_owned(), |link| link.display().to_string())
}

/// Runs the test once more for each of [`WAYS`], in a process that has closed these descriptors. `None` here;
/// there, what was open before and what has been closed.
fn in_copies(test: &str) -> Option<([String; 3], String)> {
    if let Ok(closed) = env::var(CLOSED) {
        let before = [0, 1, 2].map(opened);
        for number in closed.chars().filter_map(|number| number.to_digit(10)) {
            // SAFETY: nothing in this process owns its standard streams.
            drop(unsafe { OwnedFd::from_raw_fd(number as RawFd) });
        }
        return Some((before, closed));
    }
    for closed in WAYS {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--test-threads", "1"]).env(CLOSED, closed);
        command.stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        assert!(command.output().unwrap().status.success(), "with {closed} closed");
    }
    None
}

#[test]
fn closed_ones_are_filled_and_open_ones_left_alone() {
    let Some((before, closed)) = in_copies("closed_ones_are_filled_and_open_ones_left_alone") else { return };
    fill_standard().unwrap();
    for number in 0..3 {
        let was_closed = closed.contains(&number.to_string());
        let expected = if was_closed { "/dev/null" } else { &before[number as usize] };
        assert_eq!(opened(number), expected);
    }
    assert!(File::open("/dev/zero").unwrap().as_raw_fd() > 2);
}

#[test]
fn what_gets_a_low_number_is_moved_and_its_place_filled() {
    let Some((_, closed)) = in_copies("what_gets_a_low_number_is_moved_and_its_place_filled") else { return };
    let low: OwnedFd = File::open("/dev/full").unwrap().into();
    assert!(low.as_raw_fd() < 3);
    let high = above_standard(low).unwrap();
    let number = high.as_raw_fd();
    assert_eq!((number > 2, &opened(number)[..]), (true, "/dev/full"));
    for number in closed.chars().filter_map(|number| number.to_digit(10)) {
        assert_eq!(opened(number as RawFd), "/dev/null");
    }
    assert_eq!(above_standard(high).unwrap().as_raw_fd(), number, "one that is above stays");
}
