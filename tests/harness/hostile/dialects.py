"""How an attacker asks and hears in each protocol: `Http1` for one request, `Http2` for many at once."""

from __future__ import annotations

import asyncio
import re
import struct
from collections import Counter
from collections.abc import Sequence

import hpack

from harness.hostile.wire import Wire
from harness.http2_client import PREFACE
from harness.http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    window_update,
)

INITIAL_WINDOW_SIZE = 4
WINDOW_DEFAULT, WINDOW_MAX = 65_535, (1 << 31) - 1
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)
CONTENT_LENGTH = re.compile(rb"(?:^|\r\n)Content-Length: *(\d+)", re.IGNORECASE)


class Http1:
    """A connection of HTTP/1.1 with one response on it; what came is counted, not kept."""

    def __init__(self, wire: Wire, tally: Counter[str]) -> None:
        self.wire, self.tally = wire, tally
        self.head = b""
        self.length: int | None = None
        self.received = 0

    async def greet(self) -> None:
        """HTTP/1 has no greeting."""

    async def settle(self) -> None:
        """Nor anything to agree on."""

    async def ask(self, targets: Sequence[str]) -> None:
        """GET of the first target: one request a connection."""
        await self.wire.send(f"GET {targets[0]} HTTP/1.1\r\nHost: test\r\n\r\n".encode())

    async def begin_body(self, length: int, target: str) -> int:
        """POST of so many bytes, which are to follow; the number of its stream."""
        head = f"POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        await self.wire.send(head.encode())
        return 0

    async def send_body(self, stream: int, data: bytes) -> None:
        """A part of the body."""
        await self.wire.send(data)

    async def take(self, count: int = 65536) -> int:
        """Takes at most `count` bytes from the kernel; how many there were, without TLS."""
        data = await self.wire.take(count)
        if self.length is not None:
            self.received += len(data)
            return len(data)
        self.head += data
        if match := STATUS_LINE.match(self.head):
            self.tally[f"status {int(match[1])}"] += 1
            length = CONTENT_LENGTH.search(match[2])
            self.length = int(length[1]) if length else 0
            self.received = len(self.head) - match.end()
        return len(data)

    async def grant(self, count: int) -> None:
        """TCP does so by itself."""

    @property
    def is_whole(self) -> bool:
        """Whether all that was announced has come."""
        return self.length is not None and self.received >= self.length


class Http2:
    """A connection of HTTP/2: acknowledges SETTINGS and PING as it reads them, widens no window unasked."""

    def __init__(
        self,
        wire: Wire,
        tally: Counter[str],
        initial_window: int = WINDOW_DEFAULT,
        connection_window: int = WINDOW_DEFAULT,
    ) -> None:
        self.wire, self.tally = wire, tally
        self.initial_window, self.connection_window = initial_window, connection_window
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.streams = 0
        self.open_streams: set[int] = set()
        self.whole = 0
        self.is_settled = False
        self.window = WINDOW_DEFAULT
        self.window_grew = asyncio.Event()

    async def greet(self) -> None:
        """Preface, SETTINGS, and the connection's window."""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, self.initial_window)
        hello = PREFACE + frame(SETTINGS, 0, 0, settings)
        if self.connection_window > WINDOW_DEFAULT:
            hello += window_update(0, self.connection_window - WINDOW_DEFAULT)
        await self.wire.send(hello)

    async def settle(self) -> None:
        """Waits for the server's SETTINGS and acknowledges them."""
        while not self.is_settled:
            await self.take()

    def request(self, path: str, method: str = "GET", end: bool = True) -> bytes:
        """HEADERS of a new stream."""
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
        return self.headers(self.encoder.encode(fields), end)

    def headers(self, block: bytes, end: bool = True) -> bytes:
        """HEADERS of a new stream, with this header block."""
        stream = 1 + 2 * self.streams
        self.streams += 1
        self.open_streams.add(stream)
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    async def ask(self, targets: Sequence[str]) -> None:
        """GET of each target, at once."""
        await self.wire.send(b"".join(self.request(target) for target in targets))

    async def take(self, count: int = 65536) -> int:
        """Takes at most `count` bytes from the kernel; how many there were, without TLS."""
        data = await self.wire.take(count)
        self.buffer += data
        replies, start = b"", 0
        while len(self.buffer) - start >= 9:
            length = int.from_bytes(self.buffer[start : start + 3], "big")
            if len(self.buffer) - start < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self.buffer, start + 3)
            replies += self.hear(kind, flags, stream, self.buffer[start + 9 : start + 9 + length])
            start += 9 + length
        self.buffer = self.buffer[start:]
        if replies:
            await self.wire.send(replies)
        return len(data)

    def hear(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        """Takes in one frame; what is to be replied."""
        if kind == HEADERS:
            fields = dict(self.decoder.decode(payload))
            if ":status" in fields:
                self.tally[f"status {fields[':status']}"] += 1
        elif kind == RST_STREAM:
            self.tally["stream reset"] += 1
            self.open_streams.discard(stream)
        elif kind == GOAWAY:
            self.tally[f"goaway {int.from_bytes(payload[4:8], 'big')}"] += 1
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload[:4], "big")
            self.window_grew.set()
        elif kind == SETTINGS and not flags & ACK:
            self.is_settled = True
            return frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, payload)
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self.open_streams.discard(stream)
            self.whole += 1
        return b""

    async def begin_body(self, length: int, target: str) -> int:
        """POST on a new stream, its body to follow; the number of the stream."""
        await self.wire.send(self.request(target, "POST", end=False))
        return 2 * self.streams - 1

    async def send_body(self, stream: int, data: bytes) -> None:
        """DATA within the connection's window; that of the stream must be large enough."""
        for start in range(0, len(data), 16384):
            piece = data[start : start + 16384]
            while self.window < len(piece):
                self.window_grew.clear()
                await self.window_grew.wait()
            self.window -= len(piece)
            await self.wire.send(frame(DATA, 0, stream, piece))

    async def grant(self, count: int) -> None:
        """Gives back the window of what was read, on the connection and on its only stream.

        Frames' heads count as well, which gives a little more than was taken.
        """
        await self.wire.send(window_update(0, count) + window_update(1, count))

    @property
    def is_whole(self) -> bool:
        """Whether each stream ended in order."""
        return self.streams > 0 and self.whole == self.streams
