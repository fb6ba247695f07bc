//! Lines of the access log, each in its format; the Common and the Combined Log Format are here.

use super::batch::{Batch, LogLine};
use super::clock::Clock;
use super::escape::{number, plain};
use super::plan::{AUTHORIZATION, Layout, Plan, REFERER, USER_AGENT};
use super::request::{write_client, write_request_line, write_user};
use super::{structured, template};

/// So many bytes of lines are passed on at once: few enough to stay in the nearest caches.
const PASSED_BYTES: usize = 64 * 1024;

/// Formats the lines of `batch`, each with its line end, and passes them on, many at a time. `out` is where they
/// are formatted; it is left empty.
pub(super) fn format(
    batch: &Batch,
    plan: &Plan,
    clock: &mut Clock,
    out: &mut Vec<u8>,
    mut pass_on: impl FnMut(&[u8]),
) {
    for delta in batch.deltas() {
        let Some(line) = batch.line(delta, plan) else { continue };
        write(&line, plan, clock, out);
        if out.len() >= PASSED_BYTES {
            pass_on(out);
            out.clear();
        }
    }
    if !out.is_empty() {
        pass_on(out);
        out.clear();
    }
}

/// Appends `line`, with its line end, to `out`.
fn write(line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) {
    match &plan.layout {
        Layout::Common => common(line, clock, out),
        Layout::Combined => {
            common(line, clock, out);
            for at in [REFERER, USER_AGENT] {
                out.extend_from_slice(b" \"");
                plain(line.text(at).unwrap_or(b"-"), out);
                out.push(b'"');
            }
        }
        Layout::Json => structured::json(line, plan, clock, out),
        Layout::Logfmt => structured::logfmt(line, plan, clock, out),
        Layout::Template(parts) => template::line(line, parts, plan, clock, out),
    }
    out.push(b'\n');
}

fn common(line: &LogLine<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    write_client(line, out);
    out.extend_from_slice(b" - ");
    write_user(line.text(AUTHORIZATION), out);
    out.push(b' ');
    out.extend_from_slice(clock.common(line.entry.moment.second));
    out.extend_from_slice(b" \"");
    write_request_line(line, out);
    out.extend_from_slice(b"\" ");
    number(line.entry.status.into(), out);
    out.push(b' ');
    match line.entry.body_bytes {
        0 => out.push(b'-'),
        count => number(count, out),
    }
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;
    use portico_proto::Peer;
    use proptest::prelude::*;

    use super::super::plan::LineConstants;
    use super::super::testing::{Sample, line};
    use super::super::{AccessRecord, Moment, Reason, Times};
    use super::*;
    use crate::request_id::RequestId;

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

    #[test]
    fn common_and_combined_lines() {
        let request = b"GET /a?b=\"c\" HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\
            User-Agent: a\"b\\c\td\xff\r\n\r\n";
        let common = r#"192.0.2.7 - alice [06/Nov/1994:08:49:37 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 12"#;
        assert_eq!(line(&Sample::of(request), &AccessLogFormat::Common), format!("{common}\n"));
        let expected = format!("{common} \"-\" {}\n", r#""a\"b\\c\x09d\xff""#);
        assert_eq!(line(&Sample::of(request), &AccessLogFormat::Combined), expected);
    }

    #[test]
    fn what_was_no_request_gets_a_line_too() {
        let expected = "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"-\" 200 12\n";
        assert_eq!(line(&Sample::of(b"\x16\x03\x01"), &AccessLogFormat::Common), expected);
    }

    proptest! {
        #[test]
        fn a_line_is_the_same_after_any_other_as_alone(choices in choices(), wanted in 0..FORMATS.len()) {
            let constants = LineConstants { pid: 4711, slot: Some(3), ..LineConstants::default() };
            let plan = Plan::new(&AccessLogFormat::parse(FORMATS[wanted]).unwrap(), constants);
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
