//! What the memory of this worker is full of, for `portico memory`: how many objects of each type the garbage
//! collector knows, and which lines allocate memory that stays.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use portico_supervisor::{Inspection, InspectionNumber, InspectionOutcome};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use crate::hub;

/// Objects that are looked at; the rest is counted.
const OBJECTS_MAX: usize = 5_000_000;

/// Objects that are looked at before others have the interpreter: some milliseconds.
const OBJECTS_AT_ONCE: usize = 10_000;

/// Types and lines that are told: the largest.
const TOLD_MAX: usize = 200;

/// tracemalloc needs memory for each block of memory. Tracing ends early beyond that.
const TRACE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How often it is looked whether tracing should end.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is known of one type's objects.
struct OfType {
    class: Py<PyType>,
    count: u64,
    bytes: u64,
}

/// Counts all objects by their types, while `goes_on`. Only one step needs the interpreter for longer, which is to
/// make a list of the objects; they are looked at some thousands at a time.
///
/// # Errors
/// What the garbage collector raises.
pub(super) fn count_objects(room: Inspection<'_>, goes_on: &dyn Fn() -> bool) -> PyResult<InspectionOutcome> {
    let (objects, size_of) = hub::attach(|py| -> PyResult<_> {
        let objects = py.import("gc")?.call_method0("get_objects")?.cast_into::<PyList>()?;
        Ok((objects.unbind(), py.import("sys")?.getattr("getsizeof")?.unbind()))
    })?;
    let mut types: HashMap<usize, OfType> = HashMap::new();
    let mut from = 0;
    let count = hub::attach(|py| objects.bind(py).len());
    room.set_number(InspectionNumber::Rest, count.saturating_sub(OBJECTS_MAX) as u64);
    while from < count.min(OBJECTS_MAX) && goes_on() {
        hub::attach(|py| {
            let objects = objects.bind(py);
            for index in from..(from + OBJECTS_AT_ONCE).min(objects.len()) {
                let Ok(object) = objects.get_item(index) else { break };
                let class = object.get_type();
                let of_type = types.entry(class.as_ptr() as usize).or_insert_with(|| OfType {
                    class: class.unbind(),
                    count: 0,
                    bytes: 0,
                });
                of_type.count += 1;
                // A class can say what it likes of its objects.
                let size = size_of.bind(py).call1((&object, 0)).and_then(|size| size.extract::<u64>());
                match size {
                    Ok(bytes) => of_type.bytes = of_type.bytes.saturating_add(bytes),
                    Err(_) => room.add(InspectionNumber::Failed, 1),
                }
            }
        });
        from += OBJECTS_AT_ONCE;
        thread::yield_now();
    }
    hub::attach(|py| {
        drop(objects);
        let mut rows: Vec<(String, u64, u64)> =
            types.values().map(|it| (name_of(it.class.bind(py)), it.count, it.bytes)).collect();
        drop(types);
        rows.sort_by_key(|(_, count, bytes)| std::cmp::Reverse((*bytes, *count)));
        tell(room, &rows);
    });
    Ok(InspectionOutcome::Done)
}

/// Traces allocations for `duration`, while `goes_on`, and tells which lines have made memory that is still there.
///
/// # Errors
/// What tracemalloc raises.
pub(super) fn trace(
    room: Inspection<'_>,
    duration: Duration,
    goes_on: &dyn Fn() -> bool,
) -> PyResult<InspectionOutcome> {
    let started = hub::attach(|py| -> PyResult<bool> {
        let tracemalloc = py.import("tracemalloc")?;
        if tracemalloc.call_method0("is_tracing")?.is_truthy()? {
            return Ok(false);
        }
        tracemalloc.call_method1("start", (1,))?;
        Ok(true)
    })?;
    if !started {
        return Ok(InspectionOutcome::Taken);
    }
    let end = std::time::Instant::now() + duration;
    let mut used = 0;
    while std::time::Instant::now() < end && goes_on() && used < TRACE_BYTES_MAX {
        thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(std::time::Instant::now())));
        used = hub::attach(|py| {
            let used =
                py.import("tracemalloc").and_then(|module| module.call_method0("get_tracemalloc_memory"));
            used.and_then(|used| used.extract()).unwrap_or_default()
        });
        room.add(InspectionNumber::Samples, 1);
    }
    room.set_number(InspectionNumber::Rest, used);
    let is_wanted = goes_on();
    hub::attach(|py| {
        let tracemalloc = py.import("tracemalloc")?;
        let rows = if is_wanted { lines(&tracemalloc) } else { Ok(Vec::new()) };
        tracemalloc.call_method0("stop")?; // Whatever has become of the lines.
        tell(room, &rows?);
        Ok(InspectionOutcome::Done)
    })
}

/// The lines by what they have allocated that is still there, less what tracing takes itself.
fn lines(tracemalloc: &Bound<'_, PyModule>) -> PyResult<Vec<(String, u64, u64)>> {
    let own = tracemalloc.getattr("__file__")?;
    let snapshot = tracemalloc.call_method0("take_snapshot")?;
    let without_own = tracemalloc.call_method1("Filter", (false, own))?;
    let snapshot = snapshot.call_method1("filter_traces", ((without_own,),))?;
    let mut rows = Vec::new();
    for statistic in snapshot.call_method1("statistics", ("lineno",))?.try_iter()?.take(TOLD_MAX) {
        let statistic = statistic?;
        let frame = statistic.getattr("traceback")?.get_item(0)?;
        let file = frame.getattr("filename")?.str()?.to_string_lossy().into_owned();
        let line: u64 = frame.getattr("lineno")?.extract()?;
        rows.push((
            format!("{file}\0{line}"),
            statistic.getattr("count")?.extract()?,
            statistic.getattr("size")?.extract()?,
        ));
    }
    Ok(rows)
}

fn name_of(class: &Bound<'_, PyType>) -> String {
    let name = class.fully_qualified_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "?".to_owned())
}

/// Writes the first rows: a name, how many, how many bytes. What is left out is added up under `Dropped`.
fn tell(room: Inspection<'_>, rows: &[(String, u64, u64)]) {
    for (name, count, bytes) in rows.iter().take(TOLD_MAX) {
        let end = (0..=name.len().min(400)).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        room.entries().append(&name.as_bytes()[..end], 0, *count, *bytes);
    }
    let rest = rows.iter().skip(TOLD_MAX).map(|(_, _, bytes)| *bytes).fold(0, u64::saturating_add);
    room.set_number(InspectionNumber::Dropped, rest);
}
