//! Sets Python's switch interval as [`portico_worker::Switching`] decides.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use portico_metrics::{Histogram, Metrics};
use portico_worker::{SHORT_INTERVAL, SwitchStep, Switching, is_hard_to_get, is_long, is_short};
use pyo3::prelude::*;

use super::inspector::Inspector;
use crate::interpreter;

/// The switch interval of one worker's interpreter, set as `portico-worker` decides. Owned by the thread that
/// watches calls, which asks for it without waiting; what the application has set itself is never overwritten.
#[derive(Default)]
pub(crate) struct SwitchInterval {
    switching: Switching,
    asked: Option<Receiver<Option<f64>>>,
    /// The interpreter is being tried only to see how long it takes to get.
    probed: Option<Receiver<()>>,
}

impl SwitchInterval {
    /// Takes note that the longest call has been running for `longest`. How long the interpreter took to get
    /// meanwhile is counted in `metrics`, by the inspector's thread alone.
    pub(crate) fn look(&mut self, longest: Duration, inspector: &Inspector, metrics: Metrics<'static>) {
        let answer = self.asked.as_ref().map(Receiver::try_recv);
        let shortened = match answer {
            None | Some(Err(TryRecvError::Empty)) => None,
            Some(Ok(shortened)) => Some(shortened),
            Some(Err(TryRecvError::Disconnected)) => Some(None),
        };
        if shortened.is_some() {
            self.asked = None;
        }
        match self.switching.look(longest, shortened) {
            Some(SwitchStep::Shorten) => {
                let asked = Instant::now();
                self.asked = Some(inspector.ask(move |py| {
                    let waited = asked.elapsed();
                    count(metrics, waited);
                    shorten(py, waited).unwrap_or_else(|error| {
                        log::debug!("the switch interval cannot be set: {error}");
                        None
                    })
                }));
            }
            Some(SwitchStep::Restore(former)) => drop(inspector.ask(move |py| restore(py, former))),
            None => self.probe(longest, inspector, metrics),
        }
    }

    /// Tries the interpreter while a call is long, if it is not being tried for something else.
    fn probe(&mut self, longest: Duration, inspector: &Inspector, metrics: Metrics<'static>) {
        let is_free = |receiver: &Receiver<()>| !matches!(receiver.try_recv(), Err(TryRecvError::Empty));
        if is_long(longest) && self.asked.is_none() && self.probed.as_ref().is_none_or(is_free) {
            let asked = Instant::now();
            self.probed = Some(inspector.ask(move |_| count(metrics, asked.elapsed())));
        }
    }
}

/// Counts how long a thread has waited for the interpreter. Without a GIL nobody waits.
fn count(metrics: Metrics<'static>, waited: Duration) {
    if !interpreter::has_no_gil() {
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        metrics.record(Histogram::InterpreterProbe, nanos);
    }
}

/// Makes the interval short if a thread had to wait for the interpreter because of it. Returns the former one.
fn shorten(py: Python<'_>, waited: Duration) -> PyResult<Option<f64>> {
    let sys = py.import("sys")?;
    let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
    if !is_hard_to_get(interval, waited) {
        return Ok(None);
    }
    sys.call_method1("setswitchinterval", (SHORT_INTERVAL,))?;
    Ok(Some(interval))
}

/// Sets the interval to what it was, unless the application has set it meanwhile.
fn restore(py: Python<'_>, former: f64) {
    let restore = || -> PyResult<()> {
        let sys = py.import("sys")?;
        let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        if is_short(interval) {
            sys.call_method1("setswitchinterval", (former,))?;
        }
        Ok(())
    };
    if let Err(error) = restore() {
        log::debug!("the switch interval cannot be set: {error}");
    }
}
