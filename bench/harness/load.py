"""Closed-loop load: wrk where it can do the workload, a small epoll client of our own where it cannot."""

import os
import resource
import select
import socket
import subprocess
import time

from .http import ResponseReader, get
from .process import BENCH, LOAD_CORE, pin_and_die_with_parent

WARM_UP_SECONDS = 0.5
REPLY_TIMEOUT_SECONDS = 2.0
BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://www.example.com/catalogue/items?page=3&order=newest",
    "Cookie": "sessionid=4k1v7q2m8s0d3f6g9h5j; csrftoken=Zk3Qx7Lw9Tn2Vb5Yc8Mf1Rj4Hp6Gd0Ss; theme=dark",
    "DNT": "1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Cache-Control": "max-age=0",
}


class LoadError(Exception):
    """The load generator itself failed."""


def percentile(ordered, fraction):
    """The nearest-rank percentile of sorted values; None if there are none."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def run_wrk(port, workload, seconds):
    """Run wrk once and return its figures as a dictionary of numbers."""
    headers = [word for name, value in workload.headers.items() for word in ("-H", f"{name}: {value}")]
    command = [
        "wrk", "-t1", f"-c{workload.connections}", f"-d{seconds:g}s", "--latency", "--timeout",
        f"{REPLY_TIMEOUT_SECONDS:g}s", "-s", f"lua/{workload.script}", *headers,
        f"http://127.0.0.1:{port}{workload.path}",
    ]  # fmt: skip
    return wrk_figures(run_client(command, seconds))


def run_client(command, seconds, cores=(LOAD_CORE,)):
    """Run a load generator on its cores for about so many seconds; all that it has said."""
    done = subprocess.run(
        command,
        check=False,
        cwd=BENCH,
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        preexec_fn=lambda: pin_and_die_with_parent(*cores),
    )
    return done.stdout + done.stderr


def wrk_figures(said):
    """The figures that lua/report.lua has printed."""
    for line in said.splitlines():
        if line.startswith("BENCH "):
            return {name: float(value) for name, value in (word.split("=") for word in line.split()[1:])}
    raise LoadError(f"wrk said: {said[-400:].strip()}")


def warm_up(port, workload):
    """Bring the server to its working state; wrk takes whole seconds only, so our client does it."""
    client = ClosedLoop(port, workload.connections, lambda turn: get(workload.path))
    client.run(WARM_UP_SECONDS)
    client.close()


def measure_wrk(server, workload, seconds):
    """One sample: CPU of the server around a whole wrk run, divided by the requests that wrk saw answered."""
    kept, ends_at_close = connections_kept(server.port, workload)
    warm_up(server.port, workload)
    load_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_before = server.cpu_seconds()
    figures = run_wrk(server.port, workload, seconds)
    cpu = server.cpu_seconds() - cpu_before
    load_after = resource.getrusage(resource.RUSAGE_CHILDREN)
    requests = int(figures["requests"])
    missing = max(0, round(requests * workload.body_bytes - figures["bytes"]))
    if ends_at_close:
        # wrk calls the end of each such answer a read error; bytes that lack are counted all the same.
        figures["read"] = max(0.0, figures["read"] - requests)
    failed = int(sum(figures[key] for key in ("status", "connect", "read", "write", "timeout")))
    return {
        "requests": requests,
        "cpu_seconds": cpu,
        "cpu_microseconds": cpu * 1e6 / requests if requests else None,
        "rate": requests * 1e6 / figures["microseconds"],
        "p50": figures["p50"] / 1e6,
        "p99": figures["p99"] / 1e6,
        "errors": failed + (missing and 1),
        "bytes_missing": missing,
        "kept": kept,
        "pss": server.memory(),
        "load_cpu_seconds": sum(load_after[:2]) - sum(load_before[:2]),
    }


def connections_kept(port, workload):
    """How many of the workload's connections, all open at once, are answered and stay open; and whether
    answers end with the connection.

    A closed-loop generator hides the ones that a server never answers: the rest go the faster.
    """
    client = ClosedLoop(port, workload.connections, lambda turn: get(workload.path))
    kept = client.run_once(REPLY_TIMEOUT_SECONDS)
    client.close()
    return kept, client.ended_at_close > 0


class ClosedLoop:
    """`connections` clients, each sending its next request when its answer is complete.

    `request_of(turn)` gives the bytes of the request number `turn`, counted over all connections.
    """

    def __init__(self, port, connections, request_of):
        self.port, self.connections, self.request_of = port, connections, request_of
        self.poller = select.epoll()
        self.clients = {}
        self.turn = 0
        self.completed = []  # (turn, seconds) of every answer
        self.errors = 0
        self.ended_at_close = 0  # answers framed by the end of the connection

    def run_once(self, timeout):
        """Send one request on every connection; return how many were answered and stayed open."""
        for _ in range(self.connections):
            self._open()
        answered, kept, deadline = 0, 0, time.perf_counter() + timeout
        while answered < self.connections and (left := deadline - time.perf_counter()) > 0:
            for descriptor, _ in self.poller.poll(left):
                if (reader := self._receive(descriptor)) is not None:
                    answered += 1
                    kept += reader.keep_alive and reader.status == 200
                    self.poller.unregister(descriptor)
        return kept

    def run(self, seconds):
        """Load the server for `seconds`; `completed` and `errors` then hold the outcome."""
        if not self.clients:
            for _ in range(self.connections):
                self._open()
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            for descriptor, _ in self.poller.poll(left):
                if (reader := self._receive(descriptor)) is not None:
                    self._go_on(descriptor, reader)

    def forget(self):
        """Drop the outcome so far, as at the end of a warm-up; requests under way go on."""
        self.completed, self.errors = [], 0

    def unanswered(self, seconds):
        """Connections that have waited for an answer for longer than `seconds`."""
        now = time.perf_counter()
        return sum(now - sent_at > seconds for _, _, sent_at, _ in self.clients.values())

    def close(self):
        for client, *_ in self.clients.values():
            client.close()
        self.clients.clear()
        self.poller.close()

    def _open(self):
        try:
            client = socket.create_connection(("127.0.0.1", self.port), timeout=REPLY_TIMEOUT_SECONDS)
        except OSError:
            self.errors += 1
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        self.poller.register(client, select.EPOLLIN)
        self._send(client, ResponseReader())

    def _send(self, client, reader):
        self.clients[client.fileno()] = (client, reader, time.perf_counter(), self.turn)
        request = self.request_of(self.turn)
        self.turn += 1
        try:
            client.sendall(request)
        except OSError:
            self.errors += 1

    def _receive(self, descriptor):
        """Read what is there; return the reader if its response is complete."""
        client, reader, sent_at, turn = self.clients[descriptor]
        try:
            data = client.recv(262144)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        ended = data == b""
        if ended or not reader.feed(data):
            if not ended:
                return None
            if not reader.ends_at_close():
                self.errors += 1
                self._replace(descriptor)
                return None
            reader.keep_alive = False
            self.ended_at_close += 1
        self.errors += reader.status != 200
        self.completed.append((turn, time.perf_counter() - sent_at))
        return reader

    def _go_on(self, descriptor, reader):
        if not reader.keep_alive:
            self._replace(descriptor)
            return
        client = self.clients[descriptor][0]
        reader.next_response()
        self._send(client, reader)

    def _replace(self, descriptor):
        self.clients.pop(descriptor)[0].close()
        self._open()


def measure_mixed(server, workload, seconds):
    """Every tenth request sleeps; wrk cannot tell the latencies of the others apart, our client can."""
    slow = lambda turn: turn % 10 == 9  # noqa: E731
    client = ClosedLoop(server.port, workload.connections, lambda t: get("/slow" if slow(t) else "/"))
    kept, _ = connections_kept(server.port, workload)
    client.run(WARM_UP_SECONDS)
    client.forget()
    cpu_before, start = server.cpu_seconds(), time.perf_counter()
    client.run(seconds)
    elapsed, cpu = time.perf_counter() - start, server.cpu_seconds() - cpu_before
    requests, unanswered = len(client.completed), client.unanswered(REPLY_TIMEOUT_SECONDS)
    everything = sorted(latency for _, latency in client.completed)
    fast = sorted(latency for turn, latency in client.completed if not slow(turn))
    client.close()
    return {
        "requests": requests,
        "cpu_seconds": cpu,
        "cpu_microseconds": cpu * 1e6 / requests if requests else None,
        "rate": requests / elapsed,
        "p50": percentile(everything, 0.5),
        "p99": percentile(everything, 0.99),
        "fast_p50": percentile(fast, 0.5),
        "fast_p99": percentile(fast, 0.99),
        "errors": client.errors + unanswered,
        "kept": kept,
        "pss": server.memory(),
    }


def calibrate_spins():
    """Loop turns of `apps.spin` that cost 1 ms of CPU on the servers' core; the best of several tries."""
    from apps import spin

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {1})
    try:
        turns, best = 20000, float("inf")
        for _ in range(30):
            start = time.thread_time_ns()
            spin(turns)
            best = min(best, time.thread_time_ns() - start)
        return max(1, round(turns * 1_000_000 / best))
    finally:
        os.sched_setaffinity(0, before)
