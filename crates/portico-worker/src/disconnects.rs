//! What is done about a running call whose client has left: its callbacks are called and, with --on-disconnect
//! raise, an exception is raised in it.
//!
//! Decides only: whoever owns it runs the callbacks and raises the exception.

use portico_supervisor::{Running, ThreadState};

use crate::call_status::ClientState;

/// The steps that have been taken about the present call of each thread.
#[derive(Debug)]
pub struct Disconnects {
    /// Whether the exception is wanted.
    raises: bool,
    /// The call of each thread in which the exception was raised last.
    raised: Vec<u64>,
}

/// The step that is due in a call whose client has left. Each call gets one at most; the thread that watches calls
/// takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectStep {
    /// Raise the exception in it.
    Raise,
    /// Call its callbacks, and raise the exception in it if that is wanted.
    CallBack {
        /// Whether it is.
        raises: bool,
    },
}

impl Disconnects {
    /// For `threads` threads. `raises`: with --on-disconnect raise.
    pub fn new(raises: bool, threads: usize) -> Self {
        Self { raises, raised: vec![0; threads] }
    }

    /// Looks at the call that the thread `index` is in, whose client the application knows to be in this state.
    /// `calls_back`: it has callbacks, and none of the thread's run. Whether the client `is_gone` is asked only if
    /// somebody wants to know.
    pub fn look(
        &mut self,
        index: usize,
        running: &Running,
        client: ClientState,
        calls_back: bool,
        is_gone: impl FnOnce() -> bool,
    ) -> Option<DisconnectStep> {
        let raised = self.raised.get_mut(index)?;
        let raises = self.raises
            && is_safe(&running.method)
            && running.state == ThreadState::Running
            && *raised != running.sequence
            && client == ClientState::Open;
        if !raises && !calls_back || running.state == ThreadState::Lost || !is_gone() {
            return None;
        }
        if raises {
            *raised = running.sequence;
        }
        Some(if calls_back { DisconnectStep::CallBack { raises } } else { DisconnectStep::Raise })
    }
}

/// Whether a request of this method is to change nothing (RFC 9110, section 9.2.1), so that it can be broken off.
fn is_safe(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(sequence: u64) -> Running {
        call(sequence, b"GET", ThreadState::Running)
    }

    fn call(sequence: u64, method: &[u8], state: ThreadState) -> Running {
        Running { sequence, state, method: method.to_vec(), ..Running::default() }
    }

    fn raising() -> Disconnects {
        Disconnects::new(true, 2)
    }

    #[test]
    fn the_exception_is_raised_once_in_a_call() {
        let mut disconnects = raising();
        let mut look =
            |index, call: &Running| disconnects.look(index, call, ClientState::Open, false, || true);
        assert_eq!(look(0, &get(2)), Some(DisconnectStep::Raise));
        assert_eq!(look(0, &get(2)), None);
        assert_eq!(look(1, &get(2)), Some(DisconnectStep::Raise), "another thread's call");
        assert_eq!(look(0, &get(4)), Some(DisconnectStep::Raise), "the thread's next call");
        assert_eq!(look(2, &get(2)), None, "there is no such thread");
    }

    #[test]
    fn the_engine_is_asked_only_if_somebody_wants_to_know() {
        let never = || -> bool { panic!("nobody wants to know") };
        let open = ClientState::Open;
        assert_eq!(Disconnects::new(false, 1).look(0, &get(2), open, false, never), None);
        let mut disconnects = raising();
        for (running, client) in [
            (call(2, b"POST", ThreadState::Running), open),
            (call(2, b"GET", ThreadState::AwaitingClient), open),
            (call(2, b"GET", ThreadState::Stream), open),
            (call(2, b"GET", ThreadState::Lost), open),
            (get(2), ClientState::Told),
            (get(2), ClientState::Complete),
        ] {
            assert_eq!(disconnects.look(0, &running, client, false, never), None, "{running:?} {client:?}");
        }
        let lost = call(2, b"GET", ThreadState::Lost);
        assert_eq!(disconnects.look(0, &lost, open, true, never), None, "it has been given up");
    }

    #[test]
    fn callbacks_are_called_whatever_the_method() {
        let mut disconnects = raising();
        let mut look = |running: &Running| disconnects.look(0, running, ClientState::Open, true, || true);
        let raised = Some(DisconnectStep::CallBack { raises: true });
        let called = Some(DisconnectStep::CallBack { raises: false });
        assert_eq!(look(&call(2, b"POST", ThreadState::Running)), called);
        assert_eq!(look(&call(4, b"GET", ThreadState::AwaitingClient)), called);
        assert_eq!(look(&get(6)), raised);
        assert_eq!(look(&get(6)), called, "callbacks that came later; the exception was raised");
    }

    #[test]
    fn a_client_that_stays_changes_nothing() {
        let mut disconnects = raising();
        assert_eq!(disconnects.look(0, &get(2), ClientState::Open, true, || false), None);
        let step = disconnects.look(0, &get(2), ClientState::Open, false, || true);
        assert_eq!(step, Some(DisconnectStep::Raise), "it may leave later");
    }
}
