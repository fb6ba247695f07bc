"""A raw-socket HTTP/1 client that refuses whatever a server must not send.

It is the suite's judge of framing: every answer is parsed by the letter of RFC 9112, surplus bytes are
noticed, and nothing is repaired. It deliberately has no redirects, no pool, no retries.
"""

from __future__ import annotations

import email.utils
import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
FIELD_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

Address = tuple[str, int] | str
FieldList = Sequence[tuple[str, str]]


class FramingError(AssertionError):
    """The server sent bytes that are not a well-formed answer at this place."""


@dataclass
class Response:
    """One answer. `fields` are in order of arrival; `chunks` is None unless the body came chunked."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] | None = None
    interim: list[Response] = field(default_factory=list)
    close_delimited: bool = False

    def all(self, name: str) -> list[str]:
        """Values of every field of this name, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """Value of the only field of this name; None if there is none. More than one is a failure."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Whether the server announced that it closes the connection after this answer."""
        return "close" in [
            token.strip().lower() for value in self.all("Connection") for token in value.split(",")
        ]


def request_bytes(
    method: str = "GET",
    target: str = "/",
    fields: FieldList = (),
    body: bytes | None = None,
    version: str = "HTTP/1.1",
    host: str | None = "test",
) -> bytes:
    """A request's bytes: Host first, then `fields`, then Content-Length where there is a body."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(blocks: Iterable[bytes]) -> bytes:
    """A body in chunked transfer coding, one chunk a block, without trailers."""
    return b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks if block) + b"0\r\n\r\n"


def connection(
    address: Address,
    timeout: float = 10.0,
    receive_buffer: int | None = None,
    source: str | None = None,
) -> socket.socket:
    """A connected socket; from the address `source` if it is given."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    if not isinstance(address, str) and ":" in address[0]:
        family = socket.AF_INET6
    connected = socket.socket(family, socket.SOCK_STREAM)
    connected.settimeout(timeout)
    if receive_buffer is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    if source is not None:
        connected.bind((source, 0))
    try:
        connected.connect(address)
    except OSError:
        connected.close()
        raise
    return connected


class Connection:
    """One connection, closed at the end of a `with`."""

    socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Sends all of `data`."""
        self.socket.sendall(data)

    def close(self) -> None:
        """Ends the connection with FIN."""
        self.socket.close()


class Client(Connection):
    """One connection. Every wait is bounded by `timeout` seconds."""

    def __init__(
        self,
        address: Address,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        """Connects, from the address `source` if it is given."""
        self.socket = connection(address, timeout, receive_buffer, source)
        if self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    # Sending

    def send_until_refused(self, data: bytes) -> None:
        """Sends `data`; a server that has answered and closed meanwhile is no failure."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            pass

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        fields: FieldList = (),
        body: bytes | None = None,
        version: str = "HTTP/1.1",
    ) -> Response:
        """Sends a request and reads its answer."""
        self.send(request_bytes(method, target, fields, body, version))
        return self.read_response(method)

    def half_close(self) -> None:
        """Sends FIN and goes on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Receiving

    def receive(self) -> bytes:
        """The next bytes from the socket into the buffer; empty at the end."""
        data = self.socket.recv(65536)
        self.buffer += data
        return data

    def read_exactly(self, count: int) -> bytes:
        """`count` bytes; FramingError if the connection ends before."""
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            data = self.socket.recv(min(1 << 20, count - have))
            if not data:
                raise FramingError(f"connection ended after {have} of {count} bytes")
            parts.append(data)
            have += len(data)
        joined = b"".join(parts)
        self.buffer = joined[count:]
        return joined[:count]

    def read_line(self) -> bytes:
        """A line without its CRLF; any bare CR or LF is a FramingError."""
        while b"\n" not in self.buffer:
            if not self.receive():
                raise FramingError(f"connection ended within a line: {self.buffer!r}")
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise FramingError(f"line does not end in exactly CRLF: {line!r}")
        return line[:-1]

    def read_head(self) -> Response:
        """Status line and fields of one answer, interim or final."""
        line = self.read_line()
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise FramingError(f"not a status line: {line!r}")
        fields = []
        while line := self.read_line():
            name, colon, value = line.partition(b":")
            value = value.strip(b" \t")
            if not colon or not TOKEN.fullmatch(name) or not FIELD_VALUE.fullmatch(value):
                raise FramingError(f"not a field line: {line!r}")
            fields.append((name.decode("latin-1"), value.decode("latin-1")))
        head = Response(int(match[1]), match[2].decode("latin-1"), fields)
        check_head(head)
        return head

    def read_response(self, method: str = "GET") -> Response:
        """One whole final answer to a request of this method, with the interim ones before it."""
        interim = []
        while (response := self.read_head()).status < 200:
            interim.append(response)
        response.interim = interim
        if method == "HEAD" or response.status in (204, 304):
            return response
        length = response.get("Content-Length")
        if response.get("Transfer-Encoding") is not None:
            response.chunks = list(self.read_chunks())
            response.body = b"".join(response.chunks)
        elif length is not None:
            response.body = self.read_exactly(int(length))
        else:
            if not response.closes:
                raise FramingError("an answer without length neither says chunked nor announces the close")
            response.close_delimited = True
            response.body = self.read_to_end()
        return response

    def read_chunk(self) -> bytes:
        """The next chunk of a chunked body; empty for the last one, whose trailer section must be empty."""
        line = self.read_line()
        if not CHUNK_SIZE.fullmatch(line):
            raise FramingError(f"not a chunk size: {line!r}")
        data = self.read_exactly(int(line, 16))
        if self.read_line() != b"":
            raise FramingError("chunk data is not followed by CRLF")
        return data

    def read_chunks(self) -> Iterable[bytes]:
        """All chunks up to the last."""
        while chunk := self.read_chunk():
            yield chunk

    def read_to_end(self) -> bytes:
        """Everything until the server ends the connection in order."""
        while self.receive():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def expect_end(self, reset_is_end: bool = False) -> None:
        """The server ends the connection now, and sends nothing before it."""
        try:
            surplus = self.read_to_end()
        except ConnectionResetError:
            assert reset_is_end, "the server reset the connection"
            return
        assert surplus == b"", f"surplus bytes: {surplus[:200]!r}"

    def expect_truncated(self, method: str = "GET") -> None:
        """The answer that follows ends before its end: the connection is cut within it."""
        try:
            response = self.read_response(method)
        except (FramingError, ConnectionResetError) as error:
            assert isinstance(error, ConnectionResetError) or "connection ended" in str(error), error
            return
        raise AssertionError(f"the answer looks complete: {response}")

    def expect_in_sync(self, target: str = "/ping") -> None:
        """The connection is kept and exactly at a message boundary: a further request gets its own answer."""
        token = f"{time.monotonic_ns():x}"
        response = self.request("GET", target, [("X-Ping", token)])
        assert (response.status, response.body) == (200, f"pong {token}".encode()), response

    def expect_silence(self, seconds: float) -> None:
        """Nothing arrives for so long, not even the end."""
        assert self.buffer == b"", f"bytes nobody asked for: {self.buffer[:200]!r}"
        readable, _, _ = select.select([self.socket], [], [], seconds)
        assert not readable, f"not silent: {self.socket.recv(200)!r}"


def check_head(head: Response) -> None:
    """RFC 9110 and 9112 on what may stand in an answer's head."""
    length, coding = head.all("Content-Length"), head.all("Transfer-Encoding")
    if len(length) > 1 or (length and not re.fullmatch("[0-9]+", length[0])):
        raise FramingError(f"Content-Length: {length}")
    if coding and (coding != ["chunked"] or length):
        raise FramingError(f"Transfer-Encoding: {coding}, Content-Length: {length}")
    if (head.status < 200 or head.status == 204) and (length or coding):
        raise FramingError(f"{head.status} with framing fields: {head.fields}")
    dates = head.all("Date")
    if len(dates) > 1 or (200 <= head.status < 500 and not dates):
        raise FramingError(f"Date: {dates}")
    for date in dates:
        email.utils.parsedate_to_datetime(date)


def expect_refusal(address: Address, data: bytes, status: int, method: str = "GET") -> Response:
    """These bytes are answered with this status alone, and the connection is closed in order."""
    with Client(address) as client:
        client.send_until_refused(data)
        response = client.read_response(method)
        assert response.status == status, response
        assert response.closes
        client.expect_end()
        return response
