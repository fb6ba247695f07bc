"""RFC 9113 case by case, against a real process: frame by frame, what a conformance suite asks.

Each case says what must come of what is sent on a fresh connection: the connection ends with one of
these error codes, the stream is reset with one of these, a status is answered, or all goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, SettingsFrame

from harness.http2_client import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Answer,
    Http2Client,
)
from harness.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)

SERVER = ("apps.control:application", "--threads", "2", "--http2-max-concurrent-streams", "20")

WHOLE = END_HEADERS | END_STREAM

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/ping"), (":authority", "test")]
POST = [(":method", "POST"), *GET[1:]]


def literal(fields: list[tuple[str, str]]) -> bytes:
    """A header block of literal fields, whatever is in them, which leaves the tables of both sides alone."""
    return b"".join(b"\0" + text_of(name) + text_of(value) for name, value in fields)


def text_of(text: str) -> bytes:
    """A string without Huffman coding."""
    data = text.encode("latin-1")
    assert len(data) < 127
    return bytes([len(data)]) + data


GET_BLOCK, POST_BLOCK = literal(GET), literal(POST)
GET_FRAME = frame(HEADERS, WHOLE, 1, GET_BLOCK)
POST_FRAME = frame(HEADERS, END_HEADERS, 1, POST_BLOCK)

Step = bytes | Callable[[Http2Client], object]
"""What is sent, or done with the client."""


def connection(*codes: int) -> tuple:
    """The connection ends, with one of these codes in GOAWAY."""
    return ("connection", *codes)


def stream(*codes: int) -> tuple:
    """Stream 1 is reset with one of these, and the connection goes on."""
    return ("stream", *codes)


def held(client: Http2Client, end: bool = True, stream: int = 1) -> None:
    """A stream has begun and is not answered."""
    fields = [*(GET if end else POST)[:2], (":path", "/sleep?seconds=0.5"), GET[3]]
    client.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, client.block(fields)))


def held_open(client: Http2Client) -> None:
    """As `held`, and its body is still to come."""
    held(client, end=False)


def answered_on(stream: int) -> Step:
    """Waits for the response on a stream."""

    def answered(client: Http2Client) -> None:
        assert client.answer(stream).status == 200

    return answered


# By section and name: what must come of it, as `expect` takes it, and the steps.
CASES: dict[str, tuple] = {
    "4.1 unknown type": ("alive", frame(0xFA, 0xFF, 0, b"what")),
    "4.1 unknown flags on ping": ("alive", frame(PING, 0xFE, 0, b"12345678")),
    "4.1 reserved bit": ("alive", frame(PING, 0, 1 << 31, b"12345678")),
    "4.2 data of the greatest size": (200, POST_FRAME, frame(DATA, END_STREAM, 1, b"x" * 16384)),
    "4.2 data above the greatest size": (
        connection(FRAME_SIZE_ERROR),
        POST_FRAME,
        frame(DATA, END_STREAM, 1, b"x" * 16385),
    ),
    "4.2 headers above the greatest size": (
        connection(FRAME_SIZE_ERROR),
        frame(HEADERS, WHOLE, 1, hpack.Encoder().encode([*GET, ("a", "\x01" * 17000)])),
    ),
    "4.3 header block that is none": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ),
    "4.3 priority within a header block": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, END_STREAM, 1, GET_BLOCK) + frame(PRIORITY, 0, 1, b"\0\0\0\0\xff"),
    ),
    "4.3 headers of another stream within a header block": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, END_STREAM, 1, GET_BLOCK) + frame(HEADERS, WHOLE, 3, GET_BLOCK),
    ),
    "7541 2.3.3 index beyond the tables": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\xfe"),
    ),
    "7541 6.1 index zero": (connection(COMPRESSION_ERROR), frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\x80")),
    "7541 4.2 table size update at the end of a block": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\x20"),
    ),
    "7541 6.3 table size update above the setting": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, b"\x3f\xe1\xff\x03" + GET_BLOCK),
    ),
    "7541 5.2 huffman padding of eight bits": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\0\x85\xf2\xb2J\x84\xff\x84IP\x9f\xff"),
    ),
    "7541 5.2 huffman padding of zeros": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\0\x85\xf2\xb2J\x84\xff\x83IP\x90"),
    ),
    "7541 5.2 huffman end of string": (
        connection(COMPRESSION_ERROR),
        frame(HEADERS, WHOLE, 1, GET_BLOCK + b"\0\x84\xff\xff\xff\xff\x01a"),
    ),
    "5.1 data on an idle stream": (connection(PROTOCOL_ERROR), frame(DATA, END_STREAM, 1, b"test")),
    "5.1 reset of an idle stream": (connection(PROTOCOL_ERROR), frame(RST_STREAM, 0, 1, b"\0\0\0\x08")),
    "5.1 window update of an idle stream": (
        connection(PROTOCOL_ERROR),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x64"),
    ),
    "5.1 continuation on an idle stream": (
        connection(PROTOCOL_ERROR),
        frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK),
    ),
    "5.1 data after the end of the request": (
        stream(STREAM_CLOSED),
        held,
        frame(DATA, END_STREAM, 1, b"test"),
    ),
    "5.1 headers after the end of the request": (stream(STREAM_CLOSED), held, GET_FRAME),
    "5.1 continuation after the end of the request": (
        connection(PROTOCOL_ERROR, STREAM_CLOSED),
        held,
        frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK),
    ),
    "5.1 headers on a closed stream": ("alive", GET_FRAME, answered_on(1), GET_FRAME),
    "5.1 data on a closed stream": (
        ("either", STREAM_CLOSED, PROTOCOL_ERROR),
        GET_FRAME,
        answered_on(1),
        frame(DATA, END_STREAM, 1, b"test"),
    ),
    "5.1 window update and reset on a closed stream": (
        "alive",
        GET_FRAME,
        answered_on(1),
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x64") + frame(RST_STREAM, 0, 1, b"\0\0\0\x08"),
    ),
    "5.1.1 even stream": (connection(PROTOCOL_ERROR), frame(HEADERS, WHOLE, 2, GET_BLOCK)),
    "5.1.1 a stream below the last": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, WHOLE, 5, GET_BLOCK),
        answered_on(5),
        frame(HEADERS, WHOLE, 3, GET_BLOCK),
    ),
    "5.1.2 more streams than allowed": (
        ("refused",),
        Http2Client.ping,
        b"".join(frame(HEADERS, END_HEADERS, 1 + 2 * number, POST_BLOCK) for number in range(21)),
    ),
    "5.3.1 headers that depend on themselves": (
        stream(PROTOCOL_ERROR),
        frame(HEADERS, WHOLE | PRIORITIZED, 1, b"\0\0\0\x01\xff" + GET_BLOCK),
    ),
    "5.3.1 priority that depends on itself": (
        ("either", PROTOCOL_ERROR),
        frame(PRIORITY, 0, 1, b"\0\0\0\x01\xff"),
    ),
    "6.1 data on stream zero": (connection(PROTOCOL_ERROR), frame(DATA, END_STREAM, 0, b"test")),
    "6.1 data with padding longer than itself": (
        connection(PROTOCOL_ERROR),
        POST_FRAME,
        frame(DATA, END_STREAM | PADDED, 1, b"\x06test"),
    ),
    "6.1 data with padding": (200, POST_FRAME, frame(DATA, END_STREAM | PADDED, 1, b"\x06test\0\0\0\0\0\0")),
    "6.2 headers with padding and priority": (
        200,
        frame(HEADERS, WHOLE | PADDED | PRIORITIZED, 1, b"\x03\x80\0\0\0\x0f" + GET_BLOCK + b"\0\0\0"),
    ),
    "6.2 headers on stream zero": (connection(PROTOCOL_ERROR), frame(HEADERS, WHOLE, 0, GET_BLOCK)),
    "6.2 headers with padding longer than themselves": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, WHOLE | PADDED, 1, bytes([len(GET_BLOCK) + 1]) + GET_BLOCK),
    ),
    "6.3 priority on stream zero": (connection(PROTOCOL_ERROR), frame(PRIORITY, 0, 0, b"\0\0\0\0\xff")),
    "6.3 priority of four bytes": (stream(FRAME_SIZE_ERROR), POST_FRAME, frame(PRIORITY, 0, 1, b"\0\0\0\0")),
    "6.3 priority on an idle stream": ("alive", frame(PRIORITY, 0, 99, b"\0\0\0\0\xff")),
    "6.4 reset of stream zero": (connection(PROTOCOL_ERROR), frame(RST_STREAM, 0, 0, b"\0\0\0\x08")),
    "6.4 reset of three bytes": (
        connection(FRAME_SIZE_ERROR),
        POST_FRAME,
        frame(RST_STREAM, 0, 1, b"\0\0\0"),
    ),
    "6.5 settings acknowledged with a payload": (
        connection(FRAME_SIZE_ERROR),
        frame(SETTINGS, ACK, 0, b"\0"),
    ),
    "6.5 settings on a stream": (connection(PROTOCOL_ERROR), frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64")),
    "6.5 settings of three bytes": (connection(FRAME_SIZE_ERROR), frame(SETTINGS, 0, 0, b"\0\x03\0")),
    "6.5.2 push of two": (connection(PROTOCOL_ERROR), frame(SETTINGS, 0, 0, b"\0\x02\0\0\0\x02")),
    "6.5.2 initial window of two to the 31": (
        connection(FLOW_CONTROL_ERROR),
        frame(SETTINGS, 0, 0, b"\0\x04\x80\0\0\0"),
    ),
    "6.5.2 frame size below the least": (
        connection(PROTOCOL_ERROR),
        frame(SETTINGS, 0, 0, b"\0\x05\0\0\x3f\xff"),
    ),
    "6.5.2 frame size above the most": (
        connection(PROTOCOL_ERROR),
        frame(SETTINGS, 0, 0, b"\0\x05\x01\0\0\0"),
    ),
    "6.5.2 an unknown setting": ("alive", frame(SETTINGS, 0, 0, b"\0\xff\0\0\0\x01")),
    "6.5.3 settings are acknowledged": ("acknowledged", frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64")),
    "8.4 a push promise from a client": (
        connection(PROTOCOL_ERROR),
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + GET_BLOCK),
    ),
    "6.7 ping": ("ponged", frame(PING, 0, 0, b"12345678")),
    "6.7 an acknowledged ping that was not sent": ("alive", frame(PING, ACK, 0, b"invalid!")),
    "6.7 ping on a stream": (connection(PROTOCOL_ERROR), frame(PING, 0, 1, b"12345678")),
    "6.7 ping of six bytes": (connection(FRAME_SIZE_ERROR), frame(PING, 0, 0, b"123456")),
    "6.8 goaway on a stream": (connection(PROTOCOL_ERROR), frame(GOAWAY, 0, 1, b"\0" * 8)),
    "6.9 window update of zero": (connection(PROTOCOL_ERROR), frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0")),
    "6.9 window update of zero on a stream": (
        stream(PROTOCOL_ERROR),
        held,
        frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"),
    ),
    "6.9 window update of three bytes": (
        connection(FRAME_SIZE_ERROR),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\x01"),
    ),
    "6.9.1 a connection window above the most": (
        connection(FLOW_CONTROL_ERROR),
        frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    ),
    "6.9.1 a stream window above the most": (
        stream(FLOW_CONTROL_ERROR),
        held,
        frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2,
    ),
    "6.9.2 settings that lift a window above the most": (
        connection(FLOW_CONTROL_ERROR),
        held,
        frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\0\0"),
        frame(SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff"),
    ),
    "6.10 continuations": (
        200,
        frame(HEADERS, END_STREAM, 1, GET_BLOCK[:1]) + frame(CONTINUATION, 0, 1, GET_BLOCK[1:2]),
        frame(CONTINUATION, 0, 1, b"") + frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK[2:]),
    ),
    "6.10 continuation after the end of headers": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, END_HEADERS, 1, GET_BLOCK) + frame(CONTINUATION, END_HEADERS, 1, GET_BLOCK),
    ),
    "6.10 continuation on stream zero": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, END_STREAM, 1, GET_BLOCK) + frame(CONTINUATION, END_HEADERS, 0, b""),
    ),
    "6.10 continuation of another stream": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, END_STREAM, 1, GET_BLOCK) + frame(CONTINUATION, END_HEADERS, 3, b""),
    ),
    "6.10 data before the end of headers": (
        connection(PROTOCOL_ERROR),
        frame(HEADERS, 0, 1, POST_BLOCK) + frame(DATA, END_STREAM, 1, b"test"),
    ),
    "7 goaway and reset with unknown codes": ("alive", held_open, frame(RST_STREAM, 0, 1, b"\xff\0\0\0")),
    "8.1 trailers": (
        200,
        POST_FRAME + frame(DATA, 0, 1, b"test"),
        frame(HEADERS, WHOLE, 1, literal([("x-test", "ok")])),
    ),
    "8.1 a second head without the end": (
        stream(PROTOCOL_ERROR),
        held_open,
        frame(HEADERS, END_HEADERS, 1, literal([("x-test", "ok")])),
    ),
    "8.1 trailers with a pseudo field": (
        stream(PROTOCOL_ERROR),
        held_open,
        frame(HEADERS, WHOLE, 1, literal([(":method", "GET")])),
    ),
}

MALFORMED = {
    "8.2 a name in upper case": [*GET, ("X-TEST", "ok")],
    "8.2.1 an empty name": [*GET, ("", "ok")],
    "8.2.1 a name with a control byte": [*GET, ("x\x01test", "ok")],
    "8.2.1 a name beyond ASCII": [*GET, ("x-\xe4", "ok")],
    "8.2.1 a value with a line feed": [*GET, ("x-test", "a\nb")],
    "8.2.1 a value with a carriage return": [*GET, ("x-test", "a\rb")],
    "8.3.1 a method with a space": [(":method", "G T"), *GET[1:]],
    "8.3.1 an empty method": [(":method", ""), *GET[1:]],
    "8.3.1 an empty scheme": [GET[0], (":scheme", ""), *GET[2:]],
    "8.3.1 a scheme that is none": [GET[0], (":scheme", "ht tp"), *GET[2:]],
    "8441 3 a protocol that was not offered": [*GET, (":protocol", "websocket")],
    "8.3 nothing at all": [],
    "8.2.1 a name with a space": [*GET, ("x test", "ok")],
    "8.2.1 a name with a colon": [*GET, ("x:test", "ok")],
    "8.2.1 a value with a line end": [*GET, ("x-test", "a\r\nb: c")],
    "8.2.1 a value with NUL": [*GET, ("x-test", "a\0b")],
    "8.2.2 connection": [*GET, ("connection", "keep-alive")],
    "8.2.2 keep-alive": [*GET, ("keep-alive", "timeout=5")],
    "8.2.2 proxy-connection": [*GET, ("proxy-connection", "keep-alive")],
    "8.2.2 transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "8.2.2 upgrade": [*GET, ("upgrade", "websocket")],
    "8.2.2 te other than trailers": [*GET, ("te", "trailers, deflate")],
    "8.3 an unknown pseudo field": [*GET, (":test", "ok")],
    "8.3 a pseudo field of answers": [*GET, (":status", "200")],
    "8.3 a pseudo field behind a field": [("x-test", "ok"), *GET],
    "8.3.1 an empty path": [*GET[:2], (":path", ""), GET[3]],
    "8.3.1 no method": GET[1:],
    "8.3.1 no scheme": [GET[0], *GET[2:]],
    "8.3.1 no path": [*GET[:2], GET[3]],
    "8.3.1 two methods": [GET[0], *GET],
    "8.3.1 two schemes": [GET[1], *GET],
    "8.3.1 two paths": [GET[2], *GET],
    "8.3.1 two authorities": [GET[3], *GET],
    "8.5 CONNECT with a path": [(":method", "CONNECT"), *GET[1:]],
    "8.1.1 a length and no body": [*POST, ("content-length", "1")],
}

REFUSED = {
    "8.3.1 a path with a fragment": ([*GET[:2], (":path", "/ping#x"), GET[3]], 400),
    "8.3.1 a query with a fragment": ([*GET[:2], (":path", "/ping?a#x"), GET[3]], 400),
    "8.3.1 a path with scheme and authority": ([*GET[:2], (":path", "http://test/ping"), GET[3]], 400),
    "8.3.1 a path with a space": ([*GET[:2], (":path", "/pi ng"), GET[3]], 400),
    "8.3.1 a path beyond ASCII": ([*GET[:2], (":path", "/\xe4"), GET[3]], 400),
    "8.3.1 two hosts beside the authority": ([*GET, ("host", "test"), ("host", "test")], 400),
    "a value with another control byte": ([*GET, ("x-test", "a\x01b")], 400),
    "an expectation of another kind": ([*POST, ("expect", "200-ok")], 417),
    "8.3.1 a relative path": ([*GET[:2], (":path", "ping"), GET[3]], 400),
    "8.3.1 an asterisk without OPTIONS": ([*GET[:2], (":path", "*"), GET[3]], 400),
    "8.3.1 user information in the authority": ([*GET[:3], (":authority", "u:p@test")], 400),
    "8.3.1 an authority with a path": ([*GET[:3], (":authority", "test/x")], 400),
    "8.3.1 a host that contradicts the authority": ([*GET, ("host", "other")], 400),
    "8.3.1 neither authority nor host": (GET[:3], 400),
    "8.3.1 two hosts": ([*GET[:3], ("host", "a"), ("host", "b")], 400),
    "a percent that begins nothing": ([*GET[:2], (":path", "/%zz"), GET[3]], 400),
    "two lengths": ([*POST, ("content-length", "0"), ("content-length", "0")], 400),
    "a length that is no number": ([*POST, ("content-length", "+0")], 400),
    "9110 8.3 two content types": ([*POST, ("content-type", "a/b"), ("content-type", "c/d")], 400),
    "9110 11.6.2 two authorizations": ([*GET, ("authorization", "A b"), ("authorization", "A c")], 400),
    "9110 14.2 two ranges": ([*GET, ("range", "bytes=0-1"), ("range", "bytes=2-3")], 400),
    "9110 14.4 two content ranges": (
        [*POST, ("content-range", "bytes 0-0/2"), ("content-range", "bytes 1-1/2")],
        400,
    ),
    "CONNECT": ([(":method", "CONNECT"), (":authority", "test:443")], 501),
}

TAKEN = {
    "te: trailers": [*GET, ("te", "trailers")],
    "host instead of authority": [*GET[:3], ("host", "test")],
    "host and authority alike": [*GET, ("host", "test")],
    "https as the scheme": [GET[0], (":scheme", "https"), *GET[2:]],
    "a method of its own": [(":method", "PROPFIND"), *GET[1:]],
    "an empty value": [*GET, ("x-empty", "")],
    "white space around a value": [*GET, ("x-ping", " alive\t")],
    "a value with bytes above 127": [*GET, ("x-latin", "\xe9")],
    "a content type twice": [*GET, ("content-type", "a/b"), ("content-type", "a/b")],
    "a list in two fields": [*GET, ("accept", "a/b"), ("accept", "c/d")],
}


def expect(client: Http2Client, outcome: object) -> None:
    """What must have come of what was sent."""
    match outcome:
        case "alive":
            client.ping()
            client.next_stream = 101
            client.expect_alive()
        case "ponged":
            client.wait(lambda: client.pongs == [b"12345678"], "PING's answer")
        case "acknowledged":
            client.ping()
        case int():
            assert client.answer(1).status == outcome
        case ("refused",):
            assert client.answer(41).reset == REFUSED_STREAM
        case ("connection", *codes):
            assert client.wait_end() in codes, client.goaways
            assert client.server_settings, "SETTINGS come before GOAWAY"
        case ("stream", *codes):
            client.answers.setdefault(1, Answer())
            client.wait(lambda: client.answers[1].reset is not None, "the reset of stream 1")
            assert client.answers[1].reset in codes
            client.next_stream = 101
            client.expect_alive()
        case ("either", *codes):
            client.wait_for_reset_or_end(1)
            reset = client.answers[1].reset if 1 in client.answers else None
            assert (reset if reset is not None else client.goaways[-1].error_code) in codes


class AtOnce(Http2Client):
    """Sends preface and SETTINGS together with the first that there is to send."""

    hello = PREFACE + SettingsFrame(0).serialize()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        data, self.hello = self.hello + data, b""
        super().send(data)


@pytest.mark.parametrize("at_once", [False, True], ids=["greeted", "at once"])
@pytest.mark.parametrize("name", list(CASES))
def test_case(server, name, at_once):
    """One of the cases above."""
    outcome, *steps = CASES[name]
    with (AtOnce if at_once else Http2Client)(server.address, hello=False) as client:
        if not at_once:
            client.send(PREFACE + SettingsFrame(0).serialize())
            client.wait(lambda: client.server_settings, "SETTINGS")
        try:
            for step in steps:
                client.send(step) if isinstance(step, bytes) else step(client)
        except OSError:
            pass  # It has ended the connection before all was sent.
        expect(client, outcome)
    with Http2Client(server.address) as other:
        other.expect_alive()


def test_first_frame_other_than_settings_ends_the_connection(server):
    """RFC 9113, section 3.4."""
    with Http2Client(server.address, hello=False) as client:
        client.send(PREFACE + frame(PING, 0, 0, b"12345678"))
        expect(client, connection(PROTOCOL_ERROR))
    with Http2Client(server.address) as other:
        other.expect_alive()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_stream_errors(server, name):
    """RFC 9113, section 8.1.1. The streams beside it live, those before it and those behind it."""
    with Http2Client(server.address) as client:
        held(client, stream=1)
        client.send(frame(HEADERS, WHOLE, 3, literal(MALFORMED[name])))
        assert client.answer(3).reset == PROTOCOL_ERROR
        client.next_stream = 5
        client.expect_alive()
        assert client.answer(1).status == 200 and not client.goaways


@pytest.mark.parametrize("name", REFUSED)
def test_what_http1_would_refuse_is_answered_so(server, name):
    fields, status = REFUSED[name]
    with Http2Client(server.address) as client:
        client.send(frame(HEADERS, WHOLE, 1, literal(fields)))
        client.wait_for_reset_or_end(1, ended=True)
        assert client.answers[1].status == status, client.answers[1]
        client.next_stream = 3
        client.expect_alive()


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_sound_is_taken(server, name):
    with Http2Client(server.address) as client:
        client.send(frame(HEADERS, WHOLE, 1, literal(TAKEN[name])))
        answer = client.answer(1)
        assert answer.status == 200 and answer.body in (b"pong ", b"pong alive")


TRAILERS = {
    "8.1 a pseudo-field of requests": [(":method", "GET")],
    "8.1 a pseudo-field of responses": [(":status", "200")],
    "8.1 a pseudo-field behind a field": [("x-test", "ok"), (":path", "/")],
    "8.2 a name in upper case": [("X-Test", "ok")],
    "8.2.1 a name with a space": [("x test", "ok")],
    "8.2.1 an empty name": [("", "ok")],
    "8.2.1 a value with a line end": [("x-test", "a\r\nb: c")],
    "8.2.2 a field of HTTP/1": [("connection", "close")],
    "9110 6.5.1 a length": [("content-length", "4")],
    "9110 6.5.1 a host": [("host", "test")],
}


@pytest.mark.parametrize("name", TRAILERS)
def test_malformed_trailers_are_stream_errors(server, name):
    with Http2Client(server.address) as client:
        held(client, stream=1)
        client.send(frame(HEADERS, END_HEADERS, 3, literal(POST)) + frame(DATA, 0, 3, b"body"))
        client.send(frame(HEADERS, WHOLE, 3, literal(TRAILERS[name])))
        assert client.answer(3).reset == PROTOCOL_ERROR
        client.next_stream = 5
        client.expect_alive()
        assert client.answer(1).status == 200 and not client.goaways


@pytest.mark.parametrize(
    "name", ["content-digest", "content-md5", "content-type", "server-timing", "authorization"]
)
def test_lawful_trailers_are_dropped(server, name):
    with Http2Client(server.address) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, literal(POST)) + frame(DATA, 0, 1, b"body"))
        client.send(frame(HEADERS, WHOLE, 1, literal([(name, "a"), (name, "b")])))
        assert client.answer(1).status == 200
        client.next_stream = 3
        client.expect_alive()


def test_each_code_has_a_case():
    outcomes = [outcome for outcome, *_ in CASES.values()]
    named = {code for outcome in outcomes if isinstance(outcome, tuple) for code in outcome[1:]}
    codes = {PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR}
    assert named >= codes and ("refused",) in outcomes


def test_lengths_that_contradict_the_body(server):
    for sent in (b"", b"abc", b"abcde"):
        with Http2Client(server.address) as client:
            stream_id = client.open("/ping", "POST", [("content-length", "4")], end=False)
            client.data(stream_id, sent, end=True)
            client.wait_for_reset_or_end(1, ended=True)
            assert client.answers[1].reset == PROTOCOL_ERROR
            client.expect_alive()


def test_more_data_than_the_window(serve):
    server = serve(
        "apps.stuck:application", "--stream-request-body=always", "--http2-initial-window-size", "65535"
    )
    with Http2Client(server.address) as client:
        stream_id = client.open("/sleep?seconds=2", "POST", end=False)
        for _ in range(20):
            client.data(stream_id, b"x" * 16384)
        client.wait_for_reset_or_end(1)
        code = (
            client.answers[1].reset if client.answers[1].reset is not None else client.goaways[-1].error_code
        )
        assert code == FLOW_CONTROL_ERROR


def test_a_table_that_grows_and_shrinks(server):
    """The header tables of both sides keep step over many requests."""
    with Http2Client(server.address) as client:
        for size in (4096, 0, 100, 4096, 1000):
            client.encoder.header_table_size = size
            for number in range(30):
                fields = [(f"x-{number % 7}", str(number) * 9), ("x-ping", str(number))]
                assert client.request("/ping", fields=fields).body == f"pong {number}".encode()


def test_a_head_in_continuations_of_one_byte(server):
    with Http2Client(server.address) as client:
        block = client.block(GET)
        client.send(frame(HEADERS, END_STREAM, 1, block[:1]))
        for byte in block[1:3]:
            client.send_frame(ContinuationFrame(1, bytes([byte])))
        client.send(frame(CONTINUATION, END_HEADERS, 1, block[3:]))
        assert client.answer(1).status == 200
