//! What the tests of the log share: one exchange, and the line that is made of it.

use portico_config::AccessLogFormat;
use portico_proto::{Event, Fields, Limits, Peer, RequestHead, ResponseHead, TraceText, http1};

use super::batch::Batch;
use super::clock::Clock;
use super::format::format;
use super::plan::{LineConstants, Plan};
use super::{AccessRecord, Moment, Reason, Times};
use crate::request_id::RequestId;

/// An exchange, but for what is the same in all tests.
pub(super) struct Sample {
    head: Option<Box<RequestHead>>,
    response_fields: Vec<u8>,
    peer: Peer,
    id: RequestId,
    pub trace: Option<TraceText>,
    pub times: Option<Times>,
    pub reason: Option<Reason>,
}

impl Default for Sample {
    fn default() -> Self {
        Self::of(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    }
}

impl Sample {
    /// The exchange that began with these bytes.
    pub(super) fn of(request: &[u8]) -> Self {
        let mut input = request;
        let head = match http1::Connection::new().next_event(&mut input, &Limits::default()) {
            Ok(Some(Event::Head(head))) => Some(head),
            _ => None,
        };
        let times = Times { queue: 1_000_000_000, application: 1_500_000_000, write: 3_000 };
        let mut id = [b'0'; 26];
        id[25] = b'1';
        Self {
            head,
            response_fields: Vec::new(),
            peer: Peer::Inet(([192, 0, 2, 7], 5000).into()),
            id: RequestId::Made(id),
            trace: None,
            times: Some(times),
            reason: None,
        }
    }

    pub(super) fn record(&self) -> AccessRecord<'_> {
        AccessRecord {
            head: self.head.as_deref(),
            peer: &self.peer,
            server_name: "198.51.100.1",
            server_port: "8000",
            mount: "",
            moment: Moment { second: 784111777, nanos: 123_456 },
            status: 200,
            body_bytes: 12,
            id: &self.id,
            trace: self.trace.as_ref(),
            times: self.times,
            reason: self.reason,
            response_fields: &self.response_fields,
        }
    }
}

/// The line of `sample`, whose response is a text of 12 bytes.
pub(super) fn line(sample: &Sample, wanted: &AccessLogFormat) -> String {
    let constants = LineConstants {
        pid: 4711,
        slot: Some(3),
        root_path: "/below".to_owned(),
        own_traces: sample.trace.is_some(),
    };
    let plan = Plan::new(wanted, constants);
    let mut fields = Fields::new();
    fields.push(b"Content-Type", b"text/plain");
    let head = ResponseHead { status: 200, fields, length: Some(12), ..ResponseHead::default() };
    let mut response_fields = Vec::new();
    plan.note_response(&head, &mut response_fields);
    let mut batch = Batch::default();
    batch.push(&AccessRecord { response_fields: &response_fields, ..sample.record() }, &plan);
    let mut out = Vec::new();
    format(&batch, &plan, &mut Clock::default(), &mut Vec::new(), |lines| out.extend_from_slice(lines));
    String::from_utf8(out).unwrap()
}
