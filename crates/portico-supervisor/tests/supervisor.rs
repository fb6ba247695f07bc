//! The loop with processes of the test's own: what `fork` starts here is another program, which never reports.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use portico_config::{Config, Parsed, parse};
use portico_supervisor::{
    EventKind, Fork, Forked, Host, InterruptedRequest, LogFiles, ProcessRole, SlotField, Supervisor,
};

/// Starts a shell with each script after the other, or says that this is the child.
struct Scripts(VecDeque<Option<&'static str>>);

struct NoHost;

/// Signals and children belong to the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

impl Fork for Scripts {
    fn fork(&mut self) -> io::Result<Forked> {
        let Some(script) = self.0.pop_front() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let Some(script) = script else { return Ok(Forked::Child) };
        let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn()?;
        Ok(Forked::Parent(child.id()))
    }
}

impl Host for NoHost {
    fn lost_request(&mut self, lost: &InterruptedRequest<'_>) {
        panic!("{lost:?}");
    }

    fn reopen_logs(&mut self) -> LogFiles {
        LogFiles::default()
    }

    fn listeners(&self) -> Vec<(BorrowedFd<'_>, String)> {
        Vec::new()
    }
}

fn run(workers: u32, scripts: &[Option<&'static str>]) -> (ProcessRole, Supervisor) {
    let config = Arc::new(config(workers));
    let mut supervisor = Supervisor::new(config, Box::new(NoHost), 0).expect("memory for the scoreboard");
    let role = supervisor.run(&mut Scripts(scripts.iter().copied().collect()));
    (role, supervisor)
}

#[test]
fn a_server_whose_first_worker_ends_in_its_boot_ends_with_its_status() {
    let _alone = ALONE.lock().unwrap();
    let (role, supervisor) = run(2, &[Some("exit 4"), Some("exec sleep 60")]);
    assert!(matches!(role, ProcessRole::Exit(4)), "{role:?}");
    let board = supervisor.scoreboard();
    assert!(board.slots().all(|(_, slot)| slot.get(SlotField::Pid) == 0), "nobody is left");
    let events: Vec<_> = board.events().read().iter().map(|event| (event.kind, event.slot)).collect();
    let begun = [(EventKind::Start, Some(0)), (EventKind::Start, Some(1)), (EventKind::Death, Some(0))];
    assert_eq!(events[..3], begun, "{:?}", board.events().read());
}

#[test]
fn a_server_that_cannot_fork_ends() {
    let _alone = ALONE.lock().unwrap();
    let (role, _) = run(1, &[]);
    assert!(matches!(role, ProcessRole::Exit(1)), "{role:?}");
}

#[test]
fn a_child_gets_its_post_and_nothing_of_the_supervisor() {
    let _alone = ALONE.lock().unwrap();
    let (role, supervisor) = run(2, &[Some("exec sleep 60"), None]);
    let ProcessRole::Worker(post) = role else { panic!("{role:?}") };
    assert_eq!((post.slot, post.generation), (1, 0));
    // In this process, where there was no fork, that was the only other end.
    assert_eq!(post.control.command().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let pid = supervisor.scoreboard().slot(0).unwrap().get(SlotField::Pid).to_string();
    let killed = Command::new("/bin/kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
}

fn config(workers: u32) -> Config {
    let args = ["--workers", &workers.to_string(), "app:app"].map(Into::into);
    match parse(args.into_iter(), &|_| None) {
        Ok(Parsed::Run(resolved)) => resolved.config,
        other => panic!("{other:?}"),
    }
}
