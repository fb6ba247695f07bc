"""Receives what is sent to statsd and syslog."""

from __future__ import annotations

import re
import socket
import threading

from harness.rendezvous import wait_until


class Receiver:
    """A socket for datagrams that keeps what comes, each as text."""

    def __init__(self, path: str | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(path or ("127.0.0.1", 0))
        self.datagrams: list[str] = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    @property
    def lines(self) -> list[str]:
        return [line for datagram in list(self.datagrams) for line in datagram.split("\n")]

    def run(self) -> None:
        while True:
            self.datagrams.append(self.socket.recv(65536).decode())

    def expect(self, pattern: str, count: int = 1) -> list[re.Match[str]]:
        """The lines that match, once there are so many."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines if (match := re.fullmatch(pattern, line))]

        wait_until(lambda: len(found()) >= count, f"{count} x {pattern} in {self.lines}", 10)
        return found()
