"""Formats of the access log: what a line tells, and that no client writes one."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import datetime, timezone

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, LineCollector, run_to_end
from harness.sockets import wait_read

CONTRACT = "apps.contract:application"
CONTROL = "apps.control:application"
ECHO = "apps.echo:application"
JSON = ("--access-logfile", "-", "--access-logformat", "json")
LOGFMT = ("--access-logfile", "-", "--access-logformat", "logfmt")
ULID = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
HELD = 0.3  # Seconds that a call takes and the next one waits.
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Values that a client can send, chosen to break lines, fields, quotes, parsers and terminals.
HOSTILE = [
    b'"',
    b'","http.response.status_code":500,"x":"',
    b'"}\\n{"forged":true}',
    b'" forged=true',
    b"' forged=true x='",
    b"a=b c=d",
    b"\\",
    b'\\"',
    b"\\u0022",
    b"\\x22\\x0a",
    b"%0d%0a{}",
    b"%s%n%(h)s%%",
    b"{}[],:",
    b"\ttab\t",
    b"caf\xe9",
    "caf\xe9 \u65e5\u672c \U0001f600".encode(),
    b"\xff\xfe\x80",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\x9b31m",
    "\x9b31m".encode(),
    "\u202egpj.exe".encode(),
    "\u2028line".encode(),
    bytes(byte for byte in range(256) if byte not in (0, *range(10, 14)) and byte >= 0x20 and byte != 0x7F),
    b"null",
    b"true",
    b"1e999",
    b"-",
    b"<script>alert(1)</script>",
    b"${jndi:ldap://x/a}",
    b"a" * 7000,
    b"\xe9" * 7000,
    b'"' * 7000,
]


def lines_of(server, count: int) -> list[str]:
    """The access log on standard output, once it has `count` lines."""
    wait_until(lambda: len(server.stdout.lines) >= count, f"{count} lines in {server.stdout.lines}", 5)
    assert len(server.stdout.lines) == count
    return list(server.stdout.lines)


def strict_json(line: str) -> dict:
    """The object of a line; a key that comes twice, a constant that JSON has not, or a control byte fails."""
    assert not any(ord(character) < 0x20 for character in line), line

    def unique(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), f"a key twice: {line}"
        return dict(pairs)

    def refuse(constant):
        raise AssertionError(f"{constant} in {line}")

    return json.loads(line, object_pairs_hook=unique, parse_constant=refuse)


def logfmt(line: str) -> dict[str, str]:
    """The pairs of a line, read by the letter."""
    pairs, rest = {}, line
    while rest:
        match = re.match(r'([a-z_.]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)(?: (?=.)|$)', rest)
        assert match, f"not logfmt from {rest!r} on"
        assert match[1] not in pairs, f"{match[1]} twice"
        pairs[match[1]] = json.loads(match[2]) if match[2].startswith('"') else match[2]
        rest = rest[match.end() :]
    return pairs


def bytes_of(told: str, value: bytes) -> bytes:
    """What a told string was: text where it is that, else a byte for each character."""
    return told.encode() if told.encode() == value else told.encode("latin-1")


def raw_request(value: bytes) -> bytes:
    return b"GET /ping HTTP/1.1\r\nHost: x\r\nUser-Agent: " + value + b"\r\nReferer: " + value + b"\r\n\r\n"


@pytest.mark.parametrize(("options", "parse"), [(JSON, strict_json), (LOGFMT, logfmt)])
def test_hostile_values_forge_nothing(serve, options, parse):
    server = serve(CONTROL, *options)
    with server.connect() as client:
        for value in HOSTILE:
            client.send(raw_request(value))
            assert client.read_response().status == 200, value
    records = [parse(line) for line in lines_of(server, len(HOSTILE))]
    assert len({frozenset(record) for record in records}) == 1, "all have the same keys"
    for value, record in zip(HOSTILE, records, strict=True):
        referer = record["http.request.header.referer"]
        told = [record["user_agent.original"], referer[0] if isinstance(referer, list) else referer]
        assert [bytes_of(text, value) for text in told] == [value.strip(b" \t")] * 2
        assert str(record["http.response.status_code"]) == "200"
        assert record["url.path"] == "/ping"


@pytest.mark.parametrize(("options", "parse"), [(JSON, strict_json), (LOGFMT, logfmt)])
def test_hostile_targets_methods_hosts_and_users_forge_nothing(serve, options, parse):
    server = serve(CONTROL, *options)
    requests = [
        b'GET /ping?a="b"&c=\\d HTTP/1.1\r\nHost: x\r\n\r\n',
        b"GET /ping?a=%22%0a%00 HTTP/1.1\r\nHost: a=b\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YSJiCmM6ZA==\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Basic /////zr/\r\n\r\n",
        b"G!#$%&'*+-.^_`|~ET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b'GET " HTTP/1.1\r\n\r\n',
    ]
    for request in requests:
        with server.connect() as client:
            client.send(request)
            client.read_response()
    for line in lines_of(server, len(requests)):
        record = parse(line)
        assert line.isascii() and line.isprintable(), line
        assert str(record["http.response.status_code"]) in ("200", "400")


def test_json_log_is_typed_and_tells_times(serve):
    server = serve(CONTROL, *JSON)
    before = datetime.now(timezone.utc)
    fields = [("User-Agent", "agent"), ("Referer", "http://from/"), ("traceparent", TRACEPARENT)]
    server.request("GET", "/sleep?seconds=0.2", [*fields, ("Authorization", "Basic YWxpY2U6c2VjcmV0")])
    [line] = lines_of(server, 1)
    record = strict_json(line)
    stamp = datetime.strptime(record.pop("timestamp"), "%Y-%m-%dT%H:%M:%S.%f%z")
    assert before <= stamp <= datetime.now(timezone.utc)
    whole, queue = record.pop("http.server.request.duration"), record.pop("portico.queue_time")
    application, write = record.pop("portico.application_time"), record.pop("portico.write_time")
    assert 0.2 <= application < 0.4 and 0 <= queue < 0.1 and 0 <= write < 0.1
    assert abs(whole - (queue + application + write)) < 0.00001
    assert ULID.fullmatch(record.pop("portico.request_id"))
    assert isinstance(record.pop("client.port"), int)
    assert record == {
        "http.request.method": "GET",
        "url.path": "/sleep",
        "url.query": "seconds=0.2",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "client.address": "127.0.0.1",
        "server.address": "test",
        "user.name": "alice",
        "http.request.header.referer": ["http://from/"],
        "user_agent.original": "agent",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "trace_flags": "01",
        "portico.worker": 0,
        "process.pid": server.worker.pid,
    }


@pytest.mark.serial
def test_time_in_the_queue_is_told_apart(serve):
    server = serve(CONTROL, *JSON, "--threads", "1")
    with server.connect() as first, server.connect() as second:
        first.send(request_bytes("GET", "/hold?gate=a"))
        server.rendezvous.wait_for("holding a")
        second.send(request_bytes("GET", "/ping"))
        wait_read(second)
        time.sleep(HELD)
        server.rendezvous.open("a")
        assert first.read_response().status == 200
        assert second.read_response().status == 200
    held, waited = (strict_json(line) for line in lines_of(server, 2))
    assert held["portico.queue_time"] < waited["portico.queue_time"]
    assert waited["portico.application_time"] < held["portico.application_time"]
    # The log rounds, and the engine may see what it has read a little later.
    assert min(held["portico.application_time"], waited["portico.queue_time"]) >= 0.9 * HELD


def test_why_an_exchange_ended_early_is_told(serve):
    server = serve(CONTRACT, *JSON, "--threads", "2", "--head-timeout", "1")
    with server.connect() as client:
        client.send(b"GET /a b HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 400
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost")
        assert client.read_response().status == 408
    server.request("GET", "/ping")
    server.request("GET", "/raise?error=Exception&at=call")
    server.expect_log("planted error")
    records = [strict_json(line) for line in lines_of(server, 4)]
    told = [(record["http.response.status_code"], record.get("portico.reason")) for record in records]
    assert told == [(400, "refused"), (408, "request_timeout"), (200, None), (500, None)]
    assert "portico.application_time" not in records[0] and "http.request.method" not in records[0]


# Templates

# (template, what it tells of each of REQUESTS), as gunicorn 27.0.1 tells it of an application that answers
# "hello" as text/plain, or 204 at /empty.
REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b'GET /a%20b?c=d&e=%22 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: agent "x"\r\nReferer: http://from/\r\n'
    b"X-One: 1\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\nContent-Type: text/x\r\nContent-Length: 0\r\n\r\n",
    b"HEAD /head HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n",
    b"DELETE /empty? HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET //x//y;p=1?q?r HTTP/1.1\r\nHost: example.com\r\n\r\n",
]
ATOMS = (
    "%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|%(T)s|%({x-one}i)s|"
    "%({X-One}i)s|%({content-type}o)s|%({X-App}o)s|%({nope}o)s|%({REQUEST_METHOD}e)s|%({http_host}e)s|"
    "%({SERVER_PROTOCOL}e)s|%({RAW_URI}e)s|%({SCRIPT_NAME}e)s|%({CONTENT_TYPE}e)s|%({QUERY_STRING}e)s|"
    "%({wsgi.url_scheme}e)s|100%%"
)
GUNICORN = [
    '127.0.0.1|-|-|GET / HTTP/1.1|GET|/||HTTP/1.1|200|5|5|-|-|0|-|-|text/plain|a \\"b\\"|-|GET|example.com|'
    "HTTP/1.1|/||-||http|100%",
    "127.0.0.1|-|alice|GET /a%20b?c=d&e=%22 HTTP/1.1|GET|/a b|c=d&e=%22|HTTP/1.1|200|5|5|http://from/|"
    'agent \\"x\\"|0|1|1|text/plain|a \\"b\\"|-|GET|example.com|HTTP/1.1|/a%20b?c=d&e=%22||text/x|'
    "c=d&e=%22|http|100%",
    '127.0.0.1|-|-|HEAD /head HTTP/1.0|HEAD|/head||HTTP/1.0|200|0|0|-|-|0|-|-|text/plain|a \\"b\\"|-|HEAD|'
    "example.com|HTTP/1.0|/head||-||http|100%",
    "127.0.0.1|-|-|DELETE /empty? HTTP/1.1|DELETE|/empty||HTTP/1.1|204|0|0|-|-|0|-|-|-|-|-|DELETE|"
    "example.com|HTTP/1.1|/empty?||-||http|100%",
    "127.0.0.1|-|-|GET //x//y;p=1?q?r HTTP/1.1|GET|//x//y;p=1|q?r|HTTP/1.1|200|5|5|-|-|0|-|-|text/plain|"
    'a \\"b\\"|-|GET|example.com|HTTP/1.1|//x//y;p=1?q?r||-|q?r|http|100%',
]


def test_atoms_tell_what_gunicorn_tells(serve):
    server = serve("apps.hello_fields:application", "--access-logfile", "-", "--access-logformat", ATOMS)
    with server.connect() as client:
        for request in REQUESTS:
            client.send(request)
            client.read_response(request.split(b" ")[0].decode())
    assert lines_of(server, len(REQUESTS)) == GUNICORN


def test_times_and_the_process_in_a_template(serve):
    template = "%(t)s %(T)s %(M)s %(D)s %(L)s %(p)s %({portico.worker}e)s %({portico.application_time}e)s"
    server = serve(CONTROL, "--access-logfile", "-", "--access-logformat", template)
    server.request("GET", "/sleep?seconds=1.1")
    [line] = lines_of(server, 1)
    stamp, seconds, millis, micros, decimal, pid, worker, application = re.fullmatch(
        r"\[(.*)\] (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)", line
    ).groups()
    datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z")
    assert (seconds, pid, worker) == ("1", f"<{server.worker.pid}>", "0")
    assert 1_100_000 <= int(micros) < 1_500_000
    assert int(micros) // 1000 == int(millis) and decimal == f"1.{int(micros) - 1_000_000:06}"
    assert float(application) <= float(decimal)


def test_hostile_values_in_a_template_stay_quoted(serve):
    template = '"%(a)s" "%({referer}i)s" "%(U)s" "%({HTTP_USER_AGENT}e)s"'
    server = serve(CONTROL, "--access-logfile", "-", "--access-logformat", template)
    with server.connect() as client:
        for value in HOSTILE:
            client.send(raw_request(value).replace(b"/ping", b"/ping%22%0a"))
            client.read_response()
    for line in lines_of(server, len(HOSTILE)):
        assert line.isascii() and line.isprintable()
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"(?: "(?:[^"\\]|\\.)*"){3}', line), line


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%(x)s", "%(x)s is no atom"),
        ("%(h)s %({REMOTE_USER}e)s", "%({REMOTE_USER}e)s"),
        ("%(h)s %", "begins no atom"),
        ("%h", "is no format"),
    ],
)
def test_what_is_no_atom_ends_the_start(template, expected):
    environment = {"PORTICO_ACCESS_LOGFORMAT": template}
    process = run_to_end("apps.echo", cwd=TESTS, environment=environment)
    assert process.returncode == 1
    assert expected in process.stderr
    assert process.stderr.count("\n") == 1


# Ids


def environ_of(response) -> dict[str, str]:
    return json.loads(response.body)["environ"]


def test_no_request_id_without_being_asked_for(serve):
    server = serve(ECHO, "--access-logfile", "-")
    response = server.request("GET", "/")
    assert "portico.request_id" not in environ_of(response)
    assert response.get("X-Request-Id") is None


def test_an_id_is_made_told_and_answered_back(serve):
    server = serve(ECHO, *JSON, "--request-id", "--workers", "2")
    told = []
    for _ in range(20):
        response = server.request("GET", "/")
        assert ULID.fullmatch(response.get("X-Request-Id"))
        assert environ_of(response)["portico.request_id"] == response.get("X-Request-Id")
        told.append(response.get("X-Request-Id"))
    assert len(set(told)) == 20
    logged = [strict_json(line)["portico.request_id"] for line in lines_of(server, 20)]
    assert sorted(logged) == sorted(told)


def test_usable_id_of_a_trusted_peer_is_kept(serve):
    server = serve(ECHO, *JSON, "--request-id")
    for given, kept in [("abc-123", True), ('a"b', False), ("a b", False), ("a" * 200, False), ("", False)]:
        response = server.request("GET", "/", [("X-Request-Id", given)])
        assert (response.get("X-Request-Id") == given) == kept, given
        assert environ_of(response)["portico.request_id"] == response.get("X-Request-Id")
        assert len(response.all("X-Request-Id")) == 1
    assert strict_json(lines_of(server, 5)[0])["portico.request_id"] == "abc-123"


def test_json_log_has_an_id_without_a_header(serve):
    server = serve(ECHO, *JSON)
    response = server.request("GET", "/")
    [line] = lines_of(server, 1)
    assert environ_of(response)["portico.request_id"] == strict_json(line)["portico.request_id"]
    assert response.get("X-Request-Id") is None


def test_id_kept_by_the_application_stays_unchanged(serve):
    server = serve("apps.keeping_ids:application", *JSON, "--workers", "1", "--threads", "1")
    ways = ["/text", "/hash", "/environ", "/intern", "/nothing", "/nothing"]
    told: dict[str, list[bytes]] = {way: [] for way in ways}
    with server.connect() as connection:
        for way in ways * 5:
            connection.send(request_bytes("GET", way))
            told[way].append(connection.read_response().body)
        connection.send(request_bytes("GET", "/kept"))
        kept = connection.read_response().body
    assert kept.split() == told["/text"] + told["/hash"] + told["/environ"]
    everything = [identity for identities in told.values() for identity in identities]
    assert len(set(everything)) == len(everything) == 30
    logged = [strict_json(line)["portico.request_id"] for line in lines_of(server, 31)]
    assert {identity.decode() for identity in everything} <= set(logged)


def test_response_of_the_server_carries_the_id(serve):
    server = serve(CONTROL, *JSON, "--request-id", "--threads", "1", "--queue-timeout", "0.2")
    with server.connect() as first, server.connect() as second:
        first.send(request_bytes("GET", "/hold?gate=a"))
        server.rendezvous.wait_for("holding a")
        second.send(request_bytes("GET", "/ping"))
        refused = second.read_response()
        server.rendezvous.open("a")
        first.read_response()
    assert refused.status == 503
    record = next(record for record in map(strict_json, lines_of(server, 2)) if "portico.reason" in record)
    assert record["portico.reason"] == "queue_timeout" and record["portico.queue_time"] >= 0.2
    assert record["portico.request_id"] == refused.get("X-Request-Id")


@pytest.mark.parametrize(
    "value", [TRACEPARENT.upper(), TRACEPARENT[:-1], f"{TRACEPARENT}-x", "ff" + TRACEPARENT[2:], "00-0-0-01"]
)
def test_invalid_traceparent_is_not_logged(serve, value):
    server = serve(CONTROL, *JSON)
    server.request("GET", "/ping", [("traceparent", value)])
    server.request("GET", "/ping", [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)])
    for line in lines_of(server, 2):
        assert "trace_id" not in strict_json(line)


# Off the path of requests


def test_blocked_json_log_reader_blocks_no_request(serve):
    read_end, write_end = os.pipe()
    server = serve(CONTROL, *JSON, "--threads", "2", stdout=write_end)
    os.close(write_end)
    # No request is like the one before, of which but one copy would be kept.
    pipeline = b"".join(
        request_bytes("GET", "/ping", [("User-Agent", letter * 2000)]) for letter in "ab" * 25
    )
    with server.connect() as client:
        for _ in range(400):
            client.send(pipeline)
            for _ in range(50):
                assert client.read_response().status == 200
        reader = LineCollector(os.fdopen(read_end, "rb"))
        server.expect_log("(?i)access log.*dropped")
        client.expect_in_sync()
    wait_until(lambda: len(reader.lines) > 1000, "lines")
    for line in list(reader.lines)[:1000]:
        strict_json(line)
