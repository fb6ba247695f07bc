//! `portico requests PID`: the requests that run, the oldest first, from the scoreboard alone.

use portico_insight::{ReadTime, Snapshot};
use portico_supervisor::Scoreboard;

use crate::table::{TextTable, cut, time_of_seconds};
use crate::words::{phase_in_full, request_line};

/// Characters of a request that are shown. Its path has at most four times 256, if all of it is escaped.
const REQUEST_WIDTH: usize = 120;

/// What `board` says at `now`.
pub(crate) fn tell(board: &Scoreboard, now: ReadTime) -> String {
    const RIGHT: &[bool] = &[false, true, true, false, false, false, false];
    let heading = ["ID", "AGE", "QUEUED", "PHASE", "THREAD", "CLIENT", "REQUEST"];
    let mut table = TextTable::new(&heading, RIGHT);
    for request in &Snapshot::read(board, now).requests {
        table.push(vec![
            request.id.to_string(),
            time_of_seconds(request.age_seconds),
            time_of_seconds(request.queued_seconds),
            phase_in_full(request.phase).to_owned(),
            request.thread.clone(),
            request.peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string()),
            cut(&request_line(request), REQUEST_WIDTH),
        ]);
    }
    if table.is_empty() { "No request is running.\n".to_owned() } else { table.to_string() }
}

/// The same for programs: the requests of the snapshot.
pub(crate) fn json(board: &Scoreboard, now: ReadTime) -> String {
    let told = serde_json::to_value(Snapshot::read(board, now).requests).unwrap_or_default();
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use portico_supervisor::{Note, SlotField, ThreadState};
    use serde_json::{Value as Json, json};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: ReadTime = ReadTime { nanos: 160 * SECOND, unix_time: 0.0 };

    fn board() -> Scoreboard {
        let board = Scoreboard::create(2, 2).unwrap();
        let peer = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        for (number, target, state) in [
            (0, &b"/young\x1b[2J?secret=1"[..], ThreadState::Running),
            (1, &b"/old"[..], ThreadState::AwaitingClient),
        ] {
            let slot = board.slot(number).unwrap();
            slot.set(SlotField::Pid, 4711 + u64::from(number));
            let begun_nanos = (158 - 60 * u64::from(number)) * SECOND;
            let note = Note {
                method: b"GET",
                target,
                peer: peer.filter(|_| number == 0),
                begun_nanos,
                queued_nanos: SECOND / 4,
                route_timeout: None,
            };
            slot.thread(1).unwrap().begin(&note);
            slot.thread(1).unwrap().set_state(state);
        }
        board
    }

    #[test]
    fn the_oldest_comes_first_and_no_client_writes_to_the_terminal() {
        let expected = "\
ID        AGE  QUEUED  PHASE            THREAD     CLIENT     REQUEST
1-2-2  1m 02s  250 ms  awaiting client  portico-2  -          GET /old
0-2-2   2.2 s  250 ms  running          portico-2  192.0.2.7  GET /young\\u{1b}[2J
";
        assert_eq!(tell(&board(), NOW), expected);
        assert_eq!(tell(&Scoreboard::create(1, 1).unwrap(), NOW), "No request is running.\n");
    }

    #[test]
    fn programs_get_the_same() {
        let told: Json = serde_json::from_str(&json(&board(), NOW)).unwrap();
        assert_eq!(told[0]["id"], "1-2-2");
        assert_eq!(told[0]["phase"], "awaiting_client");
        assert_eq!((&told[1]["path"], &told[1]["age_seconds"]), (&json!("/young\u{1b}[2J"), &json!(2.25)));
        assert_eq!(json(&Scoreboard::create(1, 1).unwrap(), NOW), "[]\n");
    }
}
