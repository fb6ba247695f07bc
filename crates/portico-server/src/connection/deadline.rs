//! The deadlines of connections: one kind per state, one table per engine.
//!
//! Pure: the clock is the caller's. Most deadlines are put off again and again (an idle one by every request), so
//! putting one off only changes a field of its connection; the table is touched when a deadline is set to an
//! earlier moment than the table knows, and when an entry falls due. Entries belong to a place in the connection
//! table, not to the connection that sits there: who comes next takes the entry over, so that short connections
//! leave nothing behind and the table stays as small as the number of places.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// What a connection is waited on for. One at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// The end of the TLS handshake.
    Handshake,
    /// The rest of a request head; a new connection's first head too.
    Head,
    /// More of a request body.
    Body,
    /// That a thread is free for a complete request.
    Queue,
    /// The next request on a kept connection.
    KeepAlive,
    /// That the peer takes more of the response.
    Write,
    /// That what is done off the engine for the present request is done.
    Work,
    /// That the peer acknowledges the rest of a response which is cut.
    Delivery,
    /// That the peer closes after us.
    Drain,
}

/// The present deadline of a place in the connection table and its entry among the [`Deadlines`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timer {
    due: Option<(Deadline, Instant)>,
    /// The moment of the earliest entry that the table holds for this place.
    entry: Option<Instant>,
}

/// The table: moments at which a place's deadline is to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Timer {
    /// Nothing is waited for.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.due = None;
    }

    /// What is waited for now.
    #[inline]
    pub(crate) fn due(&self) -> Option<(Deadline, Instant)> {
        self.due
    }
}

impl Deadlines {
    /// Sets the deadline of the connection at place `index`.
    pub(crate) fn set(&mut self, timer: &mut Timer, index: u32, deadline: Deadline, at: Instant) {
        timer.due = Some((deadline, at));
        if timer.entry.is_none_or(|entry| at < entry) {
            timer.entry = Some(at);
            self.entries.push(Reverse((at, index)));
        }
    }

    /// When [`Deadlines::next_due`] is to be asked again.
    #[inline]
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }

    /// The next place whose entry has fallen due by `now`; pass it to [`Deadlines::handle_timeout`].
    #[inline]
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<(u32, Instant)> {
        let Reverse((at, _)) = *self.entries.peek()?;
        if at > now {
            return None;
        }
        self.entries.pop().map(|Reverse((at, index))| (index, at))
    }

    /// The deadline that has passed at the place whose entry `at` fell due, if it has not been put off.
    pub(crate) fn handle_timeout(
        &mut self,
        timer: &mut Timer,
        index: u32,
        (at, now): (Instant, Instant),
    ) -> Option<Deadline> {
        if timer.entry != Some(at) {
            return None; // Superseded by an earlier entry.
        }
        timer.entry = None;
        let (deadline, due) = timer.due?;
        if due <= now {
            timer.due = None;
            return Some(deadline);
        }
        self.set(timer, index, deadline, due);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const INDEX: u32 = 3;

    /// All deadlines that pass by `now`.
    fn passed(table: &mut Deadlines, timer: &mut Timer, now: Instant) -> Vec<Deadline> {
        let mut passed = Vec::new();
        while let Some((index, at)) = table.next_due(now) {
            passed.extend(table.handle_timeout(timer, index, (at, now)));
        }
        passed
    }

    #[test]
    fn a_deadline_put_off_costs_no_entry_and_passes_when_due() {
        let start = Instant::now();
        let (mut table, mut timer) = (Deadlines::default(), Timer::default());
        for second in 0..100 {
            let at = start + Duration::from_secs(75 + second);
            table.set(&mut timer, INDEX, Deadline::KeepAlive, at);
        }
        assert_eq!(table.entries.len(), 1);
        assert_eq!(passed(&mut table, &mut timer, start + Duration::from_secs(80)), []);
        assert_eq!(table.next_timeout(), Some(start + Duration::from_secs(174)));
        let end = start + Duration::from_secs(174);
        assert_eq!(passed(&mut table, &mut timer, end), [Deadline::KeepAlive]);
        assert_eq!(table.next_timeout(), None);
    }

    #[test]
    fn an_earlier_deadline_is_not_missed_and_a_cleared_one_does_not_pass() {
        let start = Instant::now();
        let (mut table, mut timer) = (Deadlines::default(), Timer::default());
        table.set(&mut timer, INDEX, Deadline::KeepAlive, start + Duration::from_secs(75));
        table.set(&mut timer, INDEX, Deadline::Head, start + Duration::from_secs(10));
        assert_eq!(table.next_timeout(), Some(start + Duration::from_secs(10)));
        timer.clear();
        assert_eq!(passed(&mut table, &mut timer, start + Duration::from_secs(100)), []);
    }

    proptest! {
        /// Against the plain model: the deadline set last passes at the first look at or after its moment, once.
        #[test]
        fn passes_exactly_when_the_last_set_deadline_is_due(
            steps in proptest::collection::vec((0u64..50, proptest::option::of(1u64..200)), 1..60)
        ) {
            let start = Instant::now();
            let (mut table, mut timer) = (Deadlines::default(), Timer::default());
            let (mut now, mut model): (u64, Option<u64>) = (0, None);
            for (advance, set) in steps {
                now += advance;
                let instant = start + Duration::from_millis(now);
                let expected = model.is_some_and(|due| due <= now);
                if expected { model = None; }
                prop_assert_eq!(passed(&mut table, &mut timer, instant).len(), usize::from(expected));
                if let Some(after) = set {
                    model = Some(now + after);
                    let at = start + Duration::from_millis(now + after);
                    table.set(&mut timer, INDEX, Deadline::Body, at);
                }
                if let Some(due) = model {
                    let due = start + Duration::from_millis(due);
                    prop_assert!(table.next_timeout().is_some_and(|at| at <= due));
                }
            }
        }
    }
}
