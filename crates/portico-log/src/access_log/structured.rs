//! Lines for machines: JSON and logfmt with the same keys, OpenTelemetry's where it has one.

use portico_proto::{Peer, Version};

use super::batch::LogLine;
use super::clock::Clock;
use super::escape;
use super::plan::{
    AUTHORITY, AUTHORIZATION, METHOD, Plan, REFERER, REQUEST_ID, TARGET, TRACEPARENT, USER_AGENT,
};
use super::request::{split_target, user_of};

/// Room for a line of usual length.
const LINE_BYTES: usize = 1024;

/// Appends `line` as a JSON object, without its line end.
pub(super) fn json(line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) {
    out.push(b'{');
    members(line, plan, clock, &mut Members { out, notation: Notation::Json });
    out.push(b'}');
}

/// Appends `line` as `key=value`, without its line end.
pub(super) fn logfmt(line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, out: &mut Vec<u8>) {
    members(line, plan, clock, &mut Members { out, notation: Notation::Logfmt });
}

/// The syntax of a structured line. Both have the same members in the same order; only the signs around them and
/// the escapes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    Json,
    Logfmt,
}

/// A key with all that stands around it, in each notation: one piece to copy.
#[derive(Clone, Copy, Debug)]
struct Key {
    json: &'static str,
    logfmt: &'static str,
}

macro_rules! key {
    ($name:literal) => {
        Key { json: concat!(",\"", $name, "\":"), logfmt: concat!(" ", $name, "=") }
    };
}

/// The members of one line, one after the other.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    /// Where those begin that differ between lines that are otherwise alike.
    notation: Notation,
}

fn members(line: &LogLine<'_>, plan: &Plan, clock: &mut Clock, to: &mut Members<'_>) {
    let entry = &line.entry;
    to.out.reserve(LINE_BYTES);
    to.first(clock, line);
    to.optional(key!("http.request.method"), line.text(METHOD));
    if let Some(target) = line.text(TARGET) {
        let (path, query) = split_target(target);
        to.text(key!("url.path"), path);
        to.optional(key!("url.query"), Some(query).filter(|query| !query.is_empty()));
    }
    if let Some(version) = entry.version {
        to.text(key!("network.protocol.name"), b"http");
        let version: &[u8] = match version {
            Version::Http10 => b"1.0",
            Version::Http11 => b"1.1",
            Version::Http2 => b"2",
            Version::Http3 => b"3",
        };
        to.text(key!("network.protocol.version"), version);
    }
    to.number(key!("http.response.status_code"), entry.status.into());
    to.number(key!("http.response.body.size"), entry.body_bytes);
    if let Peer::Inet(address) = entry.peer {
        to.key(key!("client.address"));
        to.quote();
        escape::address(address.ip(), to.out);
        to.quote();
        to.key(key!("client.port"));
        escape::number(address.port().into(), to.out);
    }
    if let Some(authority) = line.text(AUTHORITY) {
        let (name, port) = split_authority(authority);
        to.text(key!("server.address"), name);
        if let Some(port) = port {
            to.number(key!("server.port"), port.into());
        }
    }
    let user = line.text(AUTHORIZATION).and_then(user_of);
    to.optional(key!("user.name"), user.as_deref());
    if let Some(referer) = line.text(REFERER) {
        to.list_of_one(key!("http.request.header.referer"), referer);
    }
    to.optional(key!("user_agent.original"), line.text(USER_AGENT));
    if let Some(times) = &entry.times {
        to.seconds(key!("http.server.request.duration"), times.whole());
        to.seconds(key!("portico.queue_time"), times.queue);
        to.seconds(key!("portico.application_time"), times.application);
        to.seconds(key!("portico.write_time"), times.write);
    }
    if let Some(id) = line.id(REQUEST_ID) {
        to.text(key!("portico.request_id"), id);
    }
    if let Some(trace) = line.trace(TRACEPARENT) {
        to.text(key!("trace_id"), trace.trace_id());
        to.text(key!("span_id"), trace.span_id());
        to.text(key!("trace_flags"), trace.flags());
    }
    if let Some(reason) = entry.reason {
        to.text(key!("portico.reason"), reason.name().as_bytes());
    }
    if let Some(slot) = plan.constants.slot {
        to.number(key!("portico.worker"), slot.into());
    }
    to.number(key!("process.pid"), plan.constants.pid.into());
}

impl Members<'_> {
    fn first(&mut self, clock: &mut Clock, line: &LogLine<'_>) {
        self.out.extend_from_slice(match self.notation {
            Notation::Json => b"\"timestamp\":\"",
            Notation::Logfmt => b"timestamp=",
        });
        clock.rfc3339(line.entry.moment, self.out);
        self.quote();
    }

    fn key(&mut self, key: Key) {
        self.out.extend_from_slice(match self.notation {
            Notation::Json => key.json.as_bytes(),
            Notation::Logfmt => key.logfmt.as_bytes(),
        });
    }

    /// The quotes that a text has in any case.
    fn quote(&mut self) {
        if self.notation == Notation::Json {
            self.out.push(b'"');
        }
    }

    fn value(&mut self, text: &[u8]) {
        match self.notation {
            Notation::Json => escape::json(text, self.out),
            Notation::Logfmt => escape::logfmt(text, self.out),
        }
    }

    fn text(&mut self, key: Key, text: &[u8]) {
        self.key(key);
        self.value(text);
    }

    fn optional(&mut self, key: Key, text: Option<&[u8]>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// OpenTelemetry has the values of a field as a list.
    fn list_of_one(&mut self, key: Key, text: &[u8]) {
        self.key(key);
        let is_json = self.notation == Notation::Json;
        self.out.extend_from_slice(if is_json { b"[" } else { b"" });
        self.value(text);
        self.out.extend_from_slice(if is_json { b"]" } else { b"" });
    }

    fn number(&mut self, key: Key, number: u64) {
        self.key(key);
        escape::number(number, self.out);
    }

    fn seconds(&mut self, key: Key, nanos: u64) {
        self.key(key);
        escape::seconds(nanos, self.out);
    }
}

/// Host, without the brackets of an IPv6 address, and port.
fn split_authority(authority: &[u8]) -> (&[u8], Option<u16>) {
    let bracket = authority.iter().rposition(|&byte| byte == b']').map_or(0, |at| at + 1);
    let colon = authority[bracket..].iter().position(|&byte| byte == b':').map(|at| at + bracket);
    let (name, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let inside = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]"));
    let port =
        port.get(1..).and_then(|port| std::str::from_utf8(port).ok()).and_then(|port| port.parse().ok());
    (inside.unwrap_or(name), port)
}

#[cfg(test)]
mod tests {
    use portico_config::AccessLogFormat;

    use super::super::Reason;
    use super::super::testing::{Sample, line};
    use super::*;

    const REQUEST: &[u8] = b"GET /a%20b?c=d%22 HTTP/1.1\r\nHost: example.com:8443\r\n\
        Authorization: Basic YWxpY2U6c2VjcmV0\r\nReferer: http://from/\r\nUser-Agent: a\"b\xff\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

    #[test]
    fn json_lines() {
        let mut sample = Sample::of(REQUEST);
        let expected = concat!(
            r#"{"timestamp":"1994-11-06T08:49:37.000123Z","http.request.method":"GET","url.path":"/a%20b","#,
            r#""url.query":"c=d%22","network.protocol.name":"http","network.protocol.version":"1.1","#,
            r#""http.response.status_code":200,"http.response.body.size":12,"client.address":"192.0.2.7","#,
            r#""client.port":5000,"server.address":"example.com","server.port":8443,"user.name":"alice","#,
            r#""http.request.header.referer":["http://from/"],"user_agent.original":"a\"b\u00ff","#,
            r#""http.server.request.duration":2.500003,"portico.queue_time":1.000000,"#,
            r#""portico.application_time":1.500000,"portico.write_time":0.000003,"#,
            r#""portico.request_id":"00000000000000000000000001","#,
            r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","trace_flags":"01","#,
            r#""portico.worker":3,"process.pid":4711}"#,
            "\n"
        );
        assert_eq!(line(&sample, &AccessLogFormat::Json), expected);
        sample.reason = Some(Reason::WriteTimeout);
        let told = line(&sample, &AccessLogFormat::Json);
        assert!(told.contains(r#""portico.reason":"write_timeout","#));
        let parsed: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(parsed["http.response.status_code"], 200);
    }

    #[test]
    fn logfmt_lines() {
        let expected = concat!(
            "timestamp=1994-11-06T08:49:37.000123Z http.request.method=GET url.path=/a%20b \
             url.query=\"c=d%22\" network.protocol.name=http network.protocol.version=1.1 \
             http.response.status_code=200 http.response.body.size=12 client.address=192.0.2.7 \
             client.port=5000 server.address=example.com server.port=8443 user.name=alice \
             http.request.header.referer=http://from/ user_agent.original=",
            r#""a\"b\u00ff""#,
            " http.server.request.duration=2.500003 portico.queue_time=1.000000 \
             portico.application_time=1.500000 portico.write_time=0.000003 \
             portico.request_id=00000000000000000000000001 trace_id=4bf92f3577b34da6a3ce929d0e0e4736 \
             span_id=00f067aa0ba902b7 trace_flags=01 portico.worker=3 process.pid=4711\n"
        );
        assert_eq!(line(&Sample::of(REQUEST), &AccessLogFormat::Logfmt), expected);
    }

    #[test]
    fn what_there_is_not_is_left_out() {
        let mut sample = Sample::of(b"\x16\x03\x01");
        (sample.times, sample.reason) = (None, Some(Reason::Refused));
        let expected = concat!(
            r#"{"timestamp":"1994-11-06T08:49:37.000123Z","http.response.status_code":200,"#,
            r#""http.response.body.size":12,"client.address":"192.0.2.7","client.port":5000,"#,
            r#""portico.reason":"refused","portico.worker":3,"process.pid":4711}"#,
            "\n"
        );
        assert_eq!(line(&sample, &AccessLogFormat::Json), expected);
    }

    #[test]
    fn authorities_are_split() {
        for (authority, name, port) in [
            ("a", "a", None),
            ("a:80", "a", Some(80)),
            ("[::1]", "::1", None),
            ("[::1]:8000", "::1", Some(8000)),
            ("a:", "a", None),
            ("a:99999", "a", None),
            ("", "", None),
        ] {
            assert_eq!(split_authority(authority.as_bytes()), (name.as_bytes(), port), "{authority}");
        }
    }
}
