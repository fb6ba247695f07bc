//! Which call a thread is in, and who has claimed it: what the thread and those that watch it share beside the
//! scoreboard.
//!
//! The thread begins and ends its calls. Whoever watches may claim one, to raise an exception in it, or write its
//! thread off, under the call's number: what is meant for one call never strikes another. One file because the
//! order in which both sides read and write these fields is the protocol.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The call that a thread is in. `R` names its request.
#[derive(Debug)]
pub struct CallStatus<R> {
    /// Number of the call, with [`CLAIMED`], [`WRITTEN_OFF`] and [`CALLBACKS`]; 0 if the thread is in none.
    call: AtomicU64,
    /// The request of the present call, or of the last one.
    request: Mutex<Option<R>>,
    /// How the present call stands towards its client: a [`ClientState`].
    client: AtomicU8,
}

/// The state of a call's client as the application knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientState {
    /// The client waits, as far as the application knows.
    Open,
    /// The application knows that the client has left, or makes an end for another reason.
    Told,
    /// The response is complete.
    Complete,
}

/// The measures that had been taken against a call when it ended. Its thread gets it and acts upon it: an
/// exception that is still to strike must not strike the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedCall {
    /// An exception has been raised in it, which may not have struck yet.
    pub is_claimed: bool,
    /// Its thread has been written off.
    pub is_written_off: bool,
}

/// An exception has been raised in the call, or is about to be.
const CLAIMED: u64 = 1 << 63;

/// The thread has been written off.
const WRITTEN_OFF: u64 = 1 << 62;

/// There are, or were, callbacks for when the client leaves.
const CALLBACKS: u64 = 1 << 61;

const NUMBER: u64 = CALLBACKS - 1;

impl<R> Default for CallStatus<R> {
    fn default() -> Self {
        Self {
            call: AtomicU64::new(0),
            request: Mutex::new(None),
            client: AtomicU8::new(ClientState::Complete as u8),
        }
    }
}

impl<R: Copy> CallStatus<R> {
    /// The thread begins a call for `request`, which gets its number from `begin`: after the rest is there.
    #[inline]
    pub fn begin(&self, request: R, begin: impl FnOnce() -> u64) {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        self.set_client(ClientState::Open);
        self.call.store(begin(), Ordering::Release);
    }

    /// The thread ends its call.
    #[inline]
    pub fn end(&self) -> EndedCall {
        let call = self.call.swap(0, Ordering::SeqCst);
        EndedCall { is_claimed: call & CLAIMED != 0, is_written_off: call & WRITTEN_OFF != 0 }
    }

    /// The request of call `number`, if the thread is still in it.
    pub fn request(&self, number: u64) -> Option<R> {
        let request = *self.request.lock().unwrap_or_else(PoisonError::into_inner);
        request.filter(|_| self.is_in(number))
    }

    /// Whether the thread is in call `number`.
    #[inline]
    pub fn is_in(&self, number: u64) -> bool {
        self.call.load(Ordering::SeqCst) & NUMBER == number
    }

    /// Whether the thread is in a call.
    #[inline]
    pub fn is_in_some(&self) -> bool {
        self.call.load(Ordering::Relaxed) != 0
    }

    /// Claims call `number`, if the thread is still in it and has not been written off.
    pub fn claim(&self, number: u64) -> bool {
        self.mark(number, CLAIMED)
    }

    /// Writes the thread off, if it is still in call `number` and has not been written off.
    pub fn write_off(&self, number: u64) -> bool {
        self.mark(number, WRITTEN_OFF)
    }

    fn mark(&self, number: u64, mark: u64) -> bool {
        let marked = |call: u64| (call & (NUMBER | WRITTEN_OFF) == number).then_some(call | mark);
        number != 0 && self.call.fetch_update(Ordering::SeqCst, Ordering::SeqCst, marked).is_ok()
    }

    /// Whether the present call has been claimed. To be asked in the call, after a fence.
    #[inline]
    pub fn is_claimed(&self) -> bool {
        self.call.load(Ordering::Relaxed) & CLAIMED != 0
    }

    /// Whether the thread has been written off in its present call.
    #[inline]
    pub fn is_written_off(&self) -> bool {
        self.call.load(Ordering::SeqCst) & WRITTEN_OFF != 0
    }

    /// The present call has callbacks from now on.
    pub fn note_callbacks(&self) {
        self.call.fetch_or(CALLBACKS, Ordering::SeqCst);
    }

    /// Whether the present call has, or had, callbacks. To be asked in the call.
    #[inline]
    pub fn has_noted_callbacks(&self) -> bool {
        self.call.load(Ordering::Relaxed) & CALLBACKS != 0
    }

    /// Whether the thread is in call `number`, and that has, or had, callbacks.
    pub fn has_callbacks(&self, number: u64) -> bool {
        let call = self.call.load(Ordering::SeqCst);
        call & CALLBACKS != 0 && call & NUMBER == number
    }

    /// How the present call stands towards its client.
    #[inline]
    pub fn client(&self) -> ClientState {
        match self.client.load(Ordering::Acquire) {
            0 => ClientState::Open,
            1 => ClientState::Told,
            _ => ClientState::Complete,
        }
    }

    /// Notes how the present call stands towards its client.
    #[inline]
    pub fn set_client(&self, client: ClientState) {
        self.client.store(client as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn in_call(number: u64) -> CallStatus<char> {
        let status = CallStatus::default();
        status.begin('a', || number);
        status
    }

    #[test]
    fn a_call_is_known_by_its_number_until_it_ends() {
        let status = in_call(2);
        assert_eq!((status.request(2), status.request(4)), (Some('a'), None));
        assert_eq!(status.client(), ClientState::Open);
        assert!(status.is_in_some());
        assert_eq!(status.end(), EndedCall { is_claimed: false, is_written_off: false });
        assert_eq!((status.request(2), status.is_in_some()), (None, false));
    }

    #[test]
    fn a_call_that_ended_is_never_claimed() {
        let status = in_call(2);
        status.end();
        assert!(!status.claim(2) && !status.write_off(2));
        assert!(!status.claim(0), "a thread between calls is in no call, not in number 0");
        status.begin('b', || 4);
        assert!(!status.claim(2), "what was meant for the call before");
        assert_eq!(status.end(), EndedCall { is_claimed: false, is_written_off: false });
    }

    #[test]
    fn a_thread_is_written_off_once() {
        let status = in_call(2);
        assert!(status.claim(2) && status.claim(2), "an exception may be raised again");
        assert!(status.write_off(2) && status.is_written_off());
        assert!(!status.write_off(2) && !status.claim(2), "nobody waits for it any more");
        assert_eq!(status.end(), EndedCall { is_claimed: true, is_written_off: true });
        assert!(!status.is_written_off());
    }

    #[test]
    fn callbacks_are_those_of_the_present_call() {
        let status = in_call(2);
        assert!(!status.has_callbacks(2));
        status.note_callbacks();
        assert!(status.has_callbacks(2) && !status.has_callbacks(4) && status.has_noted_callbacks());
        assert_eq!(status.request(2), Some('a'), "the number is as before");
        status.end();
        status.begin('b', || 4);
        assert!(!status.has_callbacks(4));
    }

    #[test]
    fn a_claim_strikes_the_call_that_it_was_for() {
        // The thread ends its call while another claims it: one of both sees the other.
        for number in (2..2000).step_by(2) {
            let (status, claimed) = (in_call(number), AtomicBool::new(false));
            let ended = thread::scope(|scope| {
                scope.spawn(|| claimed.store(status.claim(number), Ordering::SeqCst));
                status.end()
            });
            assert_eq!(ended.is_claimed, claimed.load(Ordering::SeqCst), "{number}");
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Action {
        Begin,
        End,
        Claim(u64),
        WriteOff(u64),
        NoteCallbacks,
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![
            Just(Action::Begin),
            Just(Action::End),
            (0..8u64).prop_map(|number| Action::Claim(2 * number)),
            (0..8u64).prop_map(|number| Action::WriteOff(2 * number)),
            Just(Action::NoteCallbacks),
        ];
        proptest::collection::vec(action, 0..60)
    }

    proptest! {
        /// Against what it stands for: a call with two marks, or none.
        #[test]
        fn any_history_is_that_of_one_call(actions in actions()) {
            let status = CallStatus::default();
            let (mut sequence, mut present) = (0, None::<(u64, bool, bool)>);
            for action in actions {
                match action {
                    Action::Begin if present.is_none() => {
                        sequence += 2;
                        status.begin(sequence, || sequence);
                        present = Some((sequence, false, false));
                    }
                    Action::End if present.is_some() => {
                        let (_, is_claimed, is_written_off) = present.take().unwrap();
                        prop_assert_eq!(status.end(), EndedCall { is_claimed, is_written_off });
                    }
                    Action::Claim(number) => {
                        let expected = matches!(present, Some((own, _, false)) if own == number);
                        prop_assert_eq!(status.claim(number), expected);
                        present = present.map(|(own, claimed, off)| (own, claimed || expected, off));
                    }
                    Action::WriteOff(number) => {
                        let expected = matches!(present, Some((own, _, false)) if own == number);
                        prop_assert_eq!(status.write_off(number), expected);
                        present = present.map(|(own, claimed, off)| (own, claimed, off || expected));
                    }
                    Action::NoteCallbacks if present.is_some() => status.note_callbacks(),
                    Action::Begin | Action::End | Action::NoteCallbacks => {}
                }
                for number in (0..16).step_by(2).filter(|number| *number != 0) {
                    let expected = present.filter(|(own, ..)| *own == number).map(|(own, ..)| own);
                    prop_assert_eq!(status.request(number), expected);
                }
            }
        }
    }
}
