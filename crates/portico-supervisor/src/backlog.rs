//! Connections that were dropped because a listen queue was full: nobody else tells the operator.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Watches the kernel's counter and says now and then that it rises.
#[derive(Debug)]
pub(crate) struct ListenOverflows {
    /// As it was when it was last told of, or found.
    told: u64,
    /// Not told again before then.
    next: Option<Instant>,
}

/// That of this process' own namespace.
pub(crate) const OWN_NETSTAT: &str = "/proc/net/netstat";

/// Between two lines in the log.
const INTERVAL: Duration = Duration::from_secs(60);

/// TCP connections that did not fit into a listen queue since a network namespace was made, of all sockets in it.
/// `netstat` is the kernel's table: `/proc/PID/net/netstat` for that of another process.
pub(crate) fn listen_overflows(netstat: &Path) -> Option<u64> {
    let text = fs::read_to_string(netstat).ok()?;
    // Pairs of lines: names, and below them the numbers.
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let index = names.split_ascii_whitespace().position(|name| name == "ListenOverflows")?;
    numbers.split_ascii_whitespace().nth(index)?.parse().ok()
}

impl ListenOverflows {
    /// From this value of [`listen_overflows`] on.
    pub(crate) fn since(count: u64) -> Self {
        Self { told: count, next: None }
    }

    /// What to log if the counter stands at `count` now; at most once a minute, with all of the meantime.
    pub(crate) fn tick(&mut self, count: u64, now: Instant) -> Option<String> {
        let dropped = count.saturating_sub(self.told);
        if dropped == 0 || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.told = count;
        self.next = Some(now + INTERVAL);
        Some(format!(
            "{dropped} TCP connections found a listen queue full on this machine and were dropped: the server \
             accepts too slowly, or --backlog and net.core.somaxconn are too small for its bursts"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let netstat = root.path().join("netstat");
        assert_eq!(listen_overflows(&netstat), None);
        for (text, expected) in [
            (
                "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 24\nIpExt: A\nIpExt: 1\n",
                Some(23),
            ),
            ("TcpExt: SyncookiesSent\nTcpExt: 1\n", None),
            ("TcpExt: ListenOverflows\n", None),
        ] {
            fs::write(&netstat, text).unwrap();
            assert_eq!(listen_overflows(&netstat), expected);
        }
    }

    #[test]
    fn a_rise_is_told_once_a_minute_and_in_full() {
        let mut overflows = ListenOverflows::since(10);
        let now = Instant::now();
        assert_eq!(overflows.tick(10, now), None);
        assert!(overflows.tick(13, now).unwrap().starts_with("3 TCP connections "));
        assert_eq!(overflows.tick(17, now + Duration::from_secs(59)), None);
        assert!(overflows.tick(18, now + INTERVAL).unwrap().starts_with("5 TCP connections "));
        assert_eq!(overflows.tick(18, now + 2 * INTERVAL), None);
        assert_eq!(overflows.tick(0, now + 3 * INTERVAL), None, "another namespace's");
    }
}
