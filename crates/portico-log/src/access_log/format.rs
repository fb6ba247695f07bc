//! Lines of the access log, each in its format; the Common and the Combined Log Format are here.

use super::batch::{Batch, LogLine};
use super::clock::Clock;
use super::escape::{number, plain};
use super::plan::{AUTHORIZATION, Layout, Plan, REFERER, USER_AGENT};
use super::repeat::{Marks, Written};
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
    let mut last: Option<Written<'_>> = None;
    for exchange in batch.exchanges() {
        if !last.as_ref().is_some_and(|last| last.repeat(exchange, &plan.layout, out)) {
            let Some(line) = batch.line(exchange, plan) else { continue };
            let start = out.len();
            let marks = write(&line, plan, clock, out);
            last = Some(Written { exchange, range: start..out.len(), marks });
        }
        if out.len() >= PASSED_BYTES {
            pass_on(out);
            out.clear();
            last = None;
        }
    }
    if !out.is_empty() {
        pass_on(out);
        out.clear();
    }
}

/// Appends `line`, with its line end, to `out`.
fn write(line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) -> Marks {
    let mut marks = Marks::at(out.len());
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
        Layout::Json => structured::json(line, plan, clock, &mut marks, out),
        Layout::Logfmt => structured::logfmt(line, plan, clock, &mut marks, out),
        Layout::Template(parts) => template::line(line, parts, plan, clock, out),
    }
    out.push(b'\n');
    marks
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

    use super::super::testing::{Sample, line};

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
}
