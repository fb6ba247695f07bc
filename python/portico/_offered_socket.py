"""`environ["gunicorn.socket"]`: a socket that takes its connection from the server when it is first used."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

_taking = threading.Lock()


class Socket(socket.socket):
    """The connection of a request, taken over by the application."""

    __slots__ = ("_take",)

    # The connection lives as long as somebody has this.
    _take: Callable[[], int] | None

    def dup(self) -> Socket:
        """Another socket of the same connection, which lives as long as one of them is open."""
        other = super().dup()
        other._take = self._take
        return other

    def _real_close(self, *arguments: Any) -> None:
        """What `close` comes to when no file of the socket's is open any more."""
        super()._real_close(*arguments)  # type: ignore[misc]
        self._take = None


class OfferedSocket(Socket):
    """The same before it is used.

    Looking at it takes nothing: what prints or compares an environ asks for names with two underscores.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):
            _use(self)
        return socket.socket.__getattribute__(self, name)

    def __repr__(self) -> str:
        return f"<{__name__}.{type(self).__name__}, not used>"


def offered(take: Callable[[], int]) -> Socket:
    """A socket whose descriptor `take` returns, once it is needed."""
    offer = OfferedSocket.__new__(OfferedSocket)
    object.__setattr__(offer, "_take", take)
    return offer


def _use(offer: Socket) -> None:
    with _taking:
        if type(offer) is not OfferedSocket:
            return  # Another thread has been faster.
        descriptor = socket.socket.__getattribute__(offer, "_take")()
        socket.socket.__init__(offer, fileno=descriptor)
        offer.__class__ = Socket  # type: ignore[assignment]
