//! Lines of a template: gunicorn's atoms.

use portico_config::{Atom, AtomForm, RequestStage};
use portico_proto::{Peer, TraceText, path_info};

use super::Times;
use super::batch::LogLine;
use super::clock::Clock;
use super::escape::{number, plain, seconds};
use super::plan::{Plan, TARGET, TemplatePart};
use super::request::{protocol, split_target, write_client, write_request_line, write_user};

/// Appends `line` without its line end.
pub(super) fn line(
    line: &LogLine<'_>,
    parts: &[TemplatePart],
    plan: &Plan,
    clock: &mut Clock,
    out: &mut Vec<u8>,
) {
    parts.iter().for_each(|part| write_part(part, line, plan, clock, out));
}

fn write_part(part: &TemplatePart, line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) {
    match part {
        TemplatePart::Fixed(text) => out.extend_from_slice(text),
        TemplatePart::Text(at) => plain(line.text(*at).unwrap_or(b"-"), out),
        TemplatePart::Path(at) => match line.text(TARGET) {
            Some(target) => {
                let script_name = line.text(*at).unwrap_or(plan.constants.root_path.as_bytes());
                plain(&path_info(split_target(target).0, script_name), out);
            }
            None => out.push(b'-'),
        },
        TemplatePart::User(at) => write_user(line.text(*at), out),
        TemplatePart::Trace(at) => {
            let trace = line.trace(*at);
            out.extend_from_slice(trace.as_ref().map_or(b"-", TraceText::trace_id));
        }
        TemplatePart::Span(at) => {
            let trace = line.trace(*at);
            out.extend_from_slice(trace.as_ref().map_or(b"-", TraceText::span_id));
        }
        TemplatePart::Id(at) => plain(line.id(*at).unwrap_or(b"-"), out),
        TemplatePart::Atom(atom) => write_atom(atom, line, clock, out),
        TemplatePart::Formed(part, form, is_number) => {
            let start = out.len();
            write_part(part, line, plan, clock, out);
            form_text(form, *is_number, start, out);
        }
    }
}

/// Gives what stands in `out` from `start` on its form, as Python's `%` does.
fn form_text(form: &AtomForm, is_number: bool, start: usize, out: &mut Vec<u8>) {
    let count = |text: &[u8]| text.iter().filter(|byte| !is_continuation(**byte)).count();
    if is_number && out[start..].iter().all(u8::is_ascii_digit) {
        let sign = form.sign;
        match form.precision {
            _ if form.is_decimal => {
                let decimals = form.precision.unwrap_or(PYTHONS_DECIMALS);
                out.extend((decimals > 0).then_some(b'.'));
                out.resize(out.len() + decimals, b'0');
            }
            Some(digits) => {
                let missing = digits.saturating_sub(out.len() - start);
                out.splice(start..start, std::iter::repeat_n(b'0', missing));
            }
            None => {}
        }
        if form.has_zeros && !form.is_left {
            let wanted = form.width.saturating_sub(usize::from(sign.is_some()));
            let missing = wanted.saturating_sub(out.len() - start);
            out.splice(start..start, std::iter::repeat_n(b'0', missing));
        }
        out.splice(start..start, sign.map(|sign| sign as u8));
    } else if let Some(characters) = form.precision {
        let ends = (start..out.len()).filter(|at| !is_continuation(out[*at])).nth(characters);
        out.truncate(ends.unwrap_or(out.len()));
    }
    let missing = form.width.saturating_sub(count(&out[start..]));
    let at = if form.is_left { out.len() } else { start };
    out.splice(at..at, std::iter::repeat_n(b' ', missing));
}

/// Digits after the point where nothing is said of them.
const PYTHONS_DECIMALS: usize = 6;

/// Whether it is a byte of a character that has begun before it (UTF-8).
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

fn write_atom(atom: &Atom, line: &LogLine<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    let entry = &line.entry;
    let whole = entry.times.as_ref().map_or(0, Times::whole);
    match atom {
        Atom::Client => write_client(line, out),
        Atom::ClientPort => match entry.peer {
            Peer::Inet(address) => number(address.port().into(), out),
            Peer::Unix => out.push(b'-'),
        },
        Atom::Time => out.extend_from_slice(clock.common(entry.moment.second)),
        Atom::RequestLine => write_request_line(line, out),
        Atom::Query => plain(line.text(TARGET).map_or(b"-", |target| split_target(target).1), out),
        Atom::Protocol => out.extend_from_slice(entry.version.map_or(b"-", protocol)),
        Atom::Status => number(entry.status.into(), out),
        Atom::Sent => number(entry.body_bytes, out),
        Atom::Seconds => number(whole / 1_000_000_000, out),
        Atom::Milliseconds => number(whole / 1_000_000, out),
        Atom::Microseconds => number(whole / 1_000, out),
        Atom::DecimalSeconds => seconds(whole, out),
        Atom::Took(stage) => match (entry.times, stage) {
            (Some(times), RequestStage::Queue) => seconds(times.queue, out),
            (Some(times), RequestStage::Application) => seconds(times.application, out),
            (Some(times), RequestStage::Write) => seconds(times.write, out),
            (None, _) => out.push(b'-'),
        },
        Atom::Reason => out.extend_from_slice(entry.reason.map_or("-", |reason| reason.name()).as_bytes()),
        // A plan has another part for each of these.
        Atom::Ident
        | Atom::Method
        | Atom::Path
        | Atom::Pid
        | Atom::RequestField(_)
        | Atom::RequestId
        | Atom::ResponseField(_)
        | Atom::Scheme
        | Atom::ScriptName
        | Atom::ServerName
        | Atom::ServerPort
        | Atom::ServerSoftware
        | Atom::Slot
        | Atom::SpanId
        | Atom::Target
        | Atom::TraceId
        | Atom::User => out.push(b'-'),
    }
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;

    use super::super::Reason;
    use super::super::testing::{Sample, line};

    const REQUEST: &[u8] = b"GET /below/a%20b%0ac?d=e HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a: 2\r\n\
        Authorization: Basic YWxpY2U6c2VjcmV0\r\nReferer: http://from/\r\nUser-Agent: a\"b\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

    fn told(sample: &Sample, template: &str) -> String {
        let line = line(sample, &AccessLogFormat::parse(template).unwrap());
        line.strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn every_atom() {
        let sample = Sample::of(REQUEST);
        for (atom, expected) in [
            ("h", "192.0.2.7"),
            ("l", "-"),
            ("u", "alice"),
            ("t", "[06/Nov/1994:08:49:37 +0000]"),
            ("r", "GET /below/a%20b%0ac?d=e HTTP/1.1"),
            ("m", "GET"),
            ("U", "/a b\\x0ac"),
            ("q", "d=e"),
            ("H", "HTTP/1.1"),
            ("s", "200"),
            ("B", "12"),
            ("b", "12"),
            ("f", "http://from/"),
            ("a", "a\\\"b"),
            ("T", "2"),
            ("M", "2500"),
            ("D", "2500003"),
            ("L", "2.500003"),
            ("p", "<4711>"),
            ("{X-A}i", "1,2"),
            ("{x-b}i", "-"),
            ("{Content-Type}o", "text/plain"),
            ("{content-length}o", "12"),
            ("{x-b}o", "-"),
            ("{REQUEST_METHOD}e", "GET"),
            ("{http_x_a}e", "1,2"),
            ("{RAW_URI}e", "/below/a%20b%0ac?d=e"),
            ("{REMOTE_PORT}e", "5000"),
            ("{SCRIPT_NAME}e", "/below"),
            ("{wsgi.url_scheme}e", "http"),
            ("{SERVER_NAME}e", "198.51.100.1"),
            ("{SERVER_PORT}e", "8000"),
            ("{portico.queue_time}e", "1.000000"),
            ("{portico.application_time}e", "1.500000"),
            ("{portico.write_time}e", "0.000003"),
            ("{portico.reason}e", "-"),
            ("{portico.worker}e", "3"),
            ("{portico.trace_id}e", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("{portico.span_id}e", "00f067aa0ba902b7"),
            ("{portico.request_id}e", "00000000000000000000000001"),
        ] {
            assert_eq!(told(&sample, &format!("%({atom})s")), expected, "{atom}");
        }
    }

    #[test]
    fn what_there_is_not_is_a_dash() {
        let mut sample = Sample::of(b"\x16\x03\x01");
        (sample.times, sample.reason) = (None, Some(Reason::Refused));
        let atoms = "%(u)s %(r)s %(m)s %(U)s %(q)s %(H)s %(f)s %({x}i)s %({portico.request_id}e)s \
             %({portico.queue_time}e)s %({portico.trace_id}e)s";
        assert_eq!(told(&sample, atoms), ["-"; 11].join(" "));
        assert_eq!(told(&sample, "%(D)s %({portico.reason}e)s"), "0 refused");
    }

    #[test]
    fn forms_are_pythons() {
        let sample = Sample::of(REQUEST);
        for (atom, expected) in [
            ("%(m)5s|", "  GET|"),
            ("%(m)-5s|", "GET  |"),
            ("%(m)05s|", "  GET|"),
            ("%(m).2s|", "GE|"),
            ("%(m)4.1s|", "   G|"),
            ("%(m)2s|", "GET|"),
            ("%(s)5d|", "  200|"),
            ("%(s)05d|", "00200|"),
            ("%(s)-5d|", "200  |"),
            ("%(s)+d|", "+200|"),
            ("%(s)+06d|", "+00200|"),
            ("%(s).5d|", "00200|"),
            ("%(T)f|", "2.000000|"),
            ("%(M)10.2f|", "   2500.00|"),
            ("%(M)010.2f|", "0002500.00|"),
            ("%({x-b}i)3s|", "  -|"),
        ] {
            assert_eq!(told(&sample, atom), expected, "{atom}");
        }
    }

    #[test]
    fn text_and_signs_stay() {
        assert_eq!(told(&Sample::default(), "<\u{e9}> 100%% %(s)s|%(s)s"), "<\u{e9}> 100% 200|200");
    }
}
