//! What a server was like lately: snapshots of the last ten minutes, and what follows from them.

use std::collections::VecDeque;

use portico_insight::{ServerRates, Snapshot};

use super::state::Window;

/// The snapshots, one for each second, the latest last.
#[derive(Debug, Default)]
pub(crate) struct History {
    snapshots: VecDeque<Snapshot>,
    /// Requests a second from each of them to the next.
    course: VecDeque<f64>,
}

/// As many as the longest window has seconds.
const SNAPSHOTS_MAX: usize = 601;

impl History {
    /// Another one, a second after the one before.
    pub(crate) fn push(&mut self, snapshot: &Snapshot) {
        let rates = self.snapshots.back().and_then(|before| ServerRates::between(before, snapshot));
        if rates.is_none() {
            // Of another server, or the first.
            self.snapshots.clear();
        }
        self.course.extend(rates.map(|rates| rates.requests_per_second));
        // What it was at is of no use later.
        let kept = Snapshot { requests: vec![], events: vec![], recent: vec![], ..snapshot.clone() };
        self.snapshots.push_back(kept);
        while self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
        while self.course.len() > SNAPSHOTS_MAX {
            self.course.pop_front();
        }
    }

    /// What the server did in the window before the last snapshot, or in as much of it as is known.
    pub(crate) fn rates(&self, window: Window) -> Option<ServerRates> {
        let last = self.snapshots.back()?;
        let begin = last.uptime_seconds - window.seconds();
        // The nearest one: they come a little later than each second.
        let distance = |snapshot: &&Snapshot| (snapshot.uptime_seconds - begin).abs();
        let first = self.snapshots.iter().min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
        ServerRates::between(first, last)
    }

    /// Requests a second, the latest last.
    pub(crate) fn course(&mut self) -> &[f64] {
        self.course.make_contiguous()
    }
}

#[cfg(test)]
mod tests {
    use portico_insight::ReadTime;
    use portico_metrics::{CountedExchange, Method};
    use portico_supervisor::{Scoreboard, SupervisorField};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn read(board: &Scoreboard, second: u64) -> Snapshot {
        Snapshot::read(board, ReadTime { nanos: second * SECOND, unix_time: 0.0 })
    }

    #[test]
    fn a_window_has_what_is_known_of_it() {
        let board = Scoreboard::create(1, 1).unwrap();
        board.set(SupervisorField::StartedNanos, SECOND);
        let metrics = board.slot(0).unwrap().metrics();
        let mut history = History::default();
        assert!(history.rates(Window::Short).is_none());
        history.push(&read(&board, 10));
        assert!(history.rates(Window::Short).is_none(), "one is no difference");
        for second in 11..=700 {
            metrics.record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, 1_000_000));
            if second > 690 {
                metrics.record_exchange(&CountedExchange::without_call(Method::of(b"GET"), 200, 1_000_000));
            }
            history.push(&read(&board, second));
        }
        let rate = |window| {
            let rates = history.rates(window).unwrap();
            (rates.seconds, rates.requests_per_second)
        };
        assert_eq!(rate(Window::Short), (10.0, 2.0));
        assert_eq!(rate(Window::Minute), (60.0, 70.0 / 60.0));
        assert_eq!(rate(Window::TenMinutes), (600.0, 610.0 / 600.0));
        assert_eq!(history.snapshots.len(), SNAPSHOTS_MAX);
        assert_eq!(history.course().len(), SNAPSHOTS_MAX);
        assert_eq!(history.course().last(), Some(&2.0));
        board.set(SupervisorField::Pid, 7);
        history.push(&read(&board, 701));
        assert!(history.rates(Window::Short).is_none(), "another server");
    }
}
