//! What others can bring about as often as they like, told in the log without filling it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A count of something that others bring about at will. The first, the second, the fourth time and so on is told:
/// each time tells as many as all before it.
#[derive(Debug, Default)]
pub struct Occurrences(AtomicU64);

/// A count of something, for the end of a line; of what has happened once a line says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountNote(u64);

/// So many of a kind are told each second: where each tells something else, and most are worth reading.
#[derive(Debug)]
pub struct Ration {
    state: Mutex<RationState>,
    each_second: u32,
}

/// The count of one ration: when its present second began, and what has been told and left out. Behind the
/// ration's lock, which is held only to count.
#[derive(Debug)]
struct RationState {
    since: Option<Instant>,
    told: u32,
    left_out: u64,
}

const SECOND: Duration = Duration::from_secs(1);

impl Occurrences {
    /// It has never happened.
    #[inline]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// It happens. How often it has by now, if that is to be told.
    pub fn note(&self) -> Option<CountNote> {
        let times = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        times.is_power_of_two().then_some(CountNote(times))
    }
}

impl CountNote {
    /// As a number.
    #[inline]
    pub fn count(self) -> u64 {
        self.0
    }
}

impl fmt::Display for CountNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => Ok(()),
            times => write!(f, " ({times} so far)"),
        }
    }
}

impl Ration {
    /// So many are told each second.
    #[inline]
    pub const fn new(each_second: u32) -> Self {
        Self { state: Mutex::new(RationState { since: None, told: 0, left_out: 0 }), each_second }
    }

    /// It happens at `now`. `None`: it is left out; else how many have been since the last that was told.
    pub fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            (state.since, state.told) = (Some(now), 0);
        }
        if state.told >= self.each_second {
            state.left_out += 1;
            return None;
        }
        state.told += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_times_are_told_ten_times() {
        let occurrences = Occurrences::new();
        let told: Vec<CountNote> = (0..1000).filter_map(|_| occurrences.note()).collect();
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map(CountNote));
        assert_eq!(format!("told{}, told{}", CountNote(1), CountNote(4)), "told, told (4 so far)");
    }

    #[test]
    fn each_second_has_its_ration_and_tells_what_was_left_out_before() {
        let ration = Ration::new(3);
        let start = Instant::now();
        let take = |millis: u64| ration.take(start + Duration::from_millis(millis));
        assert_eq!([0, 1, 2].map(take), [Some(0); 3]);
        assert_eq!([3, 500, 999].map(take), [None; 3]);
        assert_eq!(take(1000), Some(3));
        assert_eq!([1001, 1002].map(take), [Some(0); 2]);
        assert_eq!(take(1003), None);
        assert_eq!(take(60_000), Some(1));
    }
}
