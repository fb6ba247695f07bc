"""Open-loop load: requests are due at a fixed rate, whatever the server does, and each one's fate is kept.

Half of the requests, or another share, open a connection of their own and say `Connection: close`; the others
go over connections that are kept. A kept connection that the server closes while it is idle, its last answer
not having said so, is counted: a client may send into it at that very moment.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from harness.http_client import Address, connection
from harness.rendezvous import wait_until

HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.DOTALL)
LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nConnection: *close", re.IGNORECASE)


@dataclass
class Outcome:
    """What became of one request. `seconds` count from when it was due."""

    number: int
    is_new: bool
    status: int | None = None
    body: bytes = b""
    seconds: float = 0.0
    error: str | None = None


@dataclass
class Exchange:
    """A request that has been sent and not yet answered."""

    client: socket.socket
    outcome: Outcome
    due: float
    received: bytes = b""


class Load:
    """Runs on a thread of its own while its `with` block lasts; the outcomes are complete after it."""

    def __init__(
        self,
        address: Address,
        rate: float,
        target: Callable[[int], str] = lambda number: "/ping",
        *,
        kept: int = 16,
        new_every: int = 2,
        patience: float = 15.0,
    ) -> None:
        """Sends `rate` requests a second for `target(number)`.

        Every `new_every`th goes over a connection of its own, 0 means none; the others find their way over at
        most `kept` connections. What is not answered after `patience` seconds has failed.
        """
        self.address, self.rate, self.target = address, rate, target
        self.kept, self.new_every, self.patience = kept, new_every, patience
        self.poller = select.epoll()
        self.busy: dict[int, Exchange] = {}
        self.idle: dict[int, socket.socket] = {}
        self.waiting: deque[tuple[int, float]] = deque()
        self.outcomes: list[Outcome] = []
        self.unannounced = 0
        self.sent = 0
        self.stopping = threading.Event()
        self.crash: BaseException | None = None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Load:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(self.patience + 5)
        assert not self.thread.is_alive(), "the load does not end"
        if self.crash:
            raise self.crash

    def wait_answered(self, count: int) -> None:
        """Waits until so many more requests have been answered, or have failed."""
        enough = self.ended() + count
        wait_until(lambda: self.ended() >= enough or self.crash, f"{count} more requests")

    def ended(self) -> int:
        """How many requests have been answered, or have failed."""
        return sum(1 for outcome in list(self.outcomes) if outcome.status or outcome.error)

    # What it came to

    @property
    def failed(self) -> list[Outcome]:
        """The requests that were not answered 200."""
        return [outcome for outcome in self.outcomes if outcome.status != 200]

    def told(self) -> str:
        """In words, for a failed assertion."""
        kinds = Counter((outcome.error or outcome.status, outcome.is_new) for outcome in self.failed)
        parts = [f"{count} x {what} ({'new' if new else 'kept'})" for (what, new), count in kinds.items()]
        return f"{len(self.outcomes)} requests; closed unannounced: {self.unannounced}; failed: {parts}"

    def assert_lossless(self) -> None:
        """Every request was answered 200, and no kept connection was closed without an announcement."""
        assert self.outcomes
        assert not self.failed, self.told()
        assert self.unannounced == 0, self.told()

    def answered_seconds(self) -> list[float]:
        """Seconds that each request took which was answered 200, in ascending order."""
        return sorted(outcome.seconds for outcome in self.outcomes if outcome.status == 200)

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answered requests was answered."""
        seconds = self.answered_seconds()
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))]

    # The thread

    def run(self) -> None:
        """Sends until told to stop, then waits for the answers that are still missing."""
        try:
            self.send_at_rate()
            deadline = time.monotonic() + self.patience
            while (self.busy or self.waiting) and time.monotonic() < deadline:
                self.poll(0.02)
            for exchange in list(self.busy.values()):
                self.end(exchange, "no answer")
        except BaseException as crash:
            self.crash = crash
        finally:
            for client in self.idle.values():
                client.close()
            self.poller.close()

    def send_at_rate(self) -> None:
        start = time.monotonic()
        while not self.stopping.is_set():
            now = time.monotonic()
            while (due := start + self.sent / self.rate) <= now:
                self.request(self.sent, due)
                self.sent += 1
            self.poll(max(0.0, min(due - time.monotonic(), 0.02)))

    def request(self, number: int, due: float) -> None:
        if self.new_every and number % self.new_every == 0:
            self.send(None, number, due, close=True)
        elif self.idle:
            self.send(self.idle.pop(next(iter(self.idle))), number, due)
        elif sum(not exchange.outcome.is_new for exchange in self.busy.values()) < self.kept:
            self.send(None, number, due)
        else:
            self.waiting.append((number, due))

    def send(self, client: socket.socket | None, number: int, due: float, close: bool = False) -> None:
        outcome = Outcome(number, is_new=close)
        self.outcomes.append(outcome)
        try:
            if client is None:
                client = self.connect()
                self.poller.register(client, select.EPOLLIN)
            closing = "Connection: close\r\n" if close else ""
            client.send(f"GET {self.target(number)} HTTP/1.1\r\nHost: test\r\n{closing}\r\n".encode())
        except OSError as error:
            outcome.error = type(error).__name__
            if client:
                client.close()
            return
        self.busy[client.fileno()] = Exchange(client, outcome, due)

    def connect(self) -> socket.socket:
        client = connection(self.address, self.patience)
        client.setblocking(False)
        return client

    def poll(self, seconds: float) -> None:
        for descriptor, _ in self.poller.poll(seconds):
            if descriptor in self.busy:
                self.receive(self.busy[descriptor])
            elif descriptor in self.idle:
                self.unannounced += 1
                self.idle.pop(descriptor).close()
        now = time.monotonic()
        for exchange in [each for each in self.busy.values() if now - each.due > self.patience]:
            self.end(exchange, "no answer")
        while self.waiting and self.idle:
            number, due = self.waiting.popleft()
            self.send(self.idle.pop(next(iter(self.idle))), number, due)

    def receive(self, exchange: Exchange) -> None:
        try:
            data = exchange.client.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            return self.end(exchange, type(error).__name__)
        if not data:
            return self.end(exchange, "closed within an answer" if exchange.received else "closed")
        exchange.received += data
        head = HEAD.match(exchange.received)
        length = head and LENGTH.search(head[0])
        if head and not length:
            return self.end(exchange, f"no Content-Length: {head[0]!r}")
        if head and length and len(exchange.received) >= head.end() + int(length[1]):
            exchange.outcome.status = int(head[1])
            exchange.outcome.body = exchange.received[head.end() :]
            self.end(exchange, None, keep=not CLOSE.search(head[0]))
        return None

    def end(self, exchange: Exchange, error: str | None, keep: bool = False) -> None:
        del self.busy[exchange.client.fileno()]
        exchange.outcome.error = error
        exchange.outcome.seconds = time.monotonic() - exchange.due
        if keep and not error:
            self.idle[exchange.client.fileno()] = exchange.client
        else:
            exchange.client.close()
