"""What an HTTP/2 client can do too often, too slowly or too long: each has its limit, and its test."""

from __future__ import annotations

import select
import time

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from harness.http2_client import ENHANCE_YOUR_CALM, PREFACE, REFUSED_STREAM, Answer, Http2Client
from harness.rendezvous import wait_until

SERVER = ("apps.control:application", "--threads", "4")
STUCK = "apps.stuck:application"
SLOW_PAUSE = 0.1  # Seconds between the pieces of a client that is slower than it may be.
TOO_MANY = r"closed the HTTP/2 connection of 127\.0\.0\.1: too many"


def connect(server, **options) -> Http2Client:
    """A client of a server."""
    return Http2Client(server.address, **options)


def flood(client: Http2Client, bytes_of_one: bytes, count: int) -> None:
    """Sends the same thing many times; the server may end the connection meanwhile."""
    for _ in range(0, count, 100):
        try:
            client.send(bytes_of_one * 100)
        except OSError:
            return


def expect_calm(server, client: Http2Client) -> None:
    """The client is told to be calm, and nobody else feels it."""
    assert client.wait_end() == ENHANCE_YOUR_CALM
    server.expect_log(TOO_MANY)
    with connect(server) as other:
        other.expect_alive()


# Streams and heads


def test_concurrent_streams(serve):
    server = serve(STUCK, "--threads", "1", "--http2-max-concurrent-streams", "3")
    with connect(server) as client:
        assert client.server_settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 3
        client.ping()
        streams = [client.open("/sleep?seconds=0.3") for _ in range(4)]
        answers = [client.answer(stream) for stream in streams]
        assert [answer.status for answer in answers] == [200, 200, 200, None]
        assert answers[3].reset == REFUSED_STREAM
        client.expect_alive()


def test_settings_are_told(serve):
    options = {
        "--http2-initial-window-size": (SettingsFrame.INITIAL_WINDOW_SIZE, 70_000),
        "--http2-max-frame-size": (SettingsFrame.MAX_FRAME_SIZE, 20_000),
        "--http2-max-header-list-size": (SettingsFrame.MAX_HEADER_LIST_SIZE, 9_999),
    }
    words = [word for option, (_, value) in options.items() for word in (option, str(value))]
    with connect(serve("apps.control:application", *words)) as client:
        for number, value in options.values():
            assert client.server_settings[number] == value


@pytest.mark.parametrize("count", [1, 7])
def test_header_list(server, count):
    """Of the list's 64 KB a little more than the limit; in one field and in several."""
    with connect(server) as client:
        fields = [(f"x-{number}", "v" * (70_000 // count)) for number in range(count)]
        frames = client.headers_frame(1, client.head(fields=fields), "END_STREAM")
        send_in_pieces(client, frames)
        assert client.answer(1).status == 431
        client.next_stream = 3
        client.expect_alive()


def begin_head(client: Http2Client) -> None:
    """HEADERS that others are to continue."""
    frame = client.headers_frame(client.next_stream, client.head())
    frame.flags.discard("END_HEADERS")
    client.send_frame(frame)


def send_in_pieces(client: Http2Client, frame: HeadersFrame) -> None:
    """Sends HEADERS that are longer than a frame may be."""
    block, frame.data = frame.data[16384:], frame.data[:16384]
    if block:
        frame.flags.discard("END_HEADERS")
    client.send_frame(frame)
    while block:
        more = ContinuationFrame(frame.stream_id, block[:16384])
        block = block[16384:]
        if not block:
            more.flags.add("END_HEADERS")
        client.send_frame(more)


def test_fields_and_line_and_body(serve):
    server = serve("apps.control:application", "--limit-request-body", "1000")
    with connect(server) as client:
        assert client.request("/ping", fields=[(f"x-{number}", "v") for number in range(99)]).status == 200
        assert client.request("/ping", fields=[(f"x-{number}", "v") for number in range(100)]).status == 431
        assert client.request("/ping", fields=[("x", "v" * 8200)]).status == 431
        assert client.request("/ping?" + "a" * 8200).status == 414
        assert client.request("/ping", "POST", [("content-length", "1001")], b"x" * 1001).status == 413
        assert client.request("/ping", "POST", body=b"x" * 1000).status == 200
        stream = client.open("/ping", "POST", end=False)
        client.data(stream, b"x" * 1001)
        assert client.answer(stream).status == 413
        client.expect_alive()


# Floods


def test_rapid_reset(serve):
    """CVE-2023-44487: requests that are given up as soon as they are made."""
    server = serve(STUCK, "--threads", "1")
    with connect(server) as client:
        try:
            for _ in range(2000):
                stream = client.open("/ping")
                client.reset(stream)
        except OSError:
            pass
        expect_calm(server, client)


def test_resets_in_one_piece_are_counted_first(serve):
    server = serve(STUCK, "--threads", "1")
    with connect(server) as client:
        data = b""
        for number in range(300):
            stream = 1 + 2 * number
            data += client.headers_frame(stream, client.head(), "END_STREAM").serialize()
            data += b"\0\0\4\3\0" + stream.to_bytes(4, "big") + b"\0\0\0\x08"
        client.send(data)
        assert client.wait_end() == ENHANCE_YOUR_CALM


def test_some_resets_are_nobodys_fault(server):
    with connect(server) as client:
        for number in range(150):
            client.reset(client.open("/ping"))
            if number % 2:
                client.expect_alive()
        client.expect_alive()


def test_requests_that_make_us_reset(serve):
    """Malformed ones: each costs a RST_STREAM of ours."""
    server = serve("apps.control:application")
    with connect(server) as client:
        try:
            for number in range(20_000):
                fields = [*client.head(), ("connection", "close")]
                client.send_frame(client.headers_frame(1 + 2 * number, fields, "END_STREAM"))
        except OSError:
            pass
        assert client.wait_end() == ENHANCE_YOUR_CALM
    with connect(server) as other:
        other.expect_alive()


def test_a_small_block_that_is_a_large_list(serve):
    """One long field in the table, named thousands of times in the bytes of one frame."""
    server = serve("apps.control:application")
    worker = server.worker
    before = memory_of(worker.pid)
    with connect(server) as client:
        block = client.block(client.head()) + b"\x40\x01x\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 12_000
        frame = HeadersFrame(1, block)
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        client.send_frame(frame)
        client.wait_for_reset_or_end(1, ended=True)
        assert client.goaways or client.answers[1].status == 431
    assert memory_of(worker.pid) - before < 16 << 20
    with connect(server) as other:
        other.expect_alive()


def test_continuation_flood(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        begin_head(client)
        flood(client, ContinuationFrame(1, b"").serialize(), 20_000)
        assert client.wait_end() is not None
    with connect(server) as other:
        other.expect_alive()


def test_continuation_of_never_ending_fields(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        begin_head(client)
        # Literal fields without indexing: nothing is kept but what is decoded.
        one = b"\0\x01x\x7f\x80\x7d" + b"v" * 16127
        flood(client, ContinuationFrame(1, one).serialize(), 2000)
        assert client.wait_end() is not None
    assert memory_of(server.worker.pid) < 200 << 20


FLOODS = {
    "ping": PingFrame(0, b"12345678"),
    "settings": SettingsFrame(0, {}),
    "settings that change": SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 70_000}),
    "priority": PriorityFrame(1, depends_on=0, stream_weight=1),
    "window": WindowUpdateFrame(0, 1),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_that_serve_no_request(serve, kind):
    server = serve("apps.control:application")
    with connect(server) as client:
        frame = FLOODS[kind].serialize()
        for _ in range(9):
            client.send(frame * 100)
        client.ping()
        client.expect_alive()
        flood(client, frame, 20_000)
        expect_calm(server, client)


def test_floods_do_not_flood_the_log(serve):
    server = serve(*SERVER)
    bytes_of_one = PingFrame(0, b"12345678").serialize()
    for _ in range(12):
        with connect(server) as client:
            flood(client, bytes_of_one, 20_000)
            client.wait_end()
    server.expect_log(r"too many.*\(8 so far\)")
    assert len(server.find_records(TOO_MANY)) == 4, "the first, the second, the fourth, the eighth"


def test_unknown_frames(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        client.send(b"\0\0\0\xaa\0\0\0\0\0" * 900)
        client.expect_alive()
        flood(client, b"\0\0\0\xaa\0\0\0\0\0", 20_000)
        expect_calm(server, client)


def test_empty_data(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        stream = client.open("/ping", "POST", end=False)
        flood(client, DataFrame(stream, b"").serialize(), 20_000)
        assert client.wait_end() == ENHANCE_YOUR_CALM


def test_data_of_one_byte_each(serve):
    """Frames that carry next to nothing: they are taken, each costs us as much as it costs the client."""
    server = serve("apps.control:application", "--stream-request-body=always", "--threads", "1")
    with connect(server) as client:
        held = client.open("/hold?gate=it", "POST", end=False)
        flood(client, DataFrame(held, b"x").serialize(), 60_000)
        client.socket.settimeout(1)
        try:
            while client.pump():
                pass
        except TimeoutError:
            pass
    server.rendezvous.open("it")
    wait_until(lambda: server.request("GET", "/ping").status == 200, "an answer")


def test_window_updates_in_small_steps_are_no_flood(serve):
    server = serve("apps.control:application")
    with connect(server) as client:
        stream = client.open("/large?bytes=10000000&block=1000")
        answer, updates = client.answers.setdefault(stream, Answer()), 0
        while not answer.ended:
            before = len(answer.body)
            assert client.pump()
            if count := len(answer.body) - before:
                client.update_window(0, count)
                if not answer.ended:
                    client.update_window(stream, count)
                updates += 2
        assert len(answer.body) == 10_000_000 and updates > 1000


# Clients that take nothing, or give nothing


def test_client_that_never_reads_is_bounded_and_cut(serve):
    server = serve(STUCK, "--threads", "4", "--write-timeout", "2")
    worker = server.worker
    with connect(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: (1 << 31) - 1}) as client:
        client.update_window(0, (1 << 31) - 1 - 65535)
        before = worker.resident_memory()
        worker.reset_peak_memory()
        for _ in range(50):
            client.open("/large?blocks=1000")
        assert server.request("GET", "/ping").status == 200, "its threads are free again"
        assert worker.peak_memory() - before < 64 << 20


def memory_of(pid: int) -> int:
    """Resident bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_zero_window_is_cut_after_write_timeout(serve):
    server = serve("apps.control:application", "--write-timeout", "1")
    with connect(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        begun = time.monotonic()
        streams = [client.open("/ping") for _ in range(10)]
        for stream in streams:
            answer = client.answer(stream)
            assert answer.status == 200 and answer.body == b"" and answer.reset is not None
        assert time.monotonic() - begun > 0.7
        client.ping()


def test_pings_of_a_client_that_never_reads(serve):
    """Its PINGs are not answered without end: we stop reading."""
    server = serve("apps.control:application")
    worker = server.worker
    with connect(server, timeout=3) as client:
        before = memory_of(worker.pid)
        try:
            for _ in range(200):
                client.send(PingFrame(0, b"12345678").serialize() * 1000)
        except OSError:
            pass
        assert memory_of(worker.pid) - before < 16 << 20


def test_slow_bodies_on_many_streams(serve):
    server = serve("apps.control:application", "--body-timeout", "1", "--threads", "1")
    with connect(server) as client:
        streams = [client.open("/ping", "POST", [("content-length", "10")], end=False) for _ in range(50)]
        for stream in streams:
            client.data(stream, b"x")
        assert server.request("GET", "/ping").status == 200, "they hold no thread"
        begun = time.monotonic()
        for stream in streams:
            assert client.answer(stream).status == 408
        assert time.monotonic() - begun > 0.5
        client.expect_alive()


def test_a_minimum_rate_for_bodies(serve):
    server = serve("apps.control:application", "--body-timeout", "1", "--body-min-rate", "1000")
    with connect(server) as client:
        stream = client.open("/ping", "POST", [("content-length", "1000")], end=False)
        for _ in range(100):
            client.data(stream, b"x")
            client.ping()
            if stream in client.answers:
                break
            time.sleep(SLOW_PAUSE)
        assert stream in client.answers, "while it still sends"
        assert client.answer(stream).status == 408


@pytest.mark.parametrize(
    ("each", "pause", "status"),
    [(500, 0.15, 200), (20, 0.15, 408), (500, 2, 408)],
    ids=["fast", "slow", "stops"],
)
def test_frame_in_pieces_counts_as_it_comes(serve, each, pause, status):
    """One DATA frame over a slow line, or by a client that is slow on purpose: none is whole in time."""
    server = serve("apps.control:application", "--body-timeout", "1", "--body-min-rate", "1000")
    length = 10_000
    with connect(server) as client:
        stream = client.open("/consume", "POST", [("content-length", str(length))], end=False)
        frame = DataFrame(stream, b"x" * length, flags=["END_STREAM"]).serialize()
        begun = time.monotonic()
        for start in range(0, len(frame), each):
            client.send(frame[start : start + each])
            if select.select([client.socket], [], [], pause)[0]:
                client.pump()
            if stream in client.answers:
                break
        assert client.answer(stream).status == status
        assert time.monotonic() - begun >= 1


# What is begun and not ended


@pytest.mark.parametrize(
    "sent",
    [
        PREFACE[:10],
        PREFACE,
        PREFACE + SettingsFrame(0).serialize() + b"\0\0",
        PREFACE + SettingsFrame(0).serialize() + PingFrame(0, b"12345678").serialize()[:12],
    ],
    ids=["half a preface", "no settings", "half a frame's head", "half a frame"],
)
def test_handshakes_and_frames_have_a_deadline(serve, sent):
    server = serve("apps.control:application", "--head-timeout", "1")
    with connect(server, hello=False) as client:
        begun = time.monotonic()
        client.send(sent)
        while client.socket.recv(65536):
            pass
        assert time.monotonic() - begun > 0.7


def test_half_a_header_block_has_a_deadline(serve):
    server = serve("apps.control:application", "--head-timeout", "1")
    with connect(server) as client:
        client.expect_alive()
        begin_head(client)
        begun = time.monotonic()
        client.wait_end()
        assert time.monotonic() - begun > 0.7


def test_what_an_idle_session_costs(serve):
    server = serve("apps.control:application")
    pid = server.worker.pid
    server.request("GET", "/ping")
    clients = []
    try:
        for _ in range(20):
            clients.append(connect(server))
            clients[-1].expect_alive()
        before = memory_of(pid)
        for _ in range(200):
            clients.append(connect(server))
            clients[-1].expect_alive()
        wait_until(lambda: (memory_of(pid) - before) / 200 < 100 << 10, "an idle session to take little", 5)
    finally:
        for client in clients:
            client.close()
