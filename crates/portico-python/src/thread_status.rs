//! What each thread of this worker is doing: its record on the scoreboard, the call that it is in, and what of
//! Python belongs to that: its greenlet, the exception that is raised in it, callbacks for when its client leaves.
//!
//! A thread writes its own record. Whoever watches claims a call ([`CallStatus`]) before it raises something in
//! it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use portico_log::Occurrences;
use portico_proto::Peer;
use pyo3::prelude::*;

use portico_server::{InterpreterWait, Request, RequestKey};
use portico_supervisor::{Note, ROUTES_MAX, RouteNumber, ThreadRecord, ThreadState, now_nanos, thread_name};
use portico_worker::{CallStatus, ClientState, SlotHandle};

use crate::hub::{self, Greenlet};
use crate::{error, interpreter, raw};

/// The records of a worker's threads on the scoreboard. Each thread writes its own alone.
#[derive(Debug)]
pub(crate) struct ThreadStatuses {
    place: SlotHandle,
    records: Vec<Arc<ThreadStatus>>,
    base: Base,
}

/// The record of one thread: its place on the scoreboard and the call that it is in. Written by its own thread;
/// whoever watches may only claim the call.
#[derive(Debug)]
pub(crate) struct ThreadStatus {
    thread: ThreadRecord<'static>,
    index: usize,
    /// Python's identity of the thread; 0 before it has one.
    ident: AtomicU64,
    /// Where the calls of the thread run in a greenlet: that one.
    greenlet: OnceLock<Greenlet>,
    /// The greenlet has begun with the present call.
    entered: AtomicBool,
    /// The call that the thread is in.
    call: CallStatus<RequestKey>,
    /// Held while an exception is raised in the call; whether the last one is that its client has left.
    claiming: Mutex<bool>,
    /// What is to be called when the client of the present call leaves.
    callbacks: Mutex<Vec<Py<PyAny>>>,
    /// Held while callbacks run.
    calling_back: Mutex<()>,
    /// The route of the present call, if the application has told one: one more than its number. Written by its
    /// own thread.
    route: AtomicU32,
    /// The worker's place, where routes are noted.
    place: SlotHandle,
}

/// One moment as both clocks have it. They are the same clock; only `Instant` keeps its number to itself.
#[derive(Clone, Copy, Debug)]
struct Base {
    instant: Instant,
    nanos: u64,
}

/// Clients leave as often as they like.
static FAILED_CALLBACKS: Occurrences = Occurrences::new();

impl ThreadStatuses {
    /// Records for all threads that `place` has room for.
    pub(crate) fn new(place: SlotHandle) -> Arc<Self> {
        let records = place
            .slot()
            .threads()
            .enumerate()
            .map(|(index, thread)| {
                Arc::new(ThreadStatus {
                    thread,
                    index,
                    ident: AtomicU64::new(0),
                    greenlet: OnceLock::new(),
                    entered: AtomicBool::new(false),
                    call: CallStatus::default(),
                    claiming: Mutex::default(),
                    callbacks: Mutex::default(),
                    calling_back: Mutex::new(()),
                    route: AtomicU32::new(0),
                    place: place.clone(),
                })
            })
            .collect();
        Arc::new(Self { place, records, base: Base { instant: Instant::now(), nanos: now_nanos() } })
    }

    /// The worker's place.
    pub(crate) fn place(&self) -> &SlotHandle {
        &self.place
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ThreadStatus>> {
        self.records.iter()
    }

    /// Record number `index`.
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<ThreadStatus>> {
        self.records.get(index)
    }

    /// The calling thread, whose identity in Python is `ident`, takes record number `index` for as long as it
    /// lives.
    pub(crate) fn enlist(&self, index: usize, ident: u64) {
        if let Some(record) = self.get(index) {
            let native_id = rustix::thread::gettid().as_raw_nonzero().get() as u64;
            record.thread().enlist(native_id, ident);
            record.ident.store(ident, Ordering::Release);
            RECORD.with(|own| drop(own.set(Arc::clone(record))));
            INDEX.set(index);
        }
    }

    /// `greenlet`, which runs, takes record number `index` for as long as it lives: until [`leave_greenlet`].
    pub(crate) fn enlist_greenlet(&self, index: usize, greenlet: Greenlet) {
        if let Some(record) = self.get(index) {
            let native_id = rustix::thread::gettid().as_raw_nonzero().get() as u64;
            record.thread().enlist(native_id, greenlet.ident());
            record.ident.store(greenlet.ident(), Ordering::Release);
            GREENLETS.with_borrow_mut(|known| known.push((greenlet.ident(), Arc::clone(record))));
            drop(record.greenlet.set(greenlet));
        }
    }

    /// The route of request number `sequence` of the thread with this record, if the application has told one.
    pub(crate) fn route(&self, index: usize, sequence: u64) -> Option<String> {
        let number = self.place.slot().route(index, sequence)?;
        self.place.scoreboard().routes().name(number)
    }

    /// Number of the greenlet that runs a call at this moment.
    pub(crate) fn greenlet_that_runs(&self, py: Python<'_>) -> Option<usize> {
        self.records.iter().position(|record| {
            let is_in_call = record.thread().state() == ThreadState::Running;
            is_in_call && record.greenlet().is_some_and(|greenlet| !record.waits(py, greenlet))
        })
    }

    /// The calling thread begins a call for `request`; it ends when what this returns is dropped.
    pub(crate) fn begin(&self, request: &Request) -> InCall<'_> {
        // By its number: counting references to the record would cost as much as all the rest.
        InCall(self.begin_numbered(INDEX.get(), request).map(|record| &**record))
    }

    /// Where the time of the calls of the calling thread is counted.
    pub(crate) fn busy_word(&self) -> Option<&'static AtomicU64> {
        self.get(INDEX.get()).map(|record| record.thread.totals().busy_word())
    }

    /// As [`ThreadStatuses::begin`], for a call that a greenlet will run.
    pub(crate) fn begin_for_greenlet(&self, request: &Request) -> InGreenlet {
        let record = self.begin_numbered(INDEX.get(), request);
        record.inspect(|record| record.entered.store(false, Ordering::SeqCst));
        InGreenlet(record.cloned())
    }

    fn begin_numbered(&self, index: usize, request: &Request) -> Option<&Arc<ThreadStatus>> {
        let record = self.get(index)?;
        let begun_nanos = self.base.nanos_at(request.begun);
        record.begin(
            request.key,
            &Note {
                method: request.head().method(),
                target: request.head().target(),
                peer: address(request.context.sender()),
                begun_nanos,
                queued_nanos: request.queued_nanos,
                route_timeout: request.context.timeout(),
            },
        );
        record.thread.totals().begin_call();
        if let Some(wait) = request.interpreter_wait.filter(|_| !interpreter::has_no_gil()) {
            let InterpreterWait { wait, weight } = wait;
            record.thread.totals().add_interpreter_wait(nanos(wait) * weight, weight);
        }
        Some(record)
    }
}

impl ThreadStatus {
    /// As it stands on the scoreboard.
    #[inline]
    pub(crate) fn thread(&self) -> ThreadRecord<'static> {
        self.thread
    }

    /// Its number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The present call goes on as a WebSocket: it is watched no more.
    pub(crate) fn note_stream(&self) {
        self.thread().set_state(ThreadState::Stream);
        self.cut_call(); // Another thread takes its place.
    }

    /// The present call counts as ended.
    fn cut_call(&self) {
        self.thread.totals().cut_call(self.thread, now_nanos());
    }

    /// The name of its thread.
    pub(crate) fn thread_name(&self) -> String {
        thread_name(self.index)
    }

    /// Its thread's identity in Python; 0 if it has no thread yet.
    pub(crate) fn ident(&self) -> u64 {
        self.ident.load(Ordering::Acquire)
    }

    /// The greenlet in which its calls run, where they do.
    pub(crate) fn greenlet(&self) -> Option<&Greenlet> {
        self.greenlet.get()
    }

    /// The identity of its thread as the interpreter knows it: of the thread in which its greenlet runs.
    pub(crate) fn thread_ident(&self) -> u64 {
        self.greenlet.get().map_or_else(|| self.ident(), |greenlet| greenlet.hub().thread_ident())
    }

    /// The request of call `number`, if the thread is still in it.
    pub(crate) fn request(&self, number: u64) -> Option<RequestKey> {
        self.call.request(number)
    }

    fn begin(&self, request: RequestKey, note: &Note<'_>) {
        self.call.begin(request, || self.thread.begin(note));
    }

    /// Raises `exception`, a class, in call `number`, if the thread is still in it. Returns whether it was.
    ///
    /// What is raised and not noticed is taken back at the call's end.
    pub(crate) fn raise(self: &Arc<Self>, py: Python<'_>, number: u64, exception: &Bound<'_, PyAny>) -> bool {
        let mut claiming = hub::lock(py, &self.claiming);
        if !self.call.claim(number) {
            return false;
        }
        *claiming = false;
        self.raise_claimed(py, number, exception);
        true
    }

    /// Raises it in a call that has been claimed.
    fn raise_claimed(self: &Arc<Self>, py: Python<'_>, number: u64, exception: &Bound<'_, PyAny>) {
        match self.greenlet.get() {
            // It waits: whatever runs in its thread at this moment is another greenlet.
            Some(greenlet) if self.waits(py, greenlet) => {
                let (record, exception) = (Arc::clone(self), exception.clone().unbind());
                greenlet.hub().run_soon(move |py| record.throw(py, number, &exception));
            }
            _ => raw::raise_in_thread(py, self.thread_ident(), Some(exception)),
        }
    }

    /// As [`ThreadStatus::raise`], where the application does not know already that its client has left. The
    /// engine knows no client either whose response has been completed meanwhile.
    ///
    /// First it claims, then it looks; [`ThreadStatus::forget_disconnect`] comes after the standing has changed,
    /// and then looks for a claim. So one of the two sees the other, also where both run at the same time.
    pub(crate) fn raise_if_open(self: &Arc<Self>, py: Python<'_>, number: u64, exception: &Bound<'_, PyAny>) {
        let mut claiming = hub::lock(py, &self.claiming);
        if self.standing() == ClientState::Open && self.call.claim(number) {
            fence(Ordering::SeqCst);
            if self.standing() == ClientState::Open {
                *claiming = true;
                self.raise_claimed(py, number, exception);
            }
        }
    }

    /// Takes back what [`ThreadStatus::raise_if_open`] has raised and has not struck yet. To be called in the
    /// call, once its standing is another.
    #[inline]
    pub(crate) fn forget_disconnect(&self, py: Python<'_>) {
        fence(Ordering::SeqCst);
        if self.call.is_claimed() {
            self.take_back_disconnect(py);
        }
    }

    #[cold]
    fn take_back_disconnect(&self, py: Python<'_>) {
        let mut claiming = hub::lock(py, &self.claiming);
        if mem::take(&mut *claiming) && self.greenlet.get().is_none() {
            raw::raise_in_thread(py, self.ident(), None);
        }
    }

    /// Whether the call waits: for `greenlet`, in it, or for its client, where no frame of Python's is about.
    fn waits(&self, py: Python<'_>, greenlet: &Greenlet) -> bool {
        !self.entered.load(Ordering::SeqCst)
            || greenlet.frame(py).is_some()
            || self.thread().state() == ThreadState::AwaitingClient
    }

    /// Has call `number` raise `exception` where it waits, if it has not ended. In the hub, where no call runs.
    fn throw(&self, py: Python<'_>, number: u64, exception: &Py<PyAny>) {
        if self.call.is_in(number)
            && let Some(greenlet) = self.greenlet.get()
        {
            greenlet.throw(py, exception);
        }
    }

    /// Writes the thread off, if it is still in call `number`.
    pub(crate) fn write_off(&self, number: u64) {
        if self.call.write_off(number) {
            self.thread().set_state(ThreadState::Lost);
            self.cut_call(); // As above.
        }
    }

    /// How the present call stands towards its client.
    pub(crate) fn standing(&self) -> ClientState {
        self.call.client()
    }

    /// Notes how the present call stands towards its client.
    pub(crate) fn set_standing(&self, standing: ClientState) {
        self.call.set_client(standing);
    }

    /// Has `callback` called when the client of the present call leaves. Only while the application works on it.
    pub(crate) fn add_callback(&self, py: Python<'_>, callback: Py<PyAny>) {
        hub::lock(py, &self.callbacks).push(callback);
        self.call.note_callbacks();
    }

    /// Whether there are callbacks for call `number`. Waits for nobody: `false` while they are being looked at.
    pub(crate) fn has_callbacks(&self, number: u64) -> bool {
        self.call.has_callbacks(number)
            && self.callbacks.try_lock().is_ok_and(|callbacks| !callbacks.is_empty())
    }

    /// Calls the callbacks of call `number`, if the thread is still in it and its response is not complete, and
    /// raises `exception` in it, if there is one. The call does not end before they do: what they do never comes
    /// in the way of another request.
    pub(crate) fn call_back(
        self: &Arc<Self>,
        py: Python<'_>,
        number: u64,
        exception: Option<&Bound<'_, PyAny>>,
    ) {
        let _calling = hub::lock(py, &self.calling_back);
        if !self.call.is_in(number) || self.standing() == ClientState::Complete {
            return;
        }
        let callbacks = self.take_callbacks(py);
        if let Some(exception) = exception {
            self.raise_if_open(py, number, exception);
        }
        for callback in callbacks {
            if let Err(error) = callback.call0(py)
                && let Some(times) = FAILED_CALLBACKS.note()
            {
                let traceback = error::traceback(py, &error);
                log::error!("a callback of portico.client_disconnected raised{times}\n{traceback}");
            }
        }
    }

    fn take_callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        mem::take(&mut *hub::lock(py, &self.callbacks))
    }

    /// Drops the callbacks, and waits for those that run.
    #[cold]
    fn end_callbacks(&self) {
        Python::attach(|py| {
            drop(self.take_callbacks(py));
            drop(hub::lock(py, &self.calling_back));
        });
    }

    /// Notes the route of the present call, by its name. To be called in the call.
    pub(crate) fn set_route(&self, name: &str) {
        if !self.call.is_in_some() {
            return;
        }
        let known = ROUTES.with_borrow(|known| known.get(name).copied());
        let number = known.unwrap_or_else(|| {
            let number = self.place.scoreboard().routes().number(name);
            ROUTES.with_borrow_mut(|known| {
                if known.len() < ROUTES_MAX && number != RouteNumber::OTHER {
                    known.insert(name.into(), number);
                }
            });
            number
        });
        self.place.slot().set_route(self.index, self.thread().sequence(), number);
        self.route.store(number.index() as u32 + 1, Ordering::Relaxed);
    }

    /// The present call ends, and its route is known.
    #[cold]
    fn record_route(&self) {
        let number = self.route.swap(0, Ordering::Relaxed).saturating_sub(1);
        let taken = now_nanos().saturating_sub(self.thread().begun_nanos());
        let durations = self.place.slot().route_durations(RouteNumber::of_index(number as usize));
        durations.into_iter().for_each(|durations| durations.record(taken));
    }

    fn is_written_off(&self) -> bool {
        self.call.is_written_off()
    }
}

/// A call of the application, noted in its thread's record.
pub(crate) struct InCall<'a>(Option<&'a ThreadStatus>);

/// A call of the application that a greenlet runs, noted in the record of its thread.
pub(crate) struct InGreenlet(Option<Arc<ThreadStatus>>);

impl InGreenlet {
    /// The greenlet begins with it. `false` if it has been given up meanwhile.
    pub(crate) fn enter(&self) -> bool {
        let Some(record) = &self.0 else { return true };
        record.entered.store(true, Ordering::SeqCst);
        !record.is_written_off()
    }
}

impl Drop for InGreenlet {
    fn drop(&mut self) {
        self.0.iter().for_each(|record| record.end());
    }
}

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.0 {
            record.end();
        }
    }
}

impl ThreadStatus {
    /// The call has ended.
    #[inline]
    fn end(&self) {
        let record = self;
        if record.call.has_noted_callbacks() {
            record.end_callbacks(); // The thread is in the call until then, for whoever watches it.
        }
        if record.route.load(Ordering::Relaxed) != 0 {
            record.record_route();
        }
        let ended = record.call.end();
        if !ended.is_written_off {
            record.thread().set_state(ThreadState::Idle);
        }
        if ended.is_claimed {
            // The exception may not have struck yet; the next call is not to meet it.
            Python::attach(|py| {
                drop(hub::lock(py, &record.claiming));
                raw::raise_in_thread(py, raw::thread_ident(py), None);
            });
        }
    }
}

thread_local! {
    /// Number of the calling thread's record; no number where it has none.
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
    static RECORD: OnceCell<Arc<ThreadStatus>> = const { OnceCell::new() };
    /// Numbers of the routes that the calling thread has told.
    static ROUTES: RefCell<HashMap<Box<str>, RouteNumber>> = RefCell::new(HashMap::new());
    /// The records of the greenlets that run in the calling thread, by their identities.
    static GREENLETS: RefCell<Vec<(u64, Arc<ThreadStatus>)>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread, or its greenlet that runs, does what record number `index` is about from now on.
pub(crate) fn set_index(index: usize) {
    INDEX.set(index);
}

/// The number of the calling thread's record; no number where it has none.
pub(crate) fn index() -> usize {
    INDEX.get()
}

/// The greenlet with this identity ends.
pub(crate) fn leave_greenlet(ident: u64) {
    GREENLETS.with_borrow_mut(|known| known.retain(|(other, _)| *other != ident));
}

/// Whether the calling thread has been written off: the server has answered in its call's stead.
pub(crate) fn is_written_off() -> bool {
    own().is_some_and(|record| record.is_written_off())
}

/// The record of the calling thread, or of its greenlet that runs, where it has one.
pub(crate) fn own() -> Option<Arc<ThreadStatus>> {
    RECORD.with(|own| own.get().cloned()).or_else(of_greenlet)
}

#[cold]
fn of_greenlet() -> Option<Arc<ThreadStatus>> {
    if !hub::is_here() {
        return None;
    }
    let current = Python::attach(hub::current_ident)?;
    GREENLETS
        .with_borrow(|known| known.iter().find(|(ident, _)| *ident == current).map(|(_, it)| Arc::clone(it)))
}

/// Counts that the calling thread has waited so long for the interpreter. Not where greenlets share the thread:
/// the hub waits for all of them.
pub(crate) fn note_interpreter_wait(wait: Duration) {
    if !interpreter::has_no_gil() {
        RECORD.with(|own| {
            if let Some(record) = own.get() {
                record.thread.totals().add_interpreter_wait(nanos(wait), 1);
            }
        });
    }
}

/// Notes that the calling thread's application has handed over a block.
pub(crate) fn note_progress() {
    RECORD.with(|own| match own.get() {
        Some(record) => record.thread().progress(now_nanos()),
        None => drop(of_greenlet().map(|record| record.thread().progress(now_nanos()))),
    });
}

/// Runs `wait`, in which the calling thread waits for its client; that time is not the application's.
pub(crate) fn awaiting_client(wait: &mut (dyn FnMut() + Send)) {
    let Some(record) = own().filter(|record| record.call.is_in_some()) else {
        return wait(); // Between calls.
    };
    record.thread().set_state(ThreadState::AwaitingClient);
    wait();
    record.thread().progress(now_nanos());
    if !record.is_written_off() {
        record.thread().set_state(ThreadState::Running);
    }
}

impl Base {
    fn nanos_at(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.instant) {
            Some(since) => self.nanos + nanos(since),
            None => self.nanos,
        }
    }
}

/// As a number of 64 bits, which is enough for centuries. `Duration::as_nanos` reckons with 128.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + u64::from(duration.subsec_nanos())
}

fn address(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Inet(address) => Some(address.ip()),
        Peer::Unix => None,
    }
}
