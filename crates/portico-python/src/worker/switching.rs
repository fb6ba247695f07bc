//! Sets Python's switch interval as [`portico_worker::Switching`] decides.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use portico_worker::{SHORT_INTERVAL, SwitchStep, Switching, is_hard_to_get, is_short};
use pyo3::prelude::*;

use super::inspector::Inspector;

/// The switch interval of one worker's interpreter, set as `portico-worker` decides. Owned by the thread that
/// watches calls, which asks for it without waiting; what the application has set itself is never overwritten.
#[derive(Default)]
pub(crate) struct SwitchInterval {
    switching: Switching,
    asked: Option<Receiver<Option<f64>>>,
}

impl SwitchInterval {
    /// Takes note that the longest call has been running for `longest`.
    pub(crate) fn look(&mut self, longest: Duration, inspector: &Inspector) {
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
                self.asked = Some(inspector.ask(move |py| match shorten(py, asked.elapsed()) {
                    Ok(former) => former,
                    Err(error) => {
                        log::debug!("the switch interval cannot be set: {error}");
                        None
                    }
                }));
            }
            Some(SwitchStep::Restore(former)) => drop(inspector.ask(move |py| restore(py, former))),
            None => {}
        }
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
