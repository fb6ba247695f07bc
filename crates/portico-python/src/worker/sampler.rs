//! Samples the stacks of this worker's calls for `portico profile`.
//!
//! With a GIL the stacks come from `sys._current_frames()`. That needs the interpreter, which others give up
//! between two instructions, when they wait, and when the sampler has waited for the switch interval: that is
//! where samples fall. Where C code keeps it for longer, stacks come from the faulthandler, which needs none.
//! Without a GIL nobody may look at another thread's frames; each thread in a call is interrupted by a signal and
//! writes its own.
//!
//! A sample counts for the time since the sample before it: a short call that is seen stands for those that were
//! not. A sample that comes late counts for at most the age of its call, or for one period.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use portico_supervisor::{InspectionNumber, Running, ThreadState, now_nanos};
use portico_worker::{FrameNumber, Noted, StackTable};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::interpreter;
use crate::stacks::{self, Stacks};
use crate::thread_status::{ThreadStatus, ThreadStatuses};

/// The state of one profile. Whoever takes a sample has it.
pub(super) struct Sampler {
    records: Arc<ThreadStatuses>,
    stacks: Arc<Stacks>,
    table: StackTable,
    /// Where time of a processor is counted: what each thread had used when it was last looked at.
    cpu: Option<HashMap<u64, ThreadClock>>,
    /// The numbers of frames, by their code and the place in it.
    known: HashMap<(usize, i64), Option<FrameNumber>>,
    /// Their code, so that no other takes its place in memory.
    codes: HashMap<usize, Py<PyAny>>,
    /// Nanoseconds between two samples.
    period: u64,
    /// When it last looked.
    last: u64,
    /// The frames of one stack, the innermost first. Reused from sample to sample.
    frames: Vec<Option<FrameNumber>>,
    /// A sample that comes later is nobody's.
    is_over: bool,
}

/// What a thread has used of a processor.
struct ThreadClock {
    file: File,
    nanos: u64,
}

/// Frames of one stack that are looked at.
const FRAMES_MAX: usize = 1_000;

/// Places in code whose frames are remembered.
const KNOWN_MAX: usize = 64 * 1024;

/// What stands in the place of the innermost frame.
const IN_SERVER: &str = "[in the server]";
const AWAITING_CLIENT: &str = "[waits for its client]";
const WRITTEN_OFF: &str = "[written off by --timeout]";

impl Sampler {
    /// Looks at the calls in `records` from now on.
    pub(super) fn new(
        records: &Arc<ThreadStatuses>,
        stacks: &Arc<Stacks>,
        of_cpu: bool,
        period: u64,
    ) -> Self {
        Self {
            records: Arc::clone(records),
            stacks: Arc::clone(stacks),
            table: StackTable::default(),
            cpu: of_cpu.then(HashMap::new),
            known: HashMap::new(),
            codes: HashMap::new(),
            period,
            last: now_nanos(),
            frames: Vec::new(),
            is_over: false,
        }
    }

    /// Whether a sample needs the interpreter: there is a GIL, and a call to look at.
    pub(super) fn needs_interpreter(&self) -> bool {
        !interpreter::has_no_gil()
            && self.records.iter().any(|record| record.thread().state() != ThreadState::Idle)
    }

    /// No sample is taken any more.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// The time until now has been looked at.
    fn end_sample(&mut self, now: u64) {
        let room = self.records.place().slot().inspection();
        room.add(InspectionNumber::Samples, 1);
        room.set_number(InspectionNumber::LastNanos, now);
        self.last = now;
    }

    /// Takes a sample of all calls, with the interpreter.
    pub(super) fn sample(&mut self, py: Python<'_>) {
        if self.is_over {
            return;
        }
        let (records, now) = (Arc::clone(&self.records), now_nanos());
        let Ok(current) = stacks::current_frames(py) else { return self.fail() };
        let has_greenlets = records.iter().any(|record| record.greenlet().is_some());
        let greenlet = has_greenlets.then(|| records.greenlet_that_runs(py)).flatten();
        for record in records.iter() {
            let Some(running) = record.thread().running() else { continue };
            let runs = record.greenlet().is_none() || greenlet == Some(record.index());
            let Some(micros) = self.spent(&running, record, runs, now) else { continue };
            self.frames.clear();
            match self.push_frames(py, &current, record, runs) {
                Ok(()) => self.note(record, &running, micros),
                Err(_) => self.fail(),
            }
        }
        self.end_sample(now);
    }

    /// Takes a sample of all calls without the interpreter: there is no GIL, or C code has kept it for `held`
    /// nanoseconds since the last sample.
    pub(super) fn sample_outside(&mut self, held: u64) {
        let (records, now) = (Arc::clone(&self.records), now_nanos());
        if held > 0 {
            self.records.place().slot().inspection().add(InspectionNumber::HeldNanos, held);
        }
        let mut dumped = None;
        for record in records.iter() {
            let Some(running) = record.thread().running() else { continue };
            let Some(micros) = self.spent(&running, record, true, now) else { continue };
            let written = match self.stacks.frames_by_signal(running.native_id) {
                Some(frames) => frames,
                None => {
                    let stacks = dumped.get_or_insert_with(|| self.stacks.dump(&records).unwrap_or_default());
                    let own = stacks.iter().find(|stack| stack.ident == record.thread_ident());
                    own.map(|stack| stack.frames.lines().map(str::to_owned).collect()).unwrap_or_default()
                }
            };
            self.push_written(&written);
            self.note(record, &running, micros);
        }
        self.end_sample(now);
    }

    /// The frames of a call, the innermost first.
    fn push_frames(
        &mut self,
        py: Python<'_>,
        current: &Bound<'_, PyDict>,
        record: &ThreadStatus,
        runs: bool,
    ) -> PyResult<()> {
        let mut frame = match runs {
            true => current.get_item(record.thread_ident())?,
            false => record.greenlet().and_then(|greenlet| greenlet.frame(py)),
        };
        while let Some(found) = frame.filter(|frame| !frame.is_none() && self.frames.len() < FRAMES_MAX) {
            let number = self.frame(&found)?;
            self.frames.push(number);
            frame = Some(found.getattr(intern!(py, "f_back"))?);
        }
        Ok(())
    }

    /// The same of frames as the faulthandler has written them, the innermost last.
    fn push_written(&mut self, frames: &[String]) {
        let records = Arc::clone(&self.records);
        let entries = records.place().slot().inspection().entries();
        self.frames.clear();
        for frame in frames.iter().rev() {
            let number = match stacks::parts(frame) {
                Some((file, line, name)) => self.table.frame(entries, name, file, line),
                None => self.table.note(entries, frame.trim()),
            };
            self.frames.push(number);
        }
    }

    fn frame(&mut self, frame: &Bound<'_, PyAny>) -> PyResult<Option<FrameNumber>> {
        let py = frame.py();
        let code = frame.getattr(intern!(py, "f_code"))?;
        let place = (code.as_ptr() as usize, frame.getattr(intern!(py, "f_lasti"))?.extract()?);
        if let Some(number) = self.known.get(&place) {
            return Ok(*number);
        }
        let text = |name: &Bound<'_, _>| -> PyResult<String> {
            Ok(code.getattr(name)?.str()?.to_string_lossy().into_owned())
        };
        // Since Python 3.11.
        let qualified = text(intern!(py, "co_qualname")).or_else(|_| text(intern!(py, "co_name")))?;
        let file = text(intern!(py, "co_filename"))?;
        // None for an instruction that stands for no line.
        let line: Option<u32> = frame.getattr(intern!(py, "f_lineno"))?.extract()?;
        let entries = self.records.place().slot().inspection().entries();
        let number = self.table.frame(entries, &qualified, &file, line.unwrap_or_default());
        if self.known.len() < KNOWN_MAX {
            self.codes.entry(place.0).or_insert_with(|| code.unbind());
            self.known.insert(place, number);
        }
        Ok(number)
    }

    /// Microseconds that the call has spent since the last sample; `None` where it has spent none.
    fn spent(&mut self, running: &Running, record: &ThreadStatus, runs: bool, now: u64) -> Option<u64> {
        let since = now.saturating_sub(self.last);
        let age = now.saturating_sub(running.begun_nanos);
        let nanos = match &mut self.cpu {
            None => since.min(age.max(self.period)),
            Some(_) if !runs => 0,
            // It may not have been looked at with the last sample, when it had no call.
            Some(clocks) => used_since(clocks, record.thread().native_id())?.min(since),
        };
        Some(nanos.div_ceil(1_000)).filter(|micros| *micros > 0)
    }

    /// Counts the frames that were found for the call, if it is still the same.
    fn note(&mut self, record: &ThreadStatus, running: &Running, micros: u64) {
        if record.thread().sequence() != running.sequence {
            return;
        }
        let room = self.records.place().slot().inspection();
        let entries = room.entries();
        let in_place = match running.state {
            ThreadState::AwaitingClient => Some(AWAITING_CLIENT),
            ThreadState::Lost => Some(WRITTEN_OFF),
            _ if self.frames.is_empty() => Some(IN_SERVER),
            _ => None,
        };
        if let Some(text) = in_place {
            self.frames.insert(0, self.table.note(entries, text));
        }
        let method = String::from_utf8_lossy(&running.method);
        let tag = match self.records.route(record.index(), running.sequence) {
            Some(route) => self.table.tag(entries, &method, &route),
            None => self.table.tag(entries, &method, &String::from_utf8_lossy(running.path())),
        };
        match self.table.add(entries, tag, &self.frames, micros) {
            Noted::Whole => {}
            Noted::Cut => room.add(InspectionNumber::CutStacks, 1),
            Noted::Dropped => room.add(InspectionNumber::Dropped, micros),
        }
    }

    fn fail(&self) {
        self.records.place().slot().inspection().add(InspectionNumber::Failed, 1);
    }
}

/// Nanoseconds of a processor that the thread has used since it was last looked at; `None` the first time, and if
/// it has ended.
fn used_since(clocks: &mut HashMap<u64, ThreadClock>, thread: u64) -> Option<u64> {
    if let Some(clock) = clocks.get_mut(&thread) {
        let now = used(&clock.file)?;
        return Some(now.saturating_sub(std::mem::replace(&mut clock.nanos, now)));
    }
    let file = File::open(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let nanos = used(&file)?;
    clocks.insert(thread, ThreadClock { file, nanos });
    None
}

/// What a thread has used, from its file of the scheduler's figures: the first of three numbers.
fn used(file: &File) -> Option<u64> {
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.split(' ').next()?.parse().ok()
}
