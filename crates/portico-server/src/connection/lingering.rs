//! What a client still sends after the last response: read and dropped for a while, because closing with unread
//! bytes would send a reset, which may overtake the response (RFC 9112, section 9.6).

use std::time::{Duration, Instant};

use super::{Connection, Deadline, EngineContext, Phase, Step};

/// How far the wait after the last response has got.
#[derive(Debug)]
pub(super) struct Lingering {
    since: Instant,
    /// Bytes that have been dropped.
    pub(super) discarded: u32,
}

/// Bytes that a peer may go on sending after the last response before the connection is cut. Clients that send a
/// body which is refused read the response when they have sent all of it.
const LINGER_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// How long a peer may go on sending after the last response, and how long it may pause meanwhile: as nginx has it
/// (`lingering_time`, `lingering_timeout`), with a shorter pause.
const LINGER_MAX: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(2);

impl Connection {
    /// Ends the exchange, and the connection so that the peer gets all that was sent.
    pub(super) fn begin_close(&mut self, context: &mut EngineContext) -> Step {
        let all_read = !self.has_upload() && self.io.inbox.is_empty() && !self.io.readable;
        self.end_exchange(context);
        if all_read && !self.framing_lost || self.carrier.socket().is_none() {
            return Step::Close;
        }
        self.carrier.shutdown_write();
        self.io.inbox = Vec::new();
        self.phase = Phase::Lingering;
        self.lingering = Some(Box::new(Lingering { since: context.now, discarded: 0 }));
        self.await_end(context);
        Step::Again
    }

    /// Counts bytes that nobody will read. Who sends them is given time for more.
    pub(super) fn discard(&mut self, count: usize, context: &EngineContext) -> Step {
        self.await_end(context);
        let Some(lingering) = &mut self.lingering else { return Step::Close };
        lingering.discarded = lingering.discarded.saturating_add(count as u32);
        if lingering.discarded > LINGER_BYTES_MAX { Step::Close } else { Step::Keep }
    }

    /// Waits for what the peer still sends, and for its end.
    fn await_end(&mut self, context: &EngineContext) {
        let since = self.lingering.as_ref().map_or(context.now, |lingering| lingering.since);
        let until = (since + LINGER_MAX).min(context.now + LINGER_PAUSE);
        let until = match self.due {
            // A server that stops gives nobody more time.
            Some((Deadline::Drain, due)) if context.draining => due.min(until),
            _ => until,
        };
        self.due = Some((Deadline::Drain, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portico_config::WireProtocol;

    use super::*;
    use crate::connection::tests::{POST, fixture, routed_beside, seconds};

    /// What came with the head of a refused request was read as one more, which then waited for a thread.
    #[test]
    fn the_body_of_a_request_refused_at_its_head_is_passed_over() {
        let routes = "[
            { host = 'x', path = '/form', methods = ['GET'], respond = 200 },
            { host = 'x', path = '/out', allow = [], respond = 200 },
        ]";
        let http = WireProtocol::Http;
        for (mut fixture, request, status) in [
            (fixture(&["--allowed-hosts", "y"]), "POST / HTTP/1.1\r\nHost: x", "421"),
            (routed_beside(http, routes, false), "DELETE /form HTTP/1.1\r\nHost: x", "405"),
            (routed_beside(http, routes, false), "POST /out HTTP/1.1\r\nHost: x", "403"),
        ] {
            let whole = format!("{request}\r\nContent-Length: 2\r\n\r\nokGET / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(fixture.receive(whole.as_bytes()), Step::Again, "{request}");
            let response = fixture.sent();
            assert_eq!(&response[9..12], status.as_bytes(), "{request}");
            assert_eq!(fixture.receive(b"more"), Step::Keep, "{request}");
            assert!(!fixture.connection.is_waiting() && fixture.sent().is_empty(), "{request}");
        }
    }

    #[test]
    fn whoever_goes_on_sending_after_the_last_response_has_time_for_it_within_bounds() {
        let mut fixture = fixture(&["--limit-request-body", "10"]);
        assert_eq!(fixture.receive(POST), Step::Again);
        assert!(fixture.sent().starts_with(b"HTTP/1.1 413 "));
        assert_eq!(fixture.connection.proceed(&mut fixture.context), Step::Keep);
        for _ in 0..20 {
            fixture.wait(Duration::from_millis(1500));
            assert_eq!(fixture.receive(b"more"), Step::Keep);
        }
        assert_eq!(fixture.due(), Some((Deadline::Drain, Duration::ZERO)), "30 seconds in all");
        assert_eq!(fixture.pass(Deadline::Drain), Step::Close);
    }

    #[test]
    fn what_is_discarded_after_the_last_response_is_bounded() {
        let mut fixture = fixture(&["--limit-request-body", "10"]);
        assert_eq!(fixture.receive(POST), Step::Again);
        fixture.connection.proceed(&mut fixture.context);
        fixture.connection.lingering.as_mut().unwrap().discarded = 1024 * 1024 * 1024 - 4;
        assert_eq!(fixture.receive(b"four"), Step::Keep);
        assert_eq!(fixture.receive(b"5"), Step::Close);
    }

    #[test]
    fn a_server_that_stops_gives_no_more_time_to_who_goes_on_sending() {
        let mut fixture = fixture(&["--limit-request-body", "10"]);
        assert_eq!(fixture.receive(POST), Step::Again);
        fixture.connection.proceed(&mut fixture.context);
        fixture.context.draining = true;
        fixture.wait(seconds(1));
        assert_eq!(fixture.receive(b"more"), Step::Keep);
        assert_eq!(fixture.due(), Some((Deadline::Drain, seconds(1))));
    }
}
