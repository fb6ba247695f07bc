//! Requests that wait for work off the engine, and what becomes of its results.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};

use super::super::tests::{Fixture, GET, fixture, seconds};
use super::*;
use crate::blocking_work::{COMPUTE_JOBS_MAX, DISK_JOBS_MAX};

/// A request that waits for a job which ends when something is sent.
fn waiting() -> (Fixture<UnixStream>, Sender<()>) {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    let (go, wait) = channel();
    let job: ExchangeJob = Box::new(move || {
        wait.recv_timeout(seconds(10)).unwrap();
        Box::new(|connection, context| connection.respond_instead(Reply::QueueTimeout, context))
    });
    assert_eq!(fixture.connection.await_work(Effort::Disk, job, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Work, WORK_TIMEOUT)));
    (fixture, go)
}

fn status(fixture: &mut Fixture<UnixStream>) -> String {
    String::from_utf8_lossy(&fixture.sent()).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_request_goes_on_with_the_result() {
    let (mut fixture, go) = waiting();
    assert!(fixture.sent().is_empty());
    go.send(()).unwrap();
    assert_eq!(fixture.take_result(), Some(Step::Keep));
    assert_eq!(status(&mut fixture), "503");
    assert!(fixture.connection.is_idle(), "the connection is kept");
}

#[test]
fn a_result_that_comes_too_late_is_dropped() {
    let (mut fixture, go) = waiting();
    fixture.pass(Deadline::Work);
    assert_eq!(status(&mut fixture), "503");
    assert_eq!(fixture.receive(GET), Step::Ready, "the next request is another one");
    go.send(()).unwrap();
    assert_eq!(fixture.take_result(), None);
    assert!(fixture.sent().is_empty());
}

#[test]
fn a_result_for_a_request_that_has_its_response_is_dropped() {
    let (mut fixture, go) = waiting();
    // The client takes nothing, so that the response to this request is not written.
    fixture.connection.io.outbox.buffer().extend_from_slice(&vec![0; 8 << 20]);
    fixture.pass(Deadline::Work);
    assert!(fixture.connection.exchange.is_some() && !fixture.connection.is_idle(), "it is not written yet");
    go.send(()).unwrap();
    assert_eq!(fixture.take_result(), None);
}

#[test]
fn the_time_for_work_is_kept_while_there_is_nothing_to_write() {
    let (mut fixture, go) = waiting();
    assert_eq!(fixture.connection.handle_event(super::super::tests::ROOM, &mut fixture.context), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Work, WORK_TIMEOUT)));
    go.send(()).unwrap();
}

#[test]
fn a_connection_waits_for_room_once() {
    let mut context = fixture(&[]).context;
    for _ in 0..3 {
        context.note_starved();
    }
    assert_eq!(context.starved.len(), 1);
}

#[test]
fn a_job_that_panics_costs_its_request() {
    let mut fixture = fixture(&[]);
    assert_eq!(fixture.receive(GET), Step::Ready);
    let job: ExchangeJob = Box::new(|| panic!("one of the test's own"));
    fixture.connection.await_work(Effort::Compute, job, &mut fixture.context);
    assert_eq!(fixture.take_result(), Some(Step::Keep));
    assert_eq!(status(&mut fixture), "500");
}

#[test]
fn with_no_place_in_its_line_a_request_is_refused() {
    for (effort, max) in [(Effort::Disk, DISK_JOBS_MAX), (Effort::Compute, COMPUTE_JOBS_MAX)] {
        let (mut fixture, go) = waiting();
        let owner = fixture.connection.job_owner(&fixture.context);
        // The thread may not have taken the first one yet.
        for _ in 0..=max {
            let job: ExchangeJob = Box::new(|| Box::new(|_, _| Step::Keep));
            _ = fixture.context.submit(0, (effort, owner), job, |_, _| Step::Keep);
        }
        let job: ExchangeJob = Box::new(|| Box::new(|_, _| panic!("it was not to be run")));
        fixture.connection.await_work(effort, job, &mut fixture.context);
        let sent = String::from_utf8(fixture.sent()).unwrap();
        assert!(sent.starts_with("HTTP/1.1 503 ") && sent.contains("Retry-After: 1\r\n"), "{sent}");
        go.send(()).unwrap();
    }
}

/// Has the thread wait until what is returned is dropped.
fn hold(fixture: &Fixture<UnixStream>) -> Sender<()> {
    let (go, wait) = channel::<()>();
    let (begin, begun) = channel::<()>();
    let job = move |_| -> Change {
        _ = begin.send(());
        _ = wait.recv_timeout(seconds(10));
        Box::new(|_| {})
    };
    fixture.context.submit_for_all(Effort::Disk, JobOwner::SERVER, job).unwrap();
    // From then on it has no place in the line.
    begun.recv_timeout(seconds(10)).unwrap();
    go
}

/// Another client has a job, where the line is full.
fn submit_for_another(fixture: &Fixture<UnixStream>, effort: Effort) {
    let client = JobClient::Network([10, 0, 0, 1].into());
    let owner = JobOwner { client, connection: 0 };
    fixture.context.submit_for_all(effort, owner, |_| Box::new(|_| {})).unwrap();
}

#[test]
fn a_request_whose_place_goes_to_another_client_is_refused() {
    for (effort, max) in [(Effort::Disk, DISK_JOBS_MAX), (Effort::Compute, COMPUTE_JOBS_MAX)] {
        let mut fixture = fixture(&[]);
        let go = hold(&fixture);
        assert_eq!(fixture.receive(GET), Step::Ready);
        let owner = fixture.connection.job_owner(&fixture.context);
        for _ in 1..max {
            fixture.context.submit_for_all(effort, owner, |_| Box::new(|_| {})).unwrap();
        }
        let job: ExchangeJob = Box::new(|| Box::new(|_, _| panic!("it was not to be run")));
        assert_eq!(fixture.connection.await_work(effort, job, &mut fixture.context), Step::Keep);
        submit_for_another(&fixture, effort);
        assert_eq!(fixture.take_result(), Some(Step::Keep));
        assert_eq!(status(&mut fixture), "503");
        drop(go);
    }
}

#[test]
fn a_response_whose_place_goes_to_another_client_waits_for_another_one() {
    let mut fixture = fixture(&[]);
    let go = hold(&fixture);
    let owner = fixture.connection.job_owner(&fixture.context);
    for _ in 1..DISK_JOBS_MAX {
        fixture.context.submit_for_all(Effort::Disk, owner, |_| Box::new(|_| {})).unwrap();
    }
    assert_eq!(send_cold(&mut fixture, 100_000), Step::Keep);
    submit_for_another(&fixture, Effort::Disk);
    let displaced = fixture.take_result();
    assert_eq!(displaced, Some(Step::Keep));
    assert_eq!(fixture.context.starved.pop_front(), Some(fixture.context.working));
    assert_eq!(fixture.due(), Some((Deadline::Work, WORK_TIMEOUT)));
    drop(go);
}

/// A file on a disk whose pages are not in memory.
fn cold(length: usize) -> Arc<File> {
    let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    file.write_all(&vec![1; length]).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    Arc::new(file)
}

/// A response that is a cold file of so many bytes; what the first try to send it comes to.
fn send_cold(fixture: &mut Fixture<UnixStream>, length: usize) -> Step {
    assert_eq!(fixture.receive(GET), Step::Ready);
    fixture.begin_call();
    assert_eq!(fixture.start(Some(length as u64), b""), Step::Keep);
    let file = cold(length);
    fixture.respond(ResponsePart::File { file, offset: 0, length: length as u64 })
}

#[test]
fn a_response_waits_for_its_files_pages() {
    let mut fixture = fixture(&[]);
    assert_eq!(send_cold(&mut fixture, 100_000), Step::Keep);
    assert_eq!(fixture.due(), Some((Deadline::Work, WORK_TIMEOUT)));
    let head = String::from_utf8(fixture.sent()).unwrap();
    assert!(head.ends_with("\r\n\r\n"), "nothing of the file: {head}");
    fixture.take_result().expect("it is awaited");
    assert_eq!(fixture.sent().len(), 100_000);
}

#[test]
fn a_response_whose_pages_do_not_come_is_cut() {
    let mut fixture = fixture(&[]);
    let owner = fixture.connection.job_owner(&fixture.context);
    let (go, wait) = channel::<()>();
    fixture
        .context
        .submit_for_all(Effort::Disk, owner, move |_| {
            _ = wait.recv_timeout(seconds(10));
            Box::new(|_| {})
        })
        .unwrap();
    send_cold(&mut fixture, 100_000);
    assert_eq!(fixture.pass(Deadline::Work), Step::Close);
    drop(go);
}

#[test]
fn with_no_place_for_its_pages_a_response_waits_for_one() {
    let mut fixture = fixture(&[]);
    let go = hold(&fixture);
    let owner = fixture.connection.job_owner(&fixture.context);
    while fixture.context.submit_for_all(Effort::Disk, owner, |_| Box::new(|_| {})).is_ok() {}
    assert_eq!(send_cold(&mut fixture, 100_000), Step::Keep);
    assert_eq!(fixture.context.starved.pop_front(), Some(fixture.context.working));
    drop(go);
    // As the engine does with each result: there is room by then.
    let sent = (0..=DISK_JOBS_MAX + 1).any(|_| {
        let result = fixture.next_result();
        fixture.take(result);
        fixture.connection.proceed(&mut fixture.context);
        fixture.context.starved.clear();
        fixture.sent().len() >= 100_000
    });
    assert!(sent);
}
