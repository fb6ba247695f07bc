"""Web servers as uwsgi, SCGI and FastCGI know them: raw sockets, every byte written here."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.http_client import Address, Connection, connection

Variables = dict[str, str]

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11
PROTOCOLS = ("uwsgi", "scgi", "fastcgi")


@dataclass
class Answer:
    """What came back."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    # Status line, or what the field Status says.
    line: str

    def field(self, name: str) -> str | None:
        """The field of this name."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)


def variables(target: str = "/", method: str = "GET", **more: str) -> Variables:
    """What nginx says of a request with its stock parameter files."""
    path, _, query = target.partition("?")
    usual = {
        "QUERY_STRING": query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "",
        "REQUEST_URI": target,
        "PATH_INFO": path,
        "DOCUMENT_ROOT": "/usr/share/nginx/html",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "40000",
        "SERVER_PORT": "8080",
        "SERVER_NAME": "gateway.example",
        "HTTP_HOST": "site.example",
    }
    return usual | more


def latin1(text: str) -> bytes:
    """The bytes that a string of PEP 3333 stands for."""
    return text.encode("latin-1")


def uwsgi(values: Variables, body: bytes = b"", modifier1: int = 0) -> bytes:
    """A packet of uwsgi, and the body."""
    told = values | ({"CONTENT_LENGTH": str(len(body))} if body else {})
    pairs = [word for pair in told.items() for word in pair]
    block = b"".join(struct.pack("<H", len(latin1(word))) + latin1(word) for word in pairs)
    return struct.pack("<BHB", modifier1, len(block), 0) + block + body


def scgi(values: Variables, body: bytes = b"") -> bytes:
    """A request of SCGI."""
    told = {"CONTENT_LENGTH": str(len(body)), "SCGI": "1"}
    told |= {name: value for name, value in values.items() if name != "CONTENT_LENGTH"}
    block = b"".join(latin1(name) + b"\0" + latin1(value) + b"\0" for name, value in told.items())
    return b"%d:%s," % (len(block), block) + body


def record(kind: int, content: bytes = b"", identity: int = 1, padding: int = 0) -> bytes:
    """A record of FastCGI."""
    return struct.pack(">BBHHBx", 1, kind, identity, len(content), padding) + content + b"\0" * padding


def pairs(values: Variables) -> bytes:
    """Names and values of FastCGI."""

    def size(word: bytes) -> bytes:
        return bytes([len(word)]) if len(word) < 0x80 else struct.pack(">I", len(word) | 0x8000_0000)

    words = [(latin1(name), latin1(value)) for name, value in values.items()]
    return b"".join(size(name) + size(value) + name + value for name, value in words)


def begin(keep: bool = False, role: int = 1, identity: int = 1) -> bytes:
    """BEGIN_REQUEST."""
    return record(BEGIN, struct.pack(">HB5x", role, keep), identity)


def fastcgi(values: Variables, body: bytes = b"", keep: bool = False, identity: int = 1) -> bytes:
    """A request of FastCGI."""
    told = values | ({"CONTENT_LENGTH": str(len(body))} if body else {})
    blocks = [body[at : at + 32768] for at in range(0, len(body), 32768)]
    return b"".join(
        [
            begin(keep, identity=identity),
            record(PARAMS, pairs(told), identity, padding=5),
            record(PARAMS, b"", identity),
            *(record(STDIN, block, identity, padding=-len(block) % 8) for block in blocks),
            record(STDIN, b"", identity),
        ]
    )


def packed(protocol: str, values: Variables, body: bytes = b"") -> bytes:
    """A request in one of the three."""
    return {"uwsgi": uwsgi, "scgi": scgi, "fastcgi": fastcgi}[protocol](values, body)


class Gateway(Connection):
    """A connection of a web server."""

    def __init__(self, address: Address, protocol: str, timeout: float = 10.0) -> None:
        self.protocol = protocol
        self.socket = connection(address, timeout)
        self.buffer = b""

    def receive(self) -> bool:
        """Waits for more; whether there was any."""
        piece = self.socket.recv(65536)
        self.buffer += piece
        return bool(piece)

    def read_to_end(self) -> bytes:
        """All that comes until the peer closes."""
        while self.receive():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def read_record(self) -> tuple[int, int, bytes] | None:
        """The next record of FastCGI: type, id, content; None at the end of the connection."""
        while True:
            if len(self.buffer) >= 8:
                version, kind, identity, size, padding = struct.unpack(">BBHHB", self.buffer[:7])
                assert version == 1
                if len(self.buffer) >= 8 + size + padding:
                    content = self.buffer[8 : 8 + size]
                    self.buffer = self.buffer[8 + size + padding :]
                    return kind, identity, content
            if not self.receive():
                assert not self.buffer, "the connection ends within a record"
                return None

    def read_response(self, identity: int = 1) -> bytes:
        """The standard output of one request of FastCGI, to its END_REQUEST."""
        output = b""
        while told := self.read_record():
            kind, told_identity, content = told
            assert told_identity == identity
            if kind == STDOUT:
                output += content
            else:
                assert (kind, content) == (END, bytes(8))
                return output
        raise AssertionError(f"no END_REQUEST after {output!r}")

    def read_answer(self) -> Answer:
        """One answer."""
        return parsed(self.read_response() if self.protocol == "fastcgi" else self.read_to_end())

    def request(self, values: Variables, body: bytes = b"") -> Answer:
        """One request and its answer."""
        self.send(packed(self.protocol, values, body))
        return self.read_answer()


def parsed(data: bytes) -> Answer:
    """An answer taken apart: HTTP's where it has a status line, else CGI's."""
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator, data
    lines = head.decode("latin-1").split("\r\n")
    first = lines.pop(0)
    line = first.partition(" ")[2]
    assert first.startswith(("HTTP/1.1 ", "Status: ")), first
    fields = [(name, value.strip()) for name, _, value in (text.partition(":") for text in lines)]
    return Answer(int(line[:3]), fields, body, line)


def ask(address: Address, protocol: str, values: Variables, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    with Gateway(address, protocol) as gateway:
        return gateway.request(values, body)
