"""A WebSocket client over a raw socket (RFC 6455): every frame is written and read here."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
from typing import TYPE_CHECKING

from harness.http_client import Address, FieldList, request_bytes

if TYPE_CHECKING:
    from typing import Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocketEnd(AssertionError):
    """The connection has ended where a frame was expected."""


def handshake(target: str, key: str, fields: FieldList = ()) -> bytes:
    """The request that begins a WebSocket."""
    asked = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    ]
    return request_bytes(target=target, fields=[*asked, *fields])


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame of a client's, which is masked."""
    mask = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
    repeated = mask * (length // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[:length], "big")
    return head + mask + masked.to_bytes(length, "big")


class WebSocketClient:
    """One connection. Without `ahead` nothing is sent behind the handshake before it is answered."""

    def __init__(
        self,
        address: Address,
        target: str = "/echo",
        fields: FieldList = (),
        context: ssl.SSLContext | None = None,
        before: bytes = b"",
        ahead: bytes = b"",
        timeout: float = 10.0,
    ) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.sendall(before)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(handshake(target, key, fields) + ahead)
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        self.status = int(head.split(" ", 2)[1])
        self.head = head
        if "sec-websocket-accept:" in head.lower():
            accepted = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
            assert f"sec-websocket-accept: {accepted}".lower() in head.lower()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def more(self) -> None:
        """Reads what has come; `WebSocketEnd` at the end."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise WebSocketEnd(f"the end, after {self.buffer!r}")
        self.buffer += data

    def read_until(self, end: bytes) -> bytes:
        """What comes up to `end`, with it."""
        while end not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(end)
        return head + end

    def take(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, payload: bytes | str) -> None:
        """Sends a message."""
        text = isinstance(payload, str)
        self.socket.sendall(frame(TEXT if text else BINARY, payload.encode() if text else payload))

    def receive_frame(self) -> tuple[int, bytes]:
        """The next whole frame: its opcode and its payload."""
        first, second = self.take(2)
        assert first & 0x80 and not second & 0x80, "an unmasked frame that is whole"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        return first & 0x0F, self.take(length)

    def receive(self) -> bytes | str:
        """The next message."""
        opcode, payload = self.receive_frame()
        assert opcode in (TEXT, BINARY), (opcode, payload)
        return payload.decode() if opcode == TEXT else payload

    def echo(self, payload: bytes | str) -> None:
        """Sends a message, which comes back."""
        self.send(payload)
        assert self.receive() == payload

    def expect_close(self) -> int:
        """Reads up to a Close frame, answers it, and expects the end; its code."""
        while True:
            opcode, payload = self.receive_frame()
            if opcode == CLOSE:
                break
        with contextlib.suppress(OSError):
            self.socket.sendall(frame(CLOSE, payload[:2]))
        self.expect_end()
        return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def expect_end(self) -> None:
        """Expects the end of the connection, and nothing before it."""
        try:
            self.more()
        except (WebSocketEnd, ConnectionResetError):
            return
        raise AssertionError(f"instead of the end came {self.buffer!r}")

    def close(self, code: int = 1000) -> int:
        """Closes as the protocol has it; the code that comes back."""
        self.socket.sendall(frame(CLOSE, struct.pack("!H", code)))
        opcode, payload = self.receive_frame()
        assert opcode == CLOSE, (opcode, payload)
        self.expect_end()
        return struct.unpack("!H", payload[:2])[0]

    def vanish(self) -> None:
        """Resets the connection, as a client does whose machine has been restarted."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
