"""A raw-socket HTTP/2 client: hyperframe's frames, hpack's headers, nothing repaired.

It sends whatever the test asks for, in whatever order, and acknowledges nothing by itself but SETTINGS.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from harness.http_client import Address, Connection, connection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

NO_ERROR = 0
PROTOCOL_ERROR = 1
INTERNAL_ERROR = 2
FLOW_CONTROL_ERROR = 3
STREAM_CLOSED = 5
FRAME_SIZE_ERROR = 6
REFUSED_STREAM = 7
CANCEL = 8
COMPRESSION_ERROR = 9
ENHANCE_YOUR_CALM = 11

FieldList = Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came on one stream."""

    status: int | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    interim: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    def get(self, name: str) -> str | None:
        """The value of the only field of this name."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class Http2Client(Connection):
    """One connection. Every wait is bounded by `timeout` seconds."""

    def __init__(
        self,
        address: Address,
        timeout: float = 10.0,
        settings: dict[int, int] | None = None,
        hello: bool = True,
        tls: ssl.SSLContext | None = None,
        source: str | None = None,
    ) -> None:
        """Connects, from the address `source` if it is given.

        With `hello` it sends preface and SETTINGS, and waits for the server's.
        """
        self.socket = connection(address, timeout, source=source)
        self.timeout = timeout
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.received = b""
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.answers: dict[int, Answer] = {}
        self.goaways: list[GoAwayFrame] = []
        self.server_settings: dict[int, int] = {}
        self.pongs: list[bytes] = []
        self.window = 65535
        self.next_stream = 1
        self.eof = False
        if hello:
            self.send(PREFACE)
            self.send_frame(SettingsFrame(0, settings or {}))
            self.wait(lambda: self.server_settings, "the server's SETTINGS")

    # Sending

    def send_frame(self, frame: Frame) -> None:
        """Sends a frame."""
        self.send(frame.serialize())

    def block(self, fields: Iterable[tuple[str, str]]) -> bytes:
        """A header block."""
        return self.encoder.encode(list(fields))

    def head(
        self, method: str = "GET", path: str = "/ping", fields: FieldList = (), authority: str = "test"
    ) -> list[tuple[str, str]]:
        """The fields of a request."""
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)]
        return [*pseudo, *fields]

    def headers_frame(self, stream: int, fields: FieldList, *flags: str) -> HeadersFrame:
        """HEADERS, END_HEADERS among its flags."""
        frame = HeadersFrame(stream, self.block(fields))
        frame.flags |= {"END_HEADERS", *flags}
        return frame

    def open(
        self,
        path: str = "/ping",
        method: str = "GET",
        fields: FieldList = (),
        end: bool = True,
        authority: str = "test",
    ) -> int:
        """Begins a request and returns its stream."""
        stream = self.next_stream
        self.next_stream += 2
        flags = ["END_STREAM"] if end else []
        self.send_frame(self.headers_frame(stream, self.head(method, path, fields, authority), *flags))
        return stream

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        """DATA."""
        frame = DataFrame(stream, data)
        if end:
            frame.flags.add("END_STREAM")
        self.send_frame(frame)

    def reset(self, stream: int, code: int = CANCEL) -> None:
        """RST_STREAM."""
        self.send_frame(RstStreamFrame(stream, code))

    def update_window(self, stream: int, count: int) -> None:
        """WINDOW_UPDATE."""
        self.send_frame(WindowUpdateFrame(stream, count))

    # Receiving

    def read_frame(self) -> Frame | None:
        """The next frame; None at the end."""
        header = self._read(9)
        if header is None:
            return None
        frame, length = Frame.parse_frame_header(memoryview(header))
        body = self._read(length)
        if body is None:
            return None
        frame.parse_body(memoryview(body))
        return frame

    def _read(self, count: int) -> bytes | None:
        while len(self.received) < count:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLEOFError):
                data = b""
            if not data:
                self.eof = True
                return None
            self.received += data
        data, self.received = self.received[:count], self.received[count:]
        return data

    def pump(self) -> bool:
        """Takes in one frame; False at the end."""
        frame = self.read_frame()
        if frame is None:
            return False
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if isinstance(frame, HeadersFrame):
            self._take_headers(frame, answer)
        elif isinstance(frame, DataFrame):
            assert not answer.ended and answer.status is not None, "DATA out of its place"
            answer.body += frame.data
            self.window -= frame.flow_controlled_length
        elif isinstance(frame, RstStreamFrame):
            answer.reset = frame.error_code
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.server_settings = dict(frame.settings) or {0: 0}
            acknowledgement = SettingsFrame(0)
            acknowledgement.flags.add("ACK")
            self.send_quietly(acknowledgement)
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append(frame)
        elif isinstance(frame, PingFrame):
            if "ACK" in frame.flags:
                self.pongs.append(frame.opaque_data)
            else:
                pong = PingFrame(0, frame.opaque_data)
                pong.flags.add("ACK")
                self.send_quietly(pong)
        if "END_STREAM" in frame.flags and isinstance(frame, (HeadersFrame, DataFrame)):
            assert not answer.ended, "a stream ends once"
            answer.ended = True
        return True

    def send_quietly(self, frame: Frame) -> None:
        """Sends a frame to a server that may have gone."""
        try:
            self.send_frame(frame)
        except OSError:
            pass

    def _take_headers(self, frame: HeadersFrame, answer: Answer) -> None:
        block = frame.data
        while "END_HEADERS" not in frame.flags:
            more = self.read_frame()
            assert isinstance(more, ContinuationFrame), more
            block += more.data
            frame.flags |= more.flags
        fields = [(str(name), str(value)) for name, value in self.decoder.decode(block)]
        assert fields[0][0] == ":status", fields
        assert all(name == name.lower() for name, _ in fields)
        status = int(fields[0][1])
        if status < 200:
            answer.interim.append((status, fields[1:]))
        else:
            assert answer.status is None, "one head for each answer"
            answer.status, answer.fields = status, fields[1:]

    def wait(self, condition, what: str) -> None:
        """Takes in frames until `condition` holds."""
        deadline = time.monotonic() + self.timeout
        while not condition():
            assert time.monotonic() < deadline, f"no {what} in time"
            assert self.pump(), f"the connection ended before {what}; GOAWAY: {self.goaways}"

    def answer(self, stream: int) -> Answer:
        """Waits for the end of a stream, its reset counting as one."""
        self.answers.setdefault(stream, Answer())
        self.wait(
            lambda: self.answers[stream].ended or self.answers[stream].reset is not None, f"end of {stream}"
        )
        return self.answers[stream]

    def wait_for_reset_or_end(self, stream: int, ended: bool = False) -> None:
        """Waits until the stream is reset, or `ended`, or the connection ends."""
        while True:
            answer = self.answers.get(stream, Answer())
            if answer.reset is not None or (ended and answer.ended):
                return
            if not self.pump():
                assert self.goaways, "the connection ended without a word"
                return

    def request(
        self,
        path: str = "/ping",
        method: str = "GET",
        fields: FieldList = (),
        body: bytes | None = None,
        authority: str = "test",
    ) -> Answer:
        """One request and its answer; a body within the windows."""
        stream = self.open(path, method, fields, end=body is None, authority=authority)
        if body is not None:
            for start in range(0, len(body), 16384):
                self.data(stream, body[start : start + 16384])
            self.data(stream, b"", end=True)
        return self.answer(stream)

    def ping(self) -> None:
        """Waits until the server has taken in all that was sent."""
        count = len(self.pongs)
        self.send_frame(PingFrame(0, b"in sync?"))
        self.wait(lambda: len(self.pongs) > count, "PING's answer")

    def wait_end(self) -> int | None:
        """Reads to the end of the connection; the error code of the last GOAWAY, None if there was none."""
        try:
            while self.pump():
                pass
        except TimeoutError:
            raise AssertionError("the server has not closed the connection") from None
        return self.goaways[-1].error_code if self.goaways else None

    def expect_alive(self) -> None:
        """The connection still serves."""
        answer = self.request("/ping", fields=[("x-ping", "alive")])
        assert (answer.status, answer.body) == (200, b"pong alive")
