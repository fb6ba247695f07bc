//! The values of prometheus_client's metrics in this worker's slot of shared memory, where `portico metrics` reads
//! them (`portico.contrib.prometheus`).
//!
//! A value knows its own number; while this process has a slot, what is set is written there too. A worker that
//! begins goes on with the counters that it finds there, so they never fall. Before a process has a slot, as
//! while a template imports the application, and in processes that the application forks itself, a value is a
//! number and nothing more; what it has by the time its process gets a slot counts for that worker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portico_supervisor::EntryPlace;
use portico_worker::SlotHandle;
use pyo3::prelude::*;

/// One value of a metric.
#[pyclass(frozen, name = "MetricValue", module = "portico._portico")]
pub(crate) struct MetricValue {
    key: Vec<u8>,
    is_gauge: bool,
    is_live: bool,
    state: Mutex<ValueState>,
}

#[derive(Debug, Default)]
struct ValueState {
    value: f64,
    time: f64,
    /// It was set or changed.
    is_touched: bool,
    /// Its entry, as long as [`EPOCH`] is this.
    entry: Option<(u64, EntryPlace)>,
}

/// This process' slot, and the entries that it has there.
struct Attached {
    slot: SlotHandle,
    number: u32,
    places: HashMap<Vec<u8>, EntryPlace>,
}

/// Changes when this process gets a slot, and when it is another process' child: whatever was bound to a slot
/// before is not any more.
static EPOCH: AtomicU64 = AtomicU64::new(0);

static ATTACHED: Mutex<Option<Attached>> = Mutex::new(None);

/// All values, so that they can be bound to a slot when there is one.
static VALUES: Mutex<Vec<Py<MetricValue>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this process writes into slot `number`, behind `slot`, and all values that there are do.
pub(crate) fn attach(py: Python<'_>, slot: &SlotHandle, number: u32) {
    let entries = slot.slot().application_metrics();
    let places = entries.iter().map(|entry| (entry.key, entry.place)).collect();
    *lock(&ATTACHED) = Some(Attached { slot: slot.clone(), number, places });
    EPOCH.fetch_add(1, Ordering::SeqCst);
    let values: Vec<Py<MetricValue>> = lock(&VALUES).iter().map(|value| value.clone_ref(py)).collect();
    values.iter().for_each(|value| value.get().bind(&mut lock(&value.get().state)));
}

/// The number of this process' slot; None where it has none.
#[pyfunction]
pub(crate) fn worker_slot() -> Option<u32> {
    lock(&ATTACHED).as_ref().map(|attached| attached.number)
}

/// To be called in a process that was forked from this one: it has no slot, until it is given one.
#[pyfunction]
pub(crate) fn leave_slot() {
    EPOCH.fetch_add(1, Ordering::SeqCst);
    // Nobody else has this lock in a process that has just been forked with the interpreter in hand.
    if let Ok(mut attached) = ATTACHED.try_lock() {
        *attached = None;
    }
}

#[pymethods]
impl MetricValue {
    /// The value with this key, of the metric `name`. If the server has a metric of that name it is this process'
    /// alone, which the log tells.
    #[staticmethod]
    fn kept(py: Python<'_>, key: &str, name: &str, is_gauge: bool, is_live: bool) -> PyResult<Py<Self>> {
        let state = Mutex::default();
        let value = Py::new(py, Self { key: key.as_bytes().to_vec(), is_gauge, is_live, state })?;
        if portico_metrics::is_name_of_server(name) {
            log::warn!("the metric {name} of the application is not kept: the server has one of that name");
        } else {
            value.get().bind(&mut lock(&value.get().state));
            lock(&VALUES).push(value.clone_ref(py));
        }
        Ok(value)
    }

    /// Adds to it.
    fn inc(&self, amount: f64) {
        let mut state = lock(&self.state);
        let value = state.value + amount;
        self.write(&mut state, value, 0.0);
    }

    /// Sets it, with the time at which it is so.
    #[pyo3(signature = (value, timestamp=None))]
    fn set(&self, value: f64, timestamp: Option<f64>) {
        self.write(&mut lock(&self.state), value, timestamp.unwrap_or_default());
    }

    /// What it is.
    fn get(&self) -> f64 {
        lock(&self.state).value
    }
}

impl MetricValue {
    fn write(&self, state: &mut ValueState, value: f64, time: f64) {
        (state.value, state.time, state.is_touched) = (value, time, true);
        let Some((epoch, place)) = state.entry else { return };
        if epoch != EPOCH.load(Ordering::Relaxed) {
            return;
        }
        if let Some(attached) = &*lock(&ATTACHED) {
            let entries = attached.slot.slot().application_metrics();
            entries.set_value(place, value.to_bits());
            entries.set_time(place, time.to_bits());
        }
    }

    /// Finds the entry of the value in this process' slot, or makes it.
    fn bind(&self, state: &mut ValueState) {
        let mut attached = lock(&ATTACHED);
        let Some(Attached { slot, places, .. }) = &mut *attached else { return };
        let (epoch, own) = (EPOCH.load(Ordering::SeqCst), u64::from(std::process::id()));
        let entries = slot.slot().application_metrics();
        if let Some(place) = places.get(&self.key) {
            let found = f64::from_bits(entries.value(*place));
            let is_found = !self.is_live || entries.owner(*place) == own;
            state.value = match (self.is_gauge, state.is_touched) {
                (true, true) => state.value,
                (true, false) if is_found => found,
                (true, false) => 0.0,
                (false, _) => found + state.value,
            };
            entries.set_owner(*place, own);
            entries.set_value(*place, state.value.to_bits());
            state.entry = Some((epoch, *place));
            return;
        }
        match entries.append(&self.key, own, state.time.to_bits(), state.value.to_bits()) {
            Some(place) => {
                places.insert(self.key.clone(), place);
                state.entry = Some((epoch, place));
            }
            None if entries.lost() == 1 => log::warn!(
                "no room is left for metrics of the application: {} and those that come later are kept in this \
                 process alone, and portico metrics does not show them",
                self.key.escape_ascii()
            ),
            None => {}
        }
    }
}
