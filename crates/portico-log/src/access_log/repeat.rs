//! Lines that are those before but for times, port and id: copied, and these written into the copy.
//!
//! Under load most lines are of that kind: what makes a server busy asks the same of it again and again.

use std::ops::Range;

use super::batch::LineDelta;
use super::escape::{micros_digits, seconds_digits};
use super::plan::Layout;
use crate::request_id::Digits;

/// A line that has been written, from which the next may be copied.
#[derive(Debug)]
pub(super) struct Written<'b> {
    /// Of what it tells.
    pub exchange: &'b LineDelta,
    /// Where it stands.
    pub range: Range<usize>,
    /// Where in it what stands that differs.
    pub marks: Marks,
}

/// Places in a line, counted from its beginning: 0 where there is no such thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    start: usize,
    stamp: usize,
    port: usize,
    id: usize,
    /// The whole first, then as in [`Times`](super::Times).
    times: [usize; 4],
    times_noted: usize,
}

/// Times below this have one digit before the point.
const NANOS_END: u64 = 10_000_000_000;

/// Ports from this one on have five digits.
const PORT_MIN: u16 = 10_000;

impl Marks {
    /// Those of a line that begins at `start`.
    pub(super) fn at(start: usize) -> Self {
        Self { start, stamp: 0, port: 0, id: 0, times: [0; 4], times_noted: 0 }
    }

    /// A time stamp with microseconds and `Z` has just been written.
    pub(super) fn note_stamp(&mut self, out: &[u8]) {
        self.stamp = out.len() - self.start - 7;
    }

    /// The client's port follows.
    pub(super) fn note_port(&mut self, out: &[u8]) {
        self.port = out.len() - self.start;
    }

    /// An id of ours has just been written, and so many bytes behind it.
    pub(super) fn note_id(&mut self, out: &[u8], behind: usize) {
        self.id = out.len() - self.start - size_of::<Digits>() - behind;
    }

    /// A time follows.
    pub(super) fn note_time(&mut self, out: &[u8]) {
        if let Some(place) = self.times.get_mut(self.times_noted) {
            *place = out.len() - self.start;
            self.times_noted += 1;
        }
    }

    /// Writes what differs between `exchange` and `last` into `line`, which tells of `last`.
    fn patch(&self, exchange: &LineDelta, last: &LineDelta, line: &mut [u8]) {
        put(line, self.stamp, &micros_digits(exchange.nanos.into()));
        if exchange.port != last.port {
            // Five digits of six.
            let digits = micros_digits(u64::from(exchange.port) * 1000);
            put(line, self.port, &digits[1..]);
        }
        let [whole_at, queue_at, application_at, write_at] = self.times;
        let (times, others) = (&exchange.times, &last.times);
        if times != others {
            let application = seconds_digits(times.application);
            put(line, application_at, &application);
            let whole = times.whole();
            // As a rule there is nothing else.
            let whole = if whole == times.application { application } else { seconds_digits(whole) };
            put(line, whole_at, &whole);
            for (at, time, other) in
                [(queue_at, times.queue, others.queue), (write_at, times.write, others.write)]
            {
                if time != other {
                    put(line, at, &seconds_digits(time));
                }
            }
        }
        if self.id != 0 {
            put(line, self.id, &exchange.id);
        }
    }
}

impl Written<'_> {
    /// Appends the line of `exchange` to `out`, where this line stands, if it is like this one; whether it is.
    #[inline]
    pub(super) fn repeat(&self, exchange: &LineDelta, layout: &Layout, out: &mut Vec<u8>) -> bool {
        let last = self.exchange;
        if exchange.common != last.common {
            return false;
        }
        let is_structured = match layout {
            Layout::Common | Layout::Combined => false,
            Layout::Json | Layout::Logfmt => true,
            Layout::Template(_) => return false,
        };
        if is_structured && !self.has_places(exchange) {
            return false;
        }
        let start = out.len();
        out.extend_from_within(self.range.clone());
        if is_structured && let Some(line) = out.get_mut(start..) {
            self.marks.patch(exchange, last, line);
        }
        true
    }

    /// Whether what differs in `exchange` is as long.
    fn has_places(&self, exchange: &LineDelta) -> bool {
        let last = self.exchange;
        let times = exchange.times.whole().max(last.times.whole()) < NANOS_END;
        times && (exchange.port == last.port || exchange.port.min(last.port) >= PORT_MIN)
    }
}

/// Puts `bytes` into `line` at `at`.
#[inline]
fn put(line: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = line.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;
    use proptest::prelude::*;

    use super::super::batch::Batch;
    use super::super::clock::Clock;
    use super::super::format::format;
    use super::super::plan::{LineConstants, Plan};
    use super::super::testing::Sample;
    use super::super::{AccessRecord, Moment, Reason, Times};
    use crate::request_id::RequestId;
    use portico_proto::Peer;

    const HEADS: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET /a%20b?c=\"d HTTP/1.1\r\nHost: x:80\r\nUser-Agent: a\"b\xff\r\nX-Request-Id: abc\r\n\r\n",
        b"GET /a%20b?c=\"d HTTP/1.1\r\nHost: x:80\r\nUser-Agent: a\"c\xff\r\nX-Request-Id: abd\r\n\r\n",
        b"PUT http://y:7/a HTTP/1.1\r\nHost: x\r\nReferer: r\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX_Y: 1\r\n\r\n",
        b"\x16\x03\x01",
    ];

    const FORMATS: [&str; 6] = [
        "common",
        "combined",
        "json",
        "logfmt",
        "%(h)s %(r)s %(D)s %({portico.request_id}e)s %({X-Y}i)s %({portico.trace_id}e)s %(a)s",
        "%(h)s %(r)s %({Content-Type}o)s %({SERVER_NAME}e)s",
    ];

    /// What is chosen of each request: head, peer, times, id, reason and response.
    type Choice = (usize, usize, usize, u8, usize, usize);

    fn choices() -> impl Strategy<Value = Vec<Choice>> {
        // Few of each, so that lines repeat.
        prop::collection::vec(
            (0..HEADS.len(), 0..8usize, 0..6usize, any::<u8>(), 0..12usize, 0..6usize),
            0..60,
        )
        .prop_flat_map(|choices| {
            let repeated = prop::collection::vec(0..5usize, choices.len());
            (Just(choices), repeated).prop_map(|(choices, counts)| {
                choices.into_iter().zip(counts).flat_map(|(it, count)| vec![it; count]).collect()
            })
        })
    }

    fn sender(choice: &Choice, number: u64) -> (Peer, RequestId) {
        let (head, peer, _, id, ..) = *choice;
        let address = |ip: [u8; 4], port: u16| Peer::Inet((ip, port).into());
        let peer = match peer {
            0 => Peer::Unix,
            1 => address([192, 0, 2, 7], 80),
            2 => address([192, 0, 2, 7], 9999),
            3 => address([192, 0, 2, 7], 10_000),
            4 => address([192, 0, 2, 7], 65_535),
            5 => address([127, 0, 0, 1], 40_000),
            _ => address([192, 0, 2, 7], 40_000 + number as u16),
        };
        let id = match (head, id % 8) {
            (0..=7, 0) => RequestId::None,
            (2 | 3, 1..5) => RequestId::Given,
            (0..=7, _) => RequestId::Made([b'A' + id % 26; 26]),
            _ => RequestId::None,
        };
        (peer, id)
    }

    fn record<'s>(
        sample: &'s Sample,
        (peer, id): &'s (Peer, RequestId),
        choice: &Choice,
        number: u64,
    ) -> AccessRecord<'s> {
        let (_, _, time, _, reason, response) = *choice;
        let times = |queue| Times { queue, application: queue / 3 + number, write: number * 1_000_003 };
        let usual = sample.record();
        AccessRecord {
            peer,
            times: match time {
                0 => None,
                1 => Some(times(9_999_999_999)),
                2 => Some(times(0)),
                _ => Some(times(number * 1_999)),
            },
            id,
            reason: (reason == 0).then_some(Reason::Timeout).or((reason == 1).then_some(Reason::Refused)),
            status: if response == 0 { 404 } else { 200 },
            body_bytes: if response == 1 { 0 } else { 12 },
            moment: Moment {
                second: 784111777 + u64::from(response == 2),
                nanos: (number * 16_666_667) as u32 % 1_000_000_000,
            },
            response_fields: if response == 3 { &b"\x01\0\0\0x"[..] } else { &b"\xff\xff\xff\xff"[..] },
            ..usual
        }
    }

    proptest! {
        #[test]
        fn a_line_is_the_same_after_any_other_as_alone(choices in choices(), wanted in 0..FORMATS.len()) {
            let facts = LineConstants { pid: 4711, slot: Some(3), root_path: String::new() };
            let plan = Plan::new(&AccessLogFormat::parse(FORMATS[wanted]).unwrap(), facts);
            let samples = HEADS.map(Sample::of);
            let written = |batch: &Batch| {
                let mut out = Vec::new();
                format(batch, &plan, &mut Clock::default(), &mut Vec::new(), |lines| out.extend_from_slice(lines));
                String::from_utf8(out).unwrap()
            };
            let (mut all, mut alone) = (Batch::default(), String::new());
            for (number, choice) in choices.iter().enumerate() {
                let sender = sender(choice, number as u64);
                let record = record(&samples[choice.0], &sender, choice, number as u64);
                all.push(&record, &plan);
                let mut one = Batch::default();
                one.push(&record, &plan);
                alone += &written(&one);
            }
            prop_assert_eq!(written(&all), alone);
        }
    }
}
