"""What a service manager does: listens to what a service says on NOTIFY_SOCKET."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from harness.rendezvous import wait_until


class NotifySocket:
    """A datagram socket like systemd's. Messages are kept with the moment of their arrival."""

    def __init__(self, path: Path | str) -> None:
        """Binds `path`; one that begins with `@` is in the abstract namespace."""
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.path[1:] if self.path.startswith("@") else self.path)
        self.socket.setblocking(False)
        self.messages: list[tuple[float, dict[str, str]]] = []

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self) -> None:
        """Takes what has arrived."""
        while True:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            fields = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            self.messages.append((time.monotonic(), fields))

    def having(self, name: str) -> list[tuple[float, dict[str, str]]]:
        """Messages with this field so far."""
        self.receive()
        return [message for message in self.messages if name in message[1]]

    def wait_for(self, name: str, count: int = 1, patience: float = 10.0) -> dict[str, str]:
        """Waits until `count` messages had this field; the last one."""
        wait_until(lambda: len(self.having(name)) >= count, f"{count} x {name}=", patience)
        return self.having(name)[count - 1][1]
