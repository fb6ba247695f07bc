//! Outputs whose reader is slow, stands still, or has gone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::record_queue;

const PATIENCE: Duration = Duration::from_secs(20);

fn notice(dropped: u64) -> String {
    format!("dropped {dropped}\n")
}

/// An output into a pipe, and its reader.
fn output() -> (&'static LogOutput, BufReader<File>) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let output = LogOutput::new(LogSink::shared(writer.as_fd()).unwrap(), notice);
    (Box::leak(Box::new(output)), BufReader::new(reader.into()))
}

fn line(number: usize) -> String {
    format!("{number:0>99}\n")
}

/// Logs so many lines, none of which may take long.
fn log(output: &'static LogOutput, numbers: std::ops::Range<usize>, weight: Weight) {
    for number in numbers {
        let started = Instant::now();
        output.write(line(number), weight);
        assert!(started.elapsed() < Duration::from_secs(2), "nobody waits");
    }
}

/// The lines, and how many are told to be missing, up to `last`, which is waited for.
fn read(reader: &mut BufReader<File>, last: &str) -> (Vec<usize>, u64) {
    let (mut numbers, mut dropped) = (Vec::new(), 0);
    let mut text = String::new();
    while text != last {
        text.clear();
        assert_ne!(reader.read_line(&mut text).unwrap(), 0, "the end");
        match text.trim_end().strip_prefix("dropped ") {
            Some(count) => dropped += count.parse::<u64>().unwrap(),
            None => numbers.extend(text.trim_end().parse::<usize>().ok()),
        }
    }
    (numbers, dropped)
}

#[test]
fn what_the_sink_takes_is_written_before_the_call_returns() {
    let (output, mut reader) = output();
    for threaded in [false, true] {
        if threaded {
            output.allow_thread();
        }
        output.write("now\n".to_owned(), Weight::Ordinary);
        assert!(!output.is_waiting());
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        assert_eq!(text, "now\n");
    }
}

/// Nobody reads while far more is logged than there is room for, then somebody does.
fn stand_still(output: &'static LogOutput, mut reader: BufReader<File>, threaded: bool) {
    let count = 3 * record_queue::BYTES_MAX / 100;
    log(output, 0..count, Weight::Ordinary);
    log(output, count..count + 1, Weight::Important);
    assert!(output.is_waiting() && !output.flush(Duration::from_millis(50)));
    let reading = thread::spawn(move || {
        let told = read(&mut reader, "later\n");
        (reader, told)
    });
    assert!(output.flush(PATIENCE), "once it is read, all of it is written");
    output.write("later\n".to_owned(), Weight::Ordinary);
    let (mut reader, (numbers, dropped)) = reading.join().unwrap();
    assert!(numbers.is_sorted(), "in the order in which it came about");
    assert_eq!(numbers.len() + dropped as usize, count + 1, "what is missing is told");
    assert!(dropped as usize > count / 3);
    assert_eq!(numbers.last(), Some(&count), "what matters has had room");
    if threaded {
        log(output, 0..3000, Weight::Ordinary); // More than a pipe takes.
        let reading = thread::spawn(move || read(&mut reader, &line(2999)));
        assert_eq!(reading.join().unwrap(), ((0..3000).collect(), 0), "without any further call");
    }
}

#[test]
fn a_reader_that_stands_still_costs_records_and_holds_up_nobody() {
    let (output, reader) = output();
    output.allow_thread();
    stand_still(output, reader, true);
}

#[test]
fn a_process_of_one_thread_goes_on_when_it_logs_or_looks() {
    let (output, reader) = output();
    stand_still(output, reader, false);
    let (output, mut reader) = self::output();
    log(output, 0..2000, Weight::Ordinary);
    assert!(output.is_waiting());
    let reading = thread::spawn(move || read(&mut reader, &line(1999)));
    let end = Instant::now() + PATIENCE;
    while output.is_waiting() && Instant::now() < end {
        output.proceed();
        thread::yield_now();
    }
    assert_eq!(reading.join().unwrap().0.len(), 2000);
}

#[test]
fn a_reader_that_has_gone_holds_up_nobody_either() {
    let (output, reader) = output();
    drop(reader);
    output.allow_thread();
    log(output, 0..100, Weight::Ordinary);
    assert!(output.flush(PATIENCE), "nothing waits for it");
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    output.replace(LogSink::shared(writer.as_fd()).unwrap());
    output.write("again\n".to_owned(), Weight::Ordinary);
    let told = read(&mut BufReader::new(reader.into()), "dropped 100\n");
    assert_eq!(told, (vec![], 100), "that lines are missing is told when it is written again");
}

#[test]
fn what_waits_for_one_sink_goes_to_the_next_also_from_a_thread_that_waits() {
    for threaded in [false, true] {
        let (output, reader) = output();
        if threaded {
            output.allow_thread();
        }
        log(output, 0..2000, Weight::Ordinary);
        assert!(!output.flush(Duration::from_millis(50)));
        let (other, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let reading = thread::spawn(move || read(&mut BufReader::new(other.into()), &line(1999)));
        output.replace(LogSink::shared(writer.as_fd()).unwrap());
        assert!(output.flush(PATIENCE));
        assert!(reading.join().unwrap().0.len() > 1000);
        drop(reader);
    }
}

#[test]
fn the_thread_ends_when_it_is_to_whether_there_is_a_reader_or_not() {
    for read in [true, false] {
        let (output, reader) = output();
        output.allow_thread();
        let count = if read { 10 } else { 5000 };
        log(output, 0..count, Weight::Ordinary);
        let started = Instant::now();
        output.end_thread(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(output.is_waiting(), !read);
        // It can be begun again.
        output.allow_thread();
        output.end_thread(Duration::ZERO);
        drop(reader);
    }
}

#[test]
fn a_process_that_was_forked_begins_with_nothing_and_one_that_was_forked_unasked_is_not_held_up() {
    let (output, mut reader) = output();
    log(output, 0..5000, Weight::Ordinary);
    output.begin_process();
    assert!(!output.is_waiting(), "what waited is the other's to write");
    let reading = thread::spawn(move || read(&mut reader, "unasked\n"));
    // As after a fork at a moment when another thread had the lock.
    output.owner.store(1, Ordering::Relaxed);
    assert!(!output.is_own());
    output.write("unasked\n".to_owned(), Weight::Ordinary);
    assert!(reading.join().unwrap().0.len() > 100);
    let held = output.lock();
    output.write(String::new(), Weight::Ordinary);
    drop(held);
}
