"""RFC 9113 case by case, against a real process: frame by frame, what a conformance suite asks.

Each case says what is sent on a fresh connection and what must come of it: the connection ends with one of
these error codes, the stream is reset with one of these, a status is answered, or all goes on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

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

SERVER = ("apps.control:application", "--threads", "2", "--http2-max-concurrent-streams", "20")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/ping"), (":authority", "test")]
POST = [(":method", "POST"), *GET[1:]]

Case = Callable[[Http2Client], None]
CASES: dict[str, tuple[str, object, Case]] = {}


def raw(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame byte by byte."""
    count = len(payload) if length is None else length
    return struct.pack(">I", count)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def case(section: str, outcome: object):
    """Registers what a connection sends; `outcome` is what `expect` takes."""

    def register(send: Case) -> Case:
        name = f"{section} {send.__name__}"
        assert name not in CASES
        CASES[name] = (section, outcome, send)
        return send

    return register


def connection(*codes: int) -> tuple:
    """The connection ends, with one of these codes in GOAWAY."""
    return ("connection", *codes)


def stream(*codes: int) -> tuple:
    """Stream 1 is reset with one of these, and the connection goes on."""
    return ("stream", *codes)


# 3.4 The preface


@case("3.4", connection(PROTOCOL_ERROR))
def first_frame_that_is_not_settings(client):
    client.raw_hello(raw(PING, 0, 0, b"12345678"))


# 4.1 Frame format, 4.2 frame size


@case("4.1", "alive")
def unknown_type(client):
    client.send(raw(0xFA, 0xFF, 0, b"what"))


@case("4.1", "alive")
def unknown_flags_on_ping(client):
    client.send(raw(PING, 0xFE, 0, b"12345678"))


@case("4.1", "alive")
def reserved_bit(client):
    client.send(raw(PING, 0, 1 << 31, b"12345678"))


@case("4.2", 200)
def data_of_the_greatest_size(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(DATA, END_STREAM, 1, b"x" * 16384))


@case("4.2", connection(FRAME_SIZE_ERROR))
def data_above_the_greatest_size(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(DATA, END_STREAM, 1, b"x" * 16385))


@case("4.2", connection(FRAME_SIZE_ERROR))
def headers_above_the_greatest_size(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block([*GET, ("a", "\x01" * 17000)])))


# 4.3 Header compression


@case("4.3", connection(COMPRESSION_ERROR))
def header_block_that_is_none(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))


@case("4.3", connection(PROTOCOL_ERROR))
def priority_within_a_header_block(client):
    client.send(raw(HEADERS, END_STREAM, 1, client.block(GET)) + raw(PRIORITY, 0, 1, b"\0\0\0\0\xff"))


@case("4.3", connection(PROTOCOL_ERROR))
def headers_of_another_stream_within_a_header_block(client):
    block = client.block(GET)
    client.send(raw(HEADERS, END_STREAM, 1, block) + raw(HEADERS, END_HEADERS | END_STREAM, 3, block))


# HPACK (RFC 7541)


@case("7541 2.3.3", connection(COMPRESSION_ERROR))
def index_beyond_the_tables(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET) + b"\xfe"))


@case("7541 6.1", connection(COMPRESSION_ERROR))
def index_zero(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET) + b"\x80"))


@case("7541 4.2", connection(COMPRESSION_ERROR))
def table_size_update_at_the_end_of_a_block(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET) + b"\x20"))


@case("7541 6.3", connection(COMPRESSION_ERROR))
def table_size_update_above_the_setting(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe1\xff\x03" + client.block(GET)))


@case("7541 5.2", connection(COMPRESSION_ERROR))
def huffman_padding_of_eight_bits(client):
    client.send(
        raw(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            client.block(GET) + b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
        )
    )


@case("7541 5.2", connection(COMPRESSION_ERROR))
def huffman_padding_of_zeros(client):
    client.send(
        raw(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            client.block(GET) + b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90",
        )
    )


@case("7541 5.2", connection(COMPRESSION_ERROR))
def huffman_end_of_string(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET) + b"\0\x84\xff\xff\xff\xff\x01a"))


# 5.1 Stream states


@case("5.1", connection(PROTOCOL_ERROR))
def data_on_an_idle_stream(client):
    client.send(raw(DATA, END_STREAM, 1, b"test"))


@case("5.1", connection(PROTOCOL_ERROR))
def reset_of_an_idle_stream(client):
    client.send(raw(RST_STREAM, 0, 1, b"\0\0\0\x08"))


@case("5.1", connection(PROTOCOL_ERROR))
def window_update_of_an_idle_stream(client):
    client.send(raw(WINDOW_UPDATE, 0, 1, b"\0\0\0\x64"))


@case("5.1", connection(PROTOCOL_ERROR))
def continuation_on_an_idle_stream(client):
    client.send(raw(CONTINUATION, END_HEADERS, 1, client.block(GET)))


@case("5.1", stream(STREAM_CLOSED))
def data_after_the_end_of_the_request(client):
    held(client)
    client.send(raw(DATA, END_STREAM, 1, b"test"))


@case("5.1", stream(STREAM_CLOSED))
def headers_after_the_end_of_the_request(client):
    held(client)
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET)))


@case("5.1", connection(PROTOCOL_ERROR, STREAM_CLOSED))
def continuation_after_the_end_of_the_request(client):
    held(client)
    client.send(raw(CONTINUATION, END_HEADERS, 1, client.block(GET)))


@case("5.1", "alive")
def headers_on_a_closed_stream(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET)))
    assert client.answer(1).status == 200
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET)))


@case("5.1", ("either", STREAM_CLOSED, PROTOCOL_ERROR))
def data_on_a_closed_stream(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET)))
    assert client.answer(1).status == 200
    client.send(raw(DATA, END_STREAM, 1, b"test"))


@case("5.1", "alive")
def window_update_and_reset_on_a_closed_stream(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block(GET)))
    assert client.answer(1).status == 200
    client.send(raw(WINDOW_UPDATE, 0, 1, b"\0\0\0\x64") + raw(RST_STREAM, 0, 1, b"\0\0\0\x08"))


@case("5.1.1", connection(PROTOCOL_ERROR))
def even_stream(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 2, client.block(GET)))


@case("5.1.1", connection(PROTOCOL_ERROR))
def a_stream_below_the_last(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 5, client.block(GET)))
    assert client.answer(5).status == 200
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 3, client.block(GET)))


@case("5.1.2", ("refused",))
def more_streams_than_allowed(client):
    client.ping()
    for number in range(21):
        client.send(raw(HEADERS, END_HEADERS, 1 + 2 * number, client.block(POST)))


# 5.3.1 A stream that depends on itself


@case("5.3.1", stream(PROTOCOL_ERROR))
def headers_that_depend_on_themselves(client):
    payload = b"\0\0\0\x01\xff" + client.block(GET)
    client.send(raw(HEADERS, END_HEADERS | END_STREAM | PRIORITIZED, 1, payload))


@case("5.3.1", ("either", PROTOCOL_ERROR))
def priority_that_depends_on_itself(client):
    client.send(raw(PRIORITY, 0, 1, b"\0\0\0\x01\xff"))


# 6.1 DATA


@case("6.1", connection(PROTOCOL_ERROR))
def data_on_stream_zero(client):
    client.send(raw(DATA, END_STREAM, 0, b"test"))


@case("6.1", connection(PROTOCOL_ERROR))
def data_with_padding_longer_than_itself(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(DATA, END_STREAM | PADDED, 1, b"\x06test"))


@case("6.1", 200)
def data_with_padding(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(DATA, END_STREAM | PADDED, 1, b"\x06test\0\0\0\0\0\0"))


# 6.2 HEADERS


@case("6.2", 200)
def headers_with_padding_and_priority(client):
    payload = b"\x03\x80\0\0\x00\x0f" + client.block(GET) + b"\0\0\0"
    client.send(raw(HEADERS, END_HEADERS | END_STREAM | PADDED | PRIORITIZED, 1, payload))


@case("6.2", connection(PROTOCOL_ERROR))
def headers_on_stream_zero(client):
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 0, client.block(GET)))


@case("6.2", connection(PROTOCOL_ERROR))
def headers_with_padding_longer_than_themselves(client):
    block = client.block(GET)
    client.send(raw(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, bytes([len(block) + 1]) + block))


# 6.3 PRIORITY


@case("6.3", connection(PROTOCOL_ERROR))
def priority_on_stream_zero(client):
    client.send(raw(PRIORITY, 0, 0, b"\0\0\0\0\xff"))


@case("6.3", stream(FRAME_SIZE_ERROR))
def priority_of_four_bytes(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(PRIORITY, 0, 1, b"\0\0\0\0"))


@case("6.3", "alive")
def priority_on_an_idle_stream(client):
    client.send(raw(PRIORITY, 0, 99, b"\0\0\0\0\xff"))


# 6.4 RST_STREAM


@case("6.4", connection(PROTOCOL_ERROR))
def reset_of_stream_zero(client):
    client.send(raw(RST_STREAM, 0, 0, b"\0\0\0\x08"))


@case("6.4", connection(FRAME_SIZE_ERROR))
def reset_of_three_bytes(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)))
    client.send(raw(RST_STREAM, 0, 1, b"\0\0\0"))


# 6.5 SETTINGS


@case("6.5", connection(FRAME_SIZE_ERROR))
def settings_acknowledged_with_a_payload(client):
    client.send(raw(SETTINGS, ACK, 0, b"\0"))


@case("6.5", connection(PROTOCOL_ERROR))
def settings_on_a_stream(client):
    client.send(raw(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64"))


@case("6.5", connection(FRAME_SIZE_ERROR))
def settings_of_three_bytes(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x03\0"))


@case("6.5.2", connection(PROTOCOL_ERROR))
def push_of_two(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x02\0\0\0\x02"))


@case("6.5.2", connection(FLOW_CONTROL_ERROR))
def initial_window_of_two_to_the_31(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x04\x80\0\0\0"))


@case("6.5.2", connection(PROTOCOL_ERROR))
def frame_size_below_the_least(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x05\0\0\x3f\xff"))


@case("6.5.2", connection(PROTOCOL_ERROR))
def frame_size_above_the_most(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x05\x01\0\0\0"))


@case("6.5.2", "alive")
def an_unknown_setting(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\xff\0\0\0\x01"))


@case("6.5.3", "acknowledged")
def settings_are_acknowledged(client):
    client.send(raw(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64"))


# 6.6 PUSH_PROMISE, 8.4


@case("8.4", connection(PROTOCOL_ERROR))
def a_push_promise_from_a_client(client):
    client.send(raw(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + client.block(GET)))


# 6.7 PING


@case("6.7", "ponged")
def ping(client):
    client.send(raw(PING, 0, 0, b"12345678"))


@case("6.7", "alive")
def an_acknowledged_ping_that_was_not_sent(client):
    client.send(raw(PING, ACK, 0, b"invalid!"))


@case("6.7", connection(PROTOCOL_ERROR))
def ping_on_a_stream(client):
    client.send(raw(PING, 0, 1, b"12345678"))


@case("6.7", connection(FRAME_SIZE_ERROR))
def ping_of_six_bytes(client):
    client.send(raw(PING, 0, 0, b"123456"))


# 6.8 GOAWAY


@case("6.8", connection(PROTOCOL_ERROR))
def goaway_on_a_stream(client):
    client.send(raw(GOAWAY, 0, 1, b"\0" * 8))


# 6.9 WINDOW_UPDATE, 6.9.1


@case("6.9", connection(PROTOCOL_ERROR))
def window_update_of_zero(client):
    client.send(raw(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"))


@case("6.9", stream(PROTOCOL_ERROR))
def window_update_of_zero_on_a_stream(client):
    held(client)
    client.send(raw(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"))


@case("6.9", connection(FRAME_SIZE_ERROR))
def window_update_of_three_bytes(client):
    client.send(raw(WINDOW_UPDATE, 0, 0, b"\0\0\1"))


@case("6.9.1", connection(FLOW_CONTROL_ERROR))
def a_connection_window_above_the_most(client):
    client.send(raw(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2)


@case("6.9.1", stream(FLOW_CONTROL_ERROR))
def a_stream_window_above_the_most(client):
    held(client)
    client.send(raw(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2)


@case("6.9.2", connection(FLOW_CONTROL_ERROR))
def settings_that_lift_a_window_above_the_most(client):
    held(client)
    client.send(raw(WINDOW_UPDATE, 0, 1, b"\x7f\xff\0\0"))
    client.send(raw(SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff"))


# 6.10 CONTINUATION


@case("6.10", 200)
def continuations(client):
    block = client.block(GET)
    client.send(raw(HEADERS, END_STREAM, 1, block[:1]) + raw(CONTINUATION, 0, 1, block[1:2]))
    client.send(raw(CONTINUATION, 0, 1, b"") + raw(CONTINUATION, END_HEADERS, 1, block[2:]))


@case("6.10", connection(PROTOCOL_ERROR))
def continuation_after_the_end_of_headers(client):
    block = client.block(GET)
    client.send(raw(HEADERS, END_HEADERS, 1, block) + raw(CONTINUATION, END_HEADERS, 1, block))


@case("6.10", connection(PROTOCOL_ERROR))
def continuation_on_stream_zero(client):
    client.send(raw(HEADERS, END_STREAM, 1, client.block(GET)) + raw(CONTINUATION, END_HEADERS, 0, b""))


@case("6.10", connection(PROTOCOL_ERROR))
def continuation_of_another_stream(client):
    client.send(raw(HEADERS, END_STREAM, 1, client.block(GET)) + raw(CONTINUATION, END_HEADERS, 3, b""))


@case("6.10", connection(PROTOCOL_ERROR))
def data_before_the_end_of_headers(client):
    client.send(raw(HEADERS, 0, 1, client.block(POST)) + raw(DATA, END_STREAM, 1, b"test"))


# 7 Error codes


@case("7", "alive")
def goaway_and_reset_with_unknown_codes(client):
    held(client, end=False)
    client.send(raw(RST_STREAM, 0, 1, b"\xff\0\0\0"))


# 8.1 Messages


@case("8.1", 200)
def trailers(client):
    client.send(raw(HEADERS, END_HEADERS, 1, client.block(POST)) + raw(DATA, 0, 1, b"test"))
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block([("x-test", "ok")])))


@case("8.1", stream(PROTOCOL_ERROR))
def a_second_head_without_the_end(client):
    held(client, end=False)
    client.send(raw(HEADERS, END_HEADERS, 1, client.block([("x-test", "ok")])))


@case("8.1", stream(PROTOCOL_ERROR))
def trailers_with_a_pseudo_field(client):
    held(client, end=False)
    client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, client.block([(":method", "GET")])))


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


def held(client: Http2Client, end: bool = True, stream: int = 1) -> None:
    """A stream has begun and is not answered."""
    fields = [*(GET if end else POST)[:2], (":path", "/sleep?seconds=0.5"), GET[3]]
    client.send(raw(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, client.block(fields)))


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
    _, outcome, send = CASES[name]
    with (AtOnce if at_once else Http2Client)(server.address, hello=False) as client:
        client.raw_hello = lambda first: Http2Client.send(client, PREFACE + first)
        if not at_once and send is not first_frame_that_is_not_settings:
            client.send(PREFACE + SettingsFrame(0).serialize())
            client.wait(lambda: client.server_settings, "SETTINGS")
        try:
            send(client)
        except OSError:
            pass  # It has ended the connection before all was sent.
        expect(client, outcome)
    with Http2Client(server.address) as other:
        other.expect_alive()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_stream_errors(server, name):
    """RFC 9113, section 8.1.1. The streams beside it live, those before it and those behind it."""
    with Http2Client(server.address) as client:
        held(client, stream=1)
        client.send(raw(HEADERS, END_HEADERS | END_STREAM, 3, literal(MALFORMED[name])))
        assert client.answer(3).reset == PROTOCOL_ERROR
        client.next_stream = 5
        client.expect_alive()
        assert client.answer(1).status == 200 and not client.goaways


@pytest.mark.parametrize("name", REFUSED)
def test_what_http1_would_refuse_is_answered_so(server, name):
    fields, status = REFUSED[name]
    with Http2Client(server.address) as client:
        client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, literal(fields)))
        client.wait_for_reset_or_end(1, ended=True)
        assert client.answers[1].status == status, client.answers[1]
        client.next_stream = 3
        client.expect_alive()


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_sound_is_taken(server, name):
    with Http2Client(server.address) as client:
        client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, literal(TAKEN[name])))
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
        client.send(raw(HEADERS, END_HEADERS, 3, literal(POST)) + raw(DATA, 0, 3, b"body"))
        client.send(raw(HEADERS, END_HEADERS | END_STREAM, 3, literal(TRAILERS[name])))
        assert client.answer(3).reset == PROTOCOL_ERROR
        client.next_stream = 5
        client.expect_alive()
        assert client.answer(1).status == 200 and not client.goaways


@pytest.mark.parametrize(
    "name", ["content-digest", "content-md5", "content-type", "server-timing", "authorization"]
)
def test_lawful_trailers_are_dropped(server, name):
    with Http2Client(server.address) as client:
        client.send(raw(HEADERS, END_HEADERS, 1, literal(POST)) + raw(DATA, 0, 1, b"body"))
        client.send(raw(HEADERS, END_HEADERS | END_STREAM, 1, literal([(name, "a"), (name, "b")])))
        assert client.answer(1).status == 200
        client.next_stream = 3
        client.expect_alive()


def test_each_code_has_a_case():
    named = {code for _, outcome, _ in CASES.values() if isinstance(outcome, tuple) for code in outcome[1:]}
    codes = {PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR}
    assert named >= codes and any(outcome == ("refused",) for _, outcome, _ in CASES.values())


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
        client.send(raw(HEADERS, END_STREAM, 1, block[:1]))
        for byte in block[1:3]:
            client.send_frame(ContinuationFrame(1, bytes([byte])))
        client.send(raw(CONTINUATION, END_HEADERS, 1, block[3:]))
        assert client.answer(1).status == 200


def literal(fields: list[tuple[str, str]]) -> bytes:
    """A header block of literal fields, whatever is in them."""
    return b"".join(b"\0" + text_of(name) + text_of(value) for name, value in fields)


def text_of(text: str) -> bytes:
    """A string without Huffman coding."""
    data = text.encode("latin-1")
    assert len(data) < 127
    return bytes([len(data)]) + data
