//! What has happened lately: events of the server, and requests that were slow or failed.

use portico_metrics::EndedExchange;
use portico_supervisor::{Event, Scoreboard};
use serde::Serialize;

use crate::reading::seconds;

/// Something that has happened to the server: a reload, a worker's start or end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerEvent {
    /// When, in seconds since 1970.
    pub unix_time: f64,
    /// What, in a word.
    pub kind: String,
    /// The slot concerned.
    pub slot: Option<u32>,
    /// The process concerned.
    pub pid: Option<u64>,
    /// What, in a sentence.
    pub text: String,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndedRequest {
    /// When it ended, in seconds since 1970.
    pub unix_time: f64,
    /// Its method.
    pub method: String,
    /// The path of its target, without the query.
    pub path: String,
    /// The status of its response.
    pub status: u16,
    /// Why it ended, as the access log says it.
    pub reason: String,
    /// Its wait for a thread.
    pub queue_seconds: Option<f64>,
    /// How long the application took.
    pub application_seconds: Option<f64>,
    /// How long its response took to be written.
    pub write_seconds: Option<f64>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
}

/// Slow and failed requests that are shown, of all slots together.
const RECENT_MAX: usize = 100;

/// The events of the server, the latest last.
pub(crate) fn events(board: &Scoreboard) -> Vec<ServerEvent> {
    let shown = |event: Event| ServerEvent {
        unix_time: seconds(event.unix_nanos),
        kind: event.kind.word().to_owned(),
        slot: event.slot,
        pid: event.pid.map(u64::from),
        text: event.text,
    };
    board.events().read().into_iter().map(shown).collect()
}

/// The last requests that were slow or failed, the latest last.
pub(crate) fn recent(board: &Scoreboard) -> Vec<EndedRequest> {
    let mut all: Vec<EndedExchange> =
        board.slots().flat_map(|(_, slot)| slot.ended_requests().read()).collect();
    all.sort_by_key(|ended| ended.unix_nanos);
    let from = all.len().saturating_sub(RECENT_MAX);
    all.drain(from..).map(shown).collect()
}

fn shown(ended: EndedExchange) -> EndedRequest {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    EndedRequest {
        unix_time: seconds(ended.unix_nanos),
        method: text(&ended.method),
        path: text(&ended.path),
        status: ended.status,
        reason: text(&ended.reason),
        queue_seconds: Some(seconds(ended.queue_nanos)),
        application_seconds: Some(seconds(ended.application_nanos)),
        write_seconds: Some(seconds(ended.write_nanos)),
        trace_id: (ended.trace_id != 0).then(|| format!("{:032x}", ended.trace_id)),
    }
}

#[cfg(test)]
mod tests {
    use portico_supervisor::EventKind;

    use super::*;

    #[test]
    fn events_are_in_their_order() {
        let board = Scoreboard::create(1, 1).unwrap();
        board.events().note(EventKind::Start, Some(0), Some(7), "worker 7 was started");
        board.events().note(EventKind::Reload, None, None, "a reload was asked for");
        let shown = events(&board);
        assert_eq!((shown[0].kind.as_str(), shown[0].slot, shown[0].pid), ("start", Some(0), Some(7)));
        assert_eq!((shown[1].kind.as_str(), shown[1].slot, shown[1].pid), ("reload", None, None));
        assert_eq!(shown[1].text, "a reload was asked for");
        assert!(shown[0].unix_time > 1.7e9 && shown[1].unix_time >= shown[0].unix_time);
    }

    #[test]
    fn the_latest_of_all_slots_are_shown() {
        let board = Scoreboard::create(3, 1).unwrap();
        for number in 0..120_u64 {
            let ended =
                EndedExchange { unix_nanos: number * 1_000_000_000, status: 500, ..EndedExchange::default() };
            board.slot((number % 3) as u32).unwrap().ended_requests().push(&ended);
        }
        let times: Vec<f64> = recent(&board).iter().map(|ended| ended.unix_time).collect();
        assert_eq!(times, (20..120).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_is_shown_as_the_access_log_tells_it() {
        let board = Scoreboard::create(1, 1).unwrap();
        board.slot(0).unwrap().ended_requests().push(&EndedExchange {
            unix_nanos: 1_800_000_000_500_000_000,
            status: 504,
            queue_nanos: 2_000_000,
            application_nanos: 30_000_000_000,
            write_nanos: 1_000,
            trace_id: 0xab,
            method: b"GET".to_vec(),
            reason: b"timeout".to_vec(),
            path: b"/a\xff".to_vec(),
        });
        let expected = EndedRequest {
            unix_time: 1_800_000_000.5,
            method: "GET".to_owned(),
            path: "/a\u{fffd}".to_owned(),
            status: 504,
            reason: "timeout".to_owned(),
            queue_seconds: Some(0.002),
            application_seconds: Some(30.0),
            write_seconds: Some(0.000_001),
            trace_id: Some(format!("{}ab", "0".repeat(30))),
        };
        assert_eq!(recent(&board), [expected]);
    }
}
