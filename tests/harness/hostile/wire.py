"""A connection of an attacker on asyncio: what it takes from the kernel is bounded to the byte.

Python's own streams read ahead, with TLS even more so; who wants to read slowly must not use them.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

CONNECT_SECONDS = 10.0


class Wire:
    """One connection, in cleartext or in TLS."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.loop = asyncio.get_running_loop()
        self.tls: ssl.SSLObject | None = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.sending = asyncio.Lock()

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        *,
        alpn: str | None = None,
        receive_buffer: int | None = None,
        segment: int | None = None,
    ) -> Self:
        """Connects; with `alpn` in TLS, for this protocol.

        `receive_buffer` is how much the kernel takes for this side (it doubles it), `segment` the longest
        segment.
        """
        connected = socket.socket()
        connected.setblocking(False)
        wire = cls(connected)
        try:
            if receive_buffer:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if segment:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.wait_for(wire.open(address, alpn), CONNECT_SECONDS)
        except BaseException:
            connected.close()
            raise
        return wire

    async def open(self, address: tuple[str, int], alpn: str | None) -> None:
        """Connects and shakes hands."""
        await self.loop.sock_connect(self.socket, address)
        if alpn:
            self.tls = context(alpn).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            await self.shake_hands(self.tls)

    async def shake_hands(self, tls: ssl.SSLObject) -> None:
        """The TLS handshake."""
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                self.feed(await self.loop.sock_recv(self.socket, 65536))
            finally:
                await self.flush()

    async def flush(self) -> None:
        """Sends what TLS has to say."""
        if data := self.outgoing.read():
            await self.loop.sock_sendall(self.socket, data)

    def feed(self, data: bytes) -> None:
        """Passes on to TLS what has come."""
        if not data:
            raise EOFError
        self.incoming.write(data)

    async def send(self, data: bytes) -> None:
        """Sends all of `data`; waits for as long as the server does not take it."""
        async with self.sending:
            if self.tls is None:
                return await self.loop.sock_sendall(self.socket, data)
            self.tls.write(data)
            await self.flush()

    async def take(self, count: int = 65536) -> bytes:
        """Takes at most `count` bytes from the kernel; what they say, which may be nothing yet in TLS.

        EOFError where the server has ended the connection.
        """
        data = await self.loop.sock_recv(self.socket, count)
        if self.tls is None:
            if not data:
                raise EOFError
            return data
        self.feed(data)
        said = b""
        try:
            while plain := self.tls.read(65536):
                said += plain
        except ssl.SSLWantReadError:
            return said
        except ssl.SSLZeroReturnError:
            pass
        if not said:
            raise EOFError
        return said

    def close(self) -> None:
        """Ends the connection without a word in TLS."""
        self.socket.close()


@functools.cache
def context(alpn: str) -> ssl.SSLContext:
    """What an attacker trusts: everybody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols([alpn])
    return made
