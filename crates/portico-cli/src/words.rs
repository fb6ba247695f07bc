//! What `portico status` and its like call the states of servers, workers and requests; and how they write what
//! clients have sent.

use portico_insight::{RequestPhase, ServerState, ShownRequest, WorkerState};

/// The server's state in a word.
pub(crate) fn server_state(state: ServerState) -> &'static str {
    match state {
        ServerState::Booting => "starting",
        ServerState::Serving => "serving",
        ServerState::Stopping => "stopping",
    }
}

/// A worker's state in a word.
pub(crate) fn worker_state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Gone => "gone",
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Retiring => "retiring",
    }
}

/// What a call is at in a word.
pub(crate) fn phase(phase: RequestPhase) -> &'static str {
    match phase {
        RequestPhase::Running => "running",
        RequestPhase::AwaitingClient => "client",
        RequestPhase::Websocket => "websocket",
        RequestPhase::Lost => "lost",
    }
}

/// The same where there is room for more than one.
pub(crate) fn phase_in_full(phase: RequestPhase) -> &'static str {
    match phase {
        RequestPhase::AwaitingClient => "awaiting client",
        RequestPhase::Running | RequestPhase::Websocket | RequestPhase::Lost => self::phase(phase),
    }
}

/// `GET /path` of a request.
pub(crate) fn request_line(request: &ShownRequest) -> String {
    format!("{} {}", printable(&request.method), printable(&request.path))
}

/// `text` of a client's as a terminal may get it: whatever is not a visible character of ASCII is written as an
/// escape sequence of Rust's, so that it neither moves the cursor nor looks like another text.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => shown.push_str("\\\\"),
            ' '..='~' => shown.push(character),
            _ => shown.extend(character.escape_default()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("/a b~\"'%41"), "/a b~\"'%41");
        assert_eq!(printable("/\u{1b}[2J\r\n\t\u{7f}\u{9b}"), r"/\u{1b}[2J\r\n\t\u{7f}\u{9b}");
        assert_eq!(printable("\u{e9}\u{202e}\u{200b}"), r"\u{e9}\u{202e}\u{200b}");
        assert_eq!(printable(r"\n"), r"\\n", "not the same as a line feed");
    }
}
