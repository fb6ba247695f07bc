//! What is wrong with a server, in one sentence made from its numbers: the first thing that the page and `portico
//! top` show.
//!
//! Findings are ordered: one that explains others comes first, and the first that holds is told. None guesses at a
//! cause: each number stands in the snapshot, in the rates or in a stack.

use serde::Serialize;

use crate::history::ServerEvent;
use crate::rates::ServerRates;
use crate::snapshot::{RequestPhase, ServerState, ShownRequest, SlotFacts, Snapshot, WorkerState};

/// What is wrong, or that nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sentence {
    /// How much it matters.
    pub level: Level,
    /// For people.
    pub text: String,
}

/// How much a sentence matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is wrong.
    Calm,
    /// Worth a look.
    Busy,
    /// Clients notice it.
    Trouble,
}

/// Where most of the threads are, by a look at their stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrequentStack {
    threads: u64,
    place: String,
}

/// How long a worker's watch may be silent: it looks every 100 ms, and the machine may be loaded.
const SILENT_SECONDS: f64 = 10.0;

/// Calls that take longer are worth naming while nothing else is wrong.
const LONG_SECONDS: f64 = 10.0;

/// All threads busy for so long is no burst any more.
const EXHAUSTED_SECONDS: f64 = 10.0;

/// Clients notice a wait for a thread of this length.
const WAIT_SECONDS: f64 = 1.0;

/// The same of every twentieth request, while a thread is free now and then.
const WAIT_P95_SECONDS: f64 = 0.1;

/// The part of failed responses that is told, and how many there must be: one of ten is no rate.
const FAILED_PART: f64 = 0.05;
const FAILED_COUNT: f64 = 3.0;

/// How long a worker's death is told, and when deaths are a loop.
const DEATH_SECONDS: f64 = 60.0;
const LOOP_SECONDS: f64 = 300.0;
const LOOP_DEATHS: usize = 3;

/// The kind of the events that tell of a worker's death.
const DEATH: &str = "death";

/// A longer path is cut: the sentence is read at a glance.
const PATH_CHARS_MAX: usize = 60;

impl Sentence {
    /// Of the server `now`, what it did lately, and where its threads were, as far as that is known.
    pub fn of(now: &Snapshot, rates: Option<&ServerRates>, stack: Option<&FrequentStack>) -> Self {
        let (level, text) = stopping(now)
            .or_else(|| unserved(now))
            .or_else(|| silent(now))
            .or_else(|| dying(now, LOOP_SECONDS, LOOP_DEATHS))
            .or_else(|| exhausted(now, stack))
            .or_else(|| failing(rates?))
            .or_else(|| dying(now, DEATH_SECONDS, 1))
            .or_else(|| written_off(now))
            .or_else(|| missing(now))
            .or_else(|| waiting(now, rates))
            .or_else(|| long_running(now))
            .unwrap_or_else(|| (Level::Calm, calm(now, rates)));
        Self { level, text: format!("{text}.") }
    }
}

impl FrequentStack {
    /// That `threads` threads are at a stack of these frames, as Python prints them, the most recent one last.
    pub fn of(frames: &str, threads: u64) -> Self {
        let read: Vec<Frame<'_>> = frames.lines().filter_map(Frame::read).collect();
        let own = read.iter().rev().find(|frame| !frame.is_library());
        let place = match (read.last(), own) {
            (Some(last), Some(own)) if last != own => {
                format!("{} {} ({}:{})", last.module(), last.name, own.file_name(), own.line)
            }
            (Some(last), _) => format!("{} ({}:{})", last.name, last.file_name(), last.line),
            (None, _) => "code without Python frames".to_owned(),
        };
        Self { threads, place }
    }
}

/// One frame of a stack.
#[derive(PartialEq)]
struct Frame<'a> {
    path: &'a str,
    line: &'a str,
    name: &'a str,
}

impl<'a> Frame<'a> {
    /// From `File "PATH", line 7, in NAME`, or without the second comma, as the faulthandler has it. Other lines
    /// are those of the source.
    fn read(line: &'a str) -> Option<Self> {
        let (path, rest) = line.trim_start().strip_prefix("File \"")?.rsplit_once("\", line ")?;
        let (line, name) = rest.split_once(" in ")?;
        Some(Self { path, line: line.trim_end_matches(','), name })
    }

    /// Whether it is of an installed package or of Python itself, as far as its path tells.
    fn is_library(&self) -> bool {
        self.path.starts_with('<')
            || ["/site-packages/", "/dist-packages/"].iter().any(|folder| self.path.contains(folder))
            || self.path.rsplit_once("/lib/python3").is_some_and(|(_, rest)| rest.contains('/'))
    }

    fn file_name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Its package and module: `psycopg/connection`.
    fn module(&self) -> String {
        let mut parts = self.path.trim_end_matches(".py").rsplit('/');
        match (parts.next(), parts.next()) {
            // Of the standard library everybody knows the modules, and its folder only says which Python that is.
            (Some(file), Some(folder))
                if !["", "site-packages", "dist-packages"].contains(&folder)
                    && !folder.starts_with("python3.") =>
            {
                format!("{folder}/{file}")
            }
            (file, _) => file.unwrap_or_default().to_owned(),
        }
    }
}

type SentencePart = Option<(Level, String)>;

fn stopping(now: &Snapshot) -> SentencePart {
    (now.state == ServerState::Stopping).then(|| {
        let still = match now.requests.first() {
            None => "no request runs any more".to_owned(),
            Some(oldest) => {
                let age = duration(oldest.age_seconds);
                format!(
                    "{} still {}, the oldest for {age}",
                    count(now.requests.len() as u64, "request"),
                    match now.requests.len() {
                        1 => "runs",
                        _ => "run",
                    }
                )
            }
        };
        (Level::Busy, format!("The server is stopping: {still}"))
    })
}

fn unserved(now: &Snapshot) -> SentencePart {
    if slots(now, WorkerState::Ready).next().is_some() {
        return None;
    }
    let text = match slots(now, WorkerState::Starting).next() {
        None if now.slots.is_empty() => "No worker runs".to_owned(),
        None => "No worker serves: all are ending".to_owned(),
        Some(first) => format!("No worker serves: {}", told_start(first)),
    };
    Some((Level::Trouble, text))
}

fn silent(now: &Snapshot) -> SentencePart {
    let silence = |slot: &SlotFacts| slot.heartbeat_seconds.filter(|seconds| *seconds > SILENT_SECONDS);
    let (slot, seconds) = now.slots.iter().find_map(|slot| Some((slot, silence(slot)?)))?;
    let time = duration(seconds);
    Some((
        Level::Trouble,
        format!("The worker in slot {} (pid {}) has been silent for {time}", slot.slot, slot.pid),
    ))
}

fn dying(now: &Snapshot, seconds: f64, least: usize) -> SentencePart {
    let is_recent = |event: &&ServerEvent| event.kind == DEATH && now.unix_time - event.unix_time < seconds;
    let deaths: Vec<&ServerEvent> = now.events.iter().filter(is_recent).collect();
    let last = deaths.last().filter(|_| deaths.len() >= least)?;
    let (ago, text) = (duration(now.unix_time - last.unix_time), last.text.trim_end_matches('.'));
    Some(match deaths.len() {
        many if many >= LOOP_DEATHS => {
            let since = duration(now.unix_time - deaths[0].unix_time);
            (Level::Trouble, format!("{many} workers have died in {since}, the last {ago} ago: {text}"))
        }
        _ => (Level::Busy, format!("A worker died {ago} ago: {text}")),
    })
}

fn exhausted(now: &Snapshot, stack: Option<&FrequentStack>) -> SentencePart {
    let (threads, busy) = (threads(now), now.busy());
    if threads == 0 || busy < threads {
        return None;
    }
    // No thread has come free since the one that began last.
    let in_calls = now.requests.iter().filter(|request| has_thread(request));
    let since = in_calls.map(running_seconds).min_by(f64::total_cmp).unwrap_or_default();
    let mut text = match threads {
        1 => "The only thread is busy".to_owned(),
        _ => format!("All {threads} threads are busy"),
    };
    if since >= 1.0 {
        text.push_str(&format!(", none has come free for {}", duration(since)));
    }
    let oldest = now.queue.oldest_seconds.filter(|_| now.queue.length > 0);
    match now.queue.length {
        0 => text.push_str("; no request waits yet"),
        length => {
            let verb = if length == 1 { "waits" } else { "wait" };
            text.push_str(&format!("; {} {verb}", count(length, "request")));
        }
    }
    match oldest {
        Some(oldest) if now.queue.length > 1 => {
            text.push_str(&format!(", the oldest {}", duration(oldest)));
        }
        Some(oldest) => text.push_str(&format!(" for {}", duration(oldest))),
        None => {}
    }
    if let Some(stack) = stack.filter(|stack| stack.threads > 1 && stack.threads <= threads) {
        text.push_str(&format!("; {} of {threads} are in {}", stack.threads, stack.place));
    }
    let waits =
        now.queue.length > 0 && (since >= WAIT_SECONDS || oldest.is_some_and(|time| time >= WAIT_SECONDS));
    let level = if waits || since >= EXHAUSTED_SECONDS { Level::Trouble } else { Level::Busy };
    Some((level, text))
}

fn failing(rates: &ServerRates) -> SentencePart {
    let part = rates.errors_per_second / rates.requests_per_second.max(f64::MIN_POSITIVE);
    if part < FAILED_PART || rates.errors_per_second * rates.seconds < FAILED_COUNT {
        return None;
    }
    let (percent, seconds) = (part * 100.0, duration(rates.seconds));
    let rate = per_second(rates.errors_per_second);
    Some((
        Level::Trouble,
        format!("{percent:.0} % of the responses of the last {seconds} are 5xx, {rate} a second"),
    ))
}

fn written_off(now: &Snapshot) -> SentencePart {
    let lost = now.slots.iter().fold(0_u64, |sum, slot| sum.saturating_add(slot.lost));
    let oldest = now.requests.iter().find(|request| request.phase == RequestPhase::Lost);
    let told = oldest.map(|request| {
        format!("; the oldest has run {} for {}", named(request), duration(running_seconds(request)))
    });
    let (verb, whose) = if lost == 1 { ("is", "its call") } else { ("are", "their calls") };
    let text = format!(
        "{} {verb} written off, because {whose} did not end in time{}",
        count(lost, "thread"),
        told.unwrap_or_default()
    );
    (lost > 0).then_some((Level::Busy, text))
}

fn missing(now: &Snapshot) -> SentencePart {
    let ready = slots(now, WorkerState::Ready).count() as u64;
    let starting = slots(now, WorkerState::Starting).next()?;
    let text = format!("{ready} of {} workers serve: {}", now.workers_wanted, told_start(starting));
    (ready < now.workers_wanted).then_some((Level::Busy, text))
}

fn waiting(now: &Snapshot, rates: Option<&ServerRates>) -> SentencePart {
    let p95 = rates.and_then(|rates| rates.queue_wait.p95).filter(|p95| *p95 > WAIT_P95_SECONDS);
    let text = match (p95, now.queue.length) {
        (None, 0) => return None,
        (Some(p95), _) => format!("One in twenty requests waits {} or longer for a thread", duration(p95)),
        (None, 1) => "1 request waits for a thread".to_owned(),
        (None, length) => format!("{length} requests wait for a thread"),
    };
    let (busy, threads) = (now.busy(), threads(now));
    let level = if p95.is_some_and(|p95| p95 > WAIT_SECONDS) { Level::Trouble } else { Level::Busy };
    Some((level, format!("{text}; {busy} of {threads} threads are busy")))
}

fn long_running(now: &Snapshot) -> SentencePart {
    let is_long = |request: &&ShownRequest| {
        request.phase == RequestPhase::Running && running_seconds(request) > LONG_SECONDS
    };
    let long: Vec<&ShownRequest> = now.requests.iter().filter(is_long).collect();
    let oldest = long.iter().max_by(|a, b| running_seconds(a).total_cmp(&running_seconds(b)))?;
    let (name, time) = (named(oldest), duration(running_seconds(oldest)));
    let text = match long.len() {
        1 => format!("1 request has run for {time}: {name}"),
        many => format!(
            "{many} requests have run for more than {}, the oldest for {time}: {name}",
            duration(LONG_SECONDS)
        ),
    };
    let free = threads(now).saturating_sub(now.busy());
    let verb = if free == 1 { "is" } else { "are" };
    Some((Level::Busy, format!("{text}; {free} of {} {verb} free", count(threads(now), "thread"))))
}

fn calm(now: &Snapshot, rates: Option<&ServerRates>) -> String {
    let mut text =
        format!("All is calm: {} of {} busy, no request waits", now.busy(), count(threads(now), "thread"));
    if let Some(rates) = rates {
        text.push_str(&format!(", {} requests a second", per_second(rates.requests_per_second)));
        if let Some(p95) = rates.latency.p95 {
            text.push_str(&format!(", 95 % within {}", duration(p95)));
        }
    }
    text
}

fn slots(now: &Snapshot, state: WorkerState) -> impl Iterator<Item = &SlotFacts> {
    now.slots.iter().filter(move |slot| slot.state == state)
}

/// Threads of the workers that serve.
fn threads(now: &Snapshot) -> u64 {
    let serving = now.slots.iter().filter(|slot| slot.state != WorkerState::Starting);
    serving.fold(0, |sum, slot| slot.threads.saturating_add(sum))
}

fn has_thread(request: &ShownRequest) -> bool {
    matches!(request.phase, RequestPhase::Running | RequestPhase::AwaitingClient)
}

/// How long its call runs.
fn running_seconds(request: &ShownRequest) -> f64 {
    (request.age_seconds - request.queued_seconds).max(0.0)
}

fn told_start(slot: &SlotFacts) -> String {
    format!("slot {} has been starting for {}", slot.slot, duration(slot.uptime_seconds))
}

fn named(request: &ShownRequest) -> String {
    let path = match request.path.char_indices().nth(PATH_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &request.path[..cut]),
        None => request.path.clone(),
    };
    format!("{} {path}", request.method)
}

fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn per_second(rate: f64) -> String {
    if rate < 9.95 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// Two figures at most, which is what is read at a glance.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let whole = seconds as u64;
    match whole {
        0 if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3_600 => format!("{} min", whole / 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests;
