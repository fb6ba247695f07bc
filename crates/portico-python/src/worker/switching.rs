//! How soon a thread that computes gives the interpreter to others: Python's switch interval, 5 ms by default.
//!
//! Each time that a request needs the interpreter, it waits that long for one that computes without end, several
//! times each. While a call runs for long and the interpreter is hard to get, the interval is made short, and all
//! others go on nearly as before; calls that are short are not cut into pieces for nothing.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::inspector::Inspector;

/// From when on a call is a long one.
const LONG: Duration = Duration::from_millis(50);

/// The interval meanwhile, in seconds as Python has it. A switch takes some 10 us: a twentieth of this.
const SHORT: f64 = 0.0002;

/// The interval of one worker's interpreter.
#[derive(Default)]
pub struct Switching {
    state: IntervalState,
}

#[derive(Default)]
enum IntervalState {
    /// As Python or the application has set it.
    #[default]
    Theirs,
    /// It is being tried how long the interpreter takes to get.
    Trying(Receiver<Option<f64>>),
    /// Made short; this was the interval before.
    Short(f64),
}

impl Switching {
    /// Takes note that the longest call has been running for `longest`.
    pub fn look(&mut self, longest: Duration, inspector: &Inspector) {
        let is_long = longest >= LONG;
        self.state = match std::mem::take(&mut self.state) {
            IntervalState::Theirs if is_long => {
                let asked = Instant::now();
                IntervalState::Trying(inspector.ask(move |py| match shorten(py, asked.elapsed()) {
                    Ok(former) => former,
                    Err(error) => {
                        log::debug!("the switch interval cannot be set: {error}");
                        None
                    }
                }))
            }
            IntervalState::Trying(answer) => match answer.try_recv() {
                Ok(Some(former)) => IntervalState::Short(former),
                Ok(None) | Err(TryRecvError::Disconnected) => IntervalState::Theirs,
                Err(TryRecvError::Empty) => IntervalState::Trying(answer),
            },
            IntervalState::Short(former) if !is_long => {
                drop(inspector.ask(move |py| restore(py, former)));
                IntervalState::Theirs
            }
            state => state,
        };
    }
}

/// Makes the interval short if a thread had to wait for the interpreter because of it. Returns the former one.
fn shorten(py: Python<'_>, waited: Duration) -> PyResult<Option<f64>> {
    let sys = py.import("sys")?;
    let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
    if interval <= SHORT || waited.as_secs_f64() < interval / 2.0 {
        return Ok(None);
    }
    sys.call_method1("setswitchinterval", (SHORT,))?;
    Ok(Some(interval))
}

/// Sets the interval to what it was, unless the application has set it meanwhile.
fn restore(py: Python<'_>, former: f64) {
    let restore = || -> PyResult<()> {
        let sys = py.import("sys")?;
        let interval: f64 = sys.call_method0("getswitchinterval")?.extract()?;
        // Python keeps whole microseconds.
        if (interval - SHORT).abs() < 1e-6 {
            sys.call_method1("setswitchinterval", (former,))?;
        }
        Ok(())
    };
    if let Err(error) = restore() {
        log::debug!("the switch interval cannot be set: {error}");
    }
}
