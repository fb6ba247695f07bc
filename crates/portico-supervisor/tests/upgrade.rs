//! Upgrades with real processes: the new supervisor is this program again, as one of its ignored tests.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use portico_supervisor::upgrade::{CommandLine, Takeover, Upgrade, UpgradeOutcome, variable};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

fn new_supervisor(part: &str) -> CommandLine {
    let arguments = ["--exact", part, "--ignored", "--nocapture", "--test-threads=1"].map(Into::into);
    CommandLine::new(env::current_exe().unwrap().into(), arguments.into(), env::current_dir().unwrap())
}

/// What becomes of it, within some seconds.
fn outcome(upgrade: &Upgrade) -> UpgradeOutcome {
    let limit = Timespec::try_from(Duration::from_secs(20)).unwrap();
    assert_eq!(poll(&mut [PollFd::new(upgrade, PollFlags::IN)], Some(&limit)), Ok(1), "it hangs");
    upgrade.outcome().unwrap()
}

fn reap(pid: u32) -> WaitStatus {
    waitpid(Pid::from_raw(pid as i32), WaitOptions::empty()).unwrap().unwrap().1
}

fn input() -> String {
    fs::read_link("/proc/self/fd/0").map(|link| link.display().to_string()).unwrap_or_default()
}

#[test]
#[ignore = "the part of the new supervisor"]
fn serves() {
    let Some(mut takeover) = Takeover::from_env().unwrap() else { return };
    let listeners = takeover.take_listeners();
    assert!(takeover.take_listeners().is_empty());
    assert_eq!((takeover.take_secret(), takeover.take_secret()), (b"key\0s".to_vec(), Vec::new()));
    assert!(!fs::read("/proc/self/environ").unwrap().windows(5).any(|bytes| bytes == b"key\0s"));
    let folder = env::current_dir().unwrap();
    for (name, socket) in listeners {
        let mut client: Box<dyn Write> = match name.starts_with("unix") {
            true => Box::new(UnixListener::from(socket).accept().unwrap().0),
            false => Box::new(TcpListener::from(socket).accept().unwrap().0),
        };
        let text = format!("{name} input={} folder={} pid={}", input(), folder.display(), std::process::id());
        client.write_all(text.as_bytes()).unwrap();
    }
    takeover.ready();
}

#[test]
#[ignore = "the part of the new supervisor"]
fn ends_before_it_serves() {
    drop(Takeover::from_env().unwrap());
}

#[test]
#[ignore = "the part of the new supervisor"]
fn hangs() {
    let Some(_takeover) = Takeover::from_env().unwrap() else { return };
    thread::sleep(Duration::from_secs(60));
}

#[test]
#[ignore = "the part of a process that the new supervisor starts"]
fn is_no_supervisor() {
    let Some(_takeover) = Takeover::from_env().unwrap() else {
        return;
    };
    let again = ["--exact", "finds_no_takeover", "--ignored", "--test-threads=1"];
    let status = std::process::Command::new(env::current_exe().unwrap()).args(again).status().unwrap();
    std::process::exit(if status.success() { 7 } else { 8 });
}

#[test]
#[ignore = "the part of a process that the new supervisor starts"]
fn finds_no_takeover() {
    assert!(env::var_os("PORTICO_UPGRADE_OF").is_some(), "the variable comes down to it");
    assert!(Takeover::from_env().unwrap().is_none());
}

#[test]
fn the_new_supervisor_serves_on_the_sockets_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let unix = UnixListener::bind(&path).unwrap();
    // More than one message carries.
    let tcp: Vec<TcpListener> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut listeners: Vec<(BorrowedFd<'_>, String)> = tcp
        .iter()
        .map(|listener| (listener.as_fd(), format!("tcp:{}", listener.local_addr().unwrap())))
        .collect();
    listeners.push((unix.as_fd(), format!("unix:{}", path.display())));
    let upgrade = Upgrade::start(&new_supervisor("serves"), &listeners, b"key\0s").unwrap();
    assert_eq!(upgrade.outcome(), None);
    let expected = |name: &str| {
        let folder = env::current_dir().unwrap();
        format!("{name} input={} folder={} pid={}", input(), folder.display(), upgrade.pid())
    };
    let mut text = String::new();
    for listener in &tcp {
        let address = listener.local_addr().unwrap();
        text.clear();
        TcpStream::connect(address).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, expected(&format!("tcp:{address}")));
    }
    text.clear();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, expected(&listeners[40].1));
    assert_eq!(outcome(&upgrade), UpgradeOutcome::Ready);
    assert_eq!(reap(upgrade.pid()).exit_status(), Some(0));
}

#[test]
fn one_that_ends_before_it_serves_is_told() {
    let upgrade = Upgrade::start(&new_supervisor("ends_before_it_serves"), &[], b"").unwrap();
    assert_eq!(outcome(&upgrade), UpgradeOutcome::Ended);
    assert_eq!(reap(upgrade.pid()).exit_status(), Some(0));
}

#[test]
fn one_that_hangs_can_be_ended() {
    let listener: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    let started = Instant::now();
    let upgrade = Upgrade::start(&new_supervisor("hangs"), &[(listener.as_fd(), "a".into())], b"").unwrap();
    let pid = upgrade.pid();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(upgrade.outcome(), None);
    upgrade.kill().unwrap();
    assert_eq!(reap(pid).terminating_signal(), Some(9));
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_program_that_is_gone_is_an_error() {
    let command = CommandLine::new("/nowhere/portico".into(), Vec::new(), "/".into());
    assert_eq!(Upgrade::start(&command, &[], b"").unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn what_the_new_supervisor_starts_takes_nothing_over() {
    assert!(Takeover::from_env().unwrap().is_none(), "nor does this process");
    let upgrade = Upgrade::start(&new_supervisor("is_no_supervisor"), &[], b"").unwrap();
    assert_eq!(reap(upgrade.pid()).exit_status(), Some(7));
}

/// One supervisor of a row of them, each an upgrade of the one before; `next` is the one after it.
fn passes_sockets_on(next: Option<&str>) {
    if env::var_os("LISTEN_FDS").is_none() {
        return;
    }
    let takeover = Takeover::from_env().unwrap();
    let own = std::process::id().to_string();
    assert_eq!(variable("LISTEN_PID"), Some(own.into()));
    assert_eq!(variable("LISTEN_FDS"), Some("2".into()));
    let Some(next) = next else { return };
    let command = new_supervisor(next);
    // The first has ended long ago when the second makes room for the third.
    drop(takeover);
    let upgrade = Upgrade::start(&command, &[], b"").unwrap();
    assert_eq!(reap(upgrade.pid()).exit_status(), Some(0));
}

#[test]
#[ignore = "the part of a supervisor that systemd has started"]
fn first_of_a_row() {
    passes_sockets_on(Some("second_of_a_row"));
}

#[test]
#[ignore = "the part of a new supervisor"]
fn second_of_a_row() {
    passes_sockets_on(Some("third_of_a_row"));
}

#[test]
#[ignore = "the part of a new supervisor"]
fn third_of_a_row() {
    passes_sockets_on(None);
}

#[test]
fn sockets_that_systemd_passed_are_every_later_supervisors_too() {
    let start = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" --exact first_of_a_row --ignored --test-threads=1";
    let ended =
        std::process::Command::new("sh").args(["-c", start]).arg(env::current_exe().unwrap()).output();
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[test]
fn a_variable_is_what_the_environment_says() {
    assert_eq!(variable("PATH"), env::var_os("PATH"));
    assert_eq!(variable("PORTICO_NO_SUCH_VARIABLE"), None);
}
