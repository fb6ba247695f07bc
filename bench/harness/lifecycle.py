"""What becomes of requests while workers come and go, and how several workers share the work.

The load is open-loop: requests are due at a fixed rate, whatever the server does, and each latency counts
from the moment at which its request was due.
"""

import contextlib
import os
import random
import select
import signal
import socket
import time
from collections import Counter, deque

from .http import ResponseReader, get
from .load import percentile
from .process import stat_fields

LIFECYCLE_RATE = 500
LIFECYCLE_SECONDS_MIN = 12
RELOAD_EVERY_SECONDS = 2.0
KEPT_CONNECTIONS = 32
ANSWER_TIMEOUT_SECONDS = 10.0
# Mean of 10.95 ms, 8 threads: 731 requests/s are 100 %.
BIMODAL_RATE = 511
BIMODAL_SECONDS_MIN = 15
SLOW_SHARE = 0.05
SEED = 2026
PRELOAD_REQUESTS = 10_000
EVEN_CONNECTIONS = 5_000


class OpenLoop:
    """Sends requests when they are due, at random moments as independent clients do (Poisson,
    the same moments for every server): every other one on a new connection, the rest on kept ones.

    `path_of(number)` gives the path of a request. Without `new_connections` all go over `kept` connections,
    and one that finds them all busy waits for its turn.
    """

    def __init__(self, port, kept, path_of, *, new_connections=True):
        self.port, self.kept, self.path_of, self.new_connections = port, kept, path_of, new_connections
        self.poller = select.epoll()
        self.busy = {}  # descriptor: (socket, reader, due, is_new, sent, number)
        self.idle = deque()
        self.idle_by_descriptor = {}
        self.waiting = deque()  # (number, due)
        self.latencies, self.reasons = [], Counter()  # (number, seconds)
        self.unannounced = 0

    def run(self, rate, seconds, every=None, action=None):
        """Keep the rate for `seconds`; call `action` every `every` seconds meanwhile."""
        start = time.perf_counter()
        end, number, next_action = start + seconds, 0, start + every if every else float("inf")
        chance = random.Random(SEED)
        due = start
        while (now := time.perf_counter()) < end:
            while due <= now:
                self._request(number, due)
                number += 1
                due += chance.expovariate(rate)
            if now >= next_action:
                action()
                next_action += every
            self._poll(max(0.0, min(due, next_action, end) - time.perf_counter()))
            self._expire(time.perf_counter())
        deadline = time.perf_counter() + ANSWER_TIMEOUT_SECONDS
        while (self.busy or self.waiting) and time.perf_counter() < deadline:
            self._poll(0.05)
        self.reasons["no answer"] += len(self.busy) + len(self.waiting)
        return number

    def close(self):
        for client, *_ in self.busy.values():
            client.close()
        for client in self.idle_by_descriptor.values():
            client.close()
        self.poller.close()

    def figures(self, requests):
        failed = sum(self.reasons.values())
        latencies = sorted(latency for _, latency in self.latencies)
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common() if count)
        return {
            "requests": requests,
            "failed": failed,
            "errors": failed,
            "unannounced": self.unannounced,
            "reasons": reasons or "-",
            "p50": percentile(latencies, 0.5),
            "p90": percentile(latencies, 0.9),
            "p99": percentile(latencies, 0.99),
            "worst": latencies[-1] if latencies else None,
        }

    def _request(self, number, due):
        if self.new_connections and number % 2:
            self._send_on(None, number, due)
            return
        if self.idle:
            self._send_on(self._take_idle(), number, due)
        elif len(self.busy) < self.kept or self.new_connections:
            self._send_on(None, number, due)
        else:
            self.waiting.append((number, due))

    def _take_idle(self):
        client = self.idle.popleft()
        del self.idle_by_descriptor[client.fileno()]
        return client

    def _send_on(self, client, number, due):
        is_new = client is None
        close = is_new and self.new_connections and number % 2 == 1
        try:
            if is_new:
                client = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_TIMEOUT_SECONDS)
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.poller.register(client, select.EPOLLIN)
            client.send(get(self.path_of(number), close=close))
        except OSError as error:
            self.reasons["not connected" if is_new else f"{type(error).__name__} on a kept connection"] += 1
            if client is not None:
                self._forget(client)
            return
        self.busy[client.fileno()] = (client, ResponseReader(), due, is_new, time.perf_counter(), number)

    def _forget(self, client):
        with contextlib.suppress(OSError, ValueError):
            self.poller.unregister(client)
        client.close()

    def _poll(self, seconds):
        for descriptor, _ in self.poller.poll(seconds):
            if descriptor in self.idle_by_descriptor:
                client = self.idle_by_descriptor.pop(descriptor)
                self.idle.remove(client)
                self.unannounced += 1  # Its last answer did not say that it would be closed.
                self._forget(client)
            elif descriptor in self.busy:
                self._receive(descriptor)
        while self.waiting and (self.idle or len(self.busy) < self.kept):
            number, due = self.waiting.popleft()
            self._send_on(self._take_idle() if self.idle else None, number, due)

    def _receive(self, descriptor):
        client, reader, due, is_new, _, number = self.busy[descriptor]
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            data, reason = b"", type(error).__name__
        else:
            reason = "closed without an answer"
        if data and not reader.feed(data):
            return
        del self.busy[descriptor]
        if not data:
            kind = "new" if is_new else "kept"
            self.reasons[f"{reason} on a {kind} connection"] += 1
            self._forget(client)
            return
        if reader.status != 200:
            self.reasons[f"status {reader.status}"] += 1
        else:
            self.latencies.append((number, time.perf_counter() - due))
        if reader.keep_alive and len(self.idle) < self.kept:
            self.idle.append(client)
            self.idle_by_descriptor[descriptor] = client
        else:
            self._forget(client)

    def _expire(self, now):
        for descriptor in [fd for fd, entry in self.busy.items() if now - entry[4] > ANSWER_TIMEOUT_SECONDS]:
            client = self.busy.pop(descriptor)[0]
            self.reasons["timed out"] += 1
            self._forget(client)


def children_seen(server, seen):
    seen.update(server.pids())


def measure_reload(server, workload, seconds):
    """SIGHUP every two seconds."""
    return measure_lifecycle(server, seconds, lambda: os.kill(server.process.pid, signal.SIGHUP))


def measure_recycle(server, workload, seconds):
    """The server replaces its workers by itself."""
    return measure_lifecycle(server, seconds, lambda: None)


def measure_lifecycle(server, seconds, action):
    seen = set(server.pids())
    at_start = len(seen)

    def act():
        action()
        children_seen(server, seen)

    load = OpenLoop(server.port, KEPT_CONNECTIONS, lambda number: "/")
    requests = load.run(LIFECYCLE_RATE, max(seconds, LIFECYCLE_SECONDS_MIN), RELOAD_EVERY_SECONDS, act)
    children_seen(server, seen)
    load.close()
    return load.figures(requests) | {"replaced": len(seen) - at_start}


def measure_bimodal(server, workload, seconds):
    """Every twentieth request waits 200 ms; which connection it goes over is as it comes."""
    slow = lambda number: random.Random(number).random() < SLOW_SHARE  # noqa: E731
    path = lambda number: "/slow" if slow(number) else "/"  # noqa: E731
    load = OpenLoop(server.port, workload.connections, path, new_connections=False)
    seconds = max(seconds, BIMODAL_SECONDS_MIN)
    requests = load.run(BIMODAL_RATE, seconds)
    load.close()
    fast = sorted(latency for number, latency in load.latencies if not slow(number))
    return load.figures(requests) | {
        "rate": len(load.latencies) / seconds,
        "fast_p50": percentile(fast, 0.5),
        "fast_p99": percentile(fast, 0.99),
    }


def measure_preload(server, workload, seconds):
    """10,000 requests, then the memory of all processes over that of the largest one."""
    load = OpenLoop(server.port, KEPT_CONNECTIONS, lambda number: "/")
    requests = load.run(1000, PRELOAD_REQUESTS / 1000)
    load.close()
    largest = max(
        server._status_bytes(pid, "smaps_rollup", "Rss") for pid in server.pids() if stat_fields(pid)
    )
    return load.figures(requests) | {"pss": server.memory(), "share": server.memory() / largest}


def measure_evenness(server, workload, seconds):
    """Which process answers each of 5,000 new connections, of which up to 16 are open at once."""
    answered = Counter()
    errors = 0
    for _ in range(EVEN_CONNECTIONS // 16):
        clients = []
        for _ in range(16):
            try:
                client = socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_TIMEOUT_SECONDS)
                client.sendall(get("/", close=True))
                clients.append(client)
            except OSError:
                errors += 1
        for client in clients:
            data = b""
            with contextlib.suppress(OSError), client:
                while block := client.recv(4096):
                    data += block
            pid = data[-10:].strip()
            if pid.isdigit():
                answered[pid] += 1
            else:
                errors += 1
    total = sum(answered.values())
    busiest = max(answered.values(), default=0)
    ratio = busiest * workload.workers / total if total else None
    return {"max_over_mean": ratio, "requests": total, "errors": errors}
