"""What wrk cannot measure: the lag of streamed blocks, and connections that do nothing."""

import itertools
import select
import socket
import time

from .http import ResponseReader, get
from .load import REPLY_TIMEOUT_SECONDS, percentile

HELD_TARGET = 10_000
HOLD_SECONDS = 10.0
OPENING_AT_ONCE = 128
OPEN_STALL_SECONDS = 1.5
NEW_REQUESTS = 200
FAILURES_MAX = 3
STAMP_DIGITS = 20  # see apps.stamped_blocks; no line of a head or a chunk size looks like it
ON_TIME_SECONDS = 0.001
SOURCES = [f"127.0.0.{last}" for last in range(2, 18)]


def measure_stream_lag(server, workload, seconds):
    """How long after its yield each block of a stream is seen, while the generator computes the next one."""
    lags, blocks_at_once, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", server.port), timeout=REPLY_TIMEOUT_SECONDS) as client:
            client.sendall(get(workload.path, close=True))
            seen = b""
            while data := client.recv(65536):
                now = time.monotonic_ns()
                *lines, seen = (seen + data).split(b"\n")
                stamps = [int(line) for line in lines if len(line) == STAMP_DIGITS and line.isdigit()]
                lags += [(now - stamp) / 1e9 for stamp in stamps]
                blocks_at_once = max(blocks_at_once, len(stamps))
    lags.sort()
    return {
        "blocks": len(lags),
        "p50": percentile(lags, 0.5),
        "p99": percentile(lags, 0.99),
        "worst": lags[-1] if lags else None,
        "late": sum(lag > ON_TIME_SECONDS for lag in lags) / len(lags) if lags else None,
        "blocks_at_once": blocks_at_once,
        "errors": 0 if lags else 1,
    }


def measure_idle(server, workload, seconds):
    """Hold 10,000 kept-alive connections that each made one request."""
    return measure_held(server, get(workload.path), min(HOLD_SECONDS, 2 * seconds))


def measure_silent(server, workload, seconds):
    """Hold 10,000 connections that never send a byte."""
    return measure_held(server, None, min(HOLD_SECONDS, 2 * seconds))


def measure_held(server, request, hold_seconds):
    """Open the connections, hold them, ask for new requests meanwhile, and count who is still there."""
    before, sockets_before = server.memory(), server.sockets()
    clients = open_connections(server.port, request, HELD_TARGET)
    end = time.monotonic() + hold_seconds
    latencies, failures = new_requests(server.port)
    time.sleep(max(0.0, end - time.monotonic()))
    waiting = server.waiting_in_kernel()
    # A client may count as connected what the server never accepted: its side of the handshake is done.
    held = max(0, min(still_open(clients), server.sockets() - sockets_before))
    growth = server.memory() - before
    opened = len(clients)
    for client in clients:
        client.close()
    return {
        "opened": opened,
        "held": held,
        "not_accepted": waiting,
        "bytes_each": growth / held if held else None,
        "growth": growth,
        "p50": percentile(latencies, 0.5),
        "p99": percentile(latencies, 0.99),
        "errors": failures,
        "pss": before + growth,
    }


def start_connecting(port, source, receive_buffer=None):
    """A socket on its way to the server. A receive buffer set later would not bound the window."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.setblocking(False)
    client.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    client.bind((source, 0))
    client.connect_ex(("127.0.0.1", port))
    return client


def open_connections(port, request, count):
    """Open up to `count` connections, `OPENING_AT_ONCE` at a time, and wait for the answer to `request` on
    each. Gives up when nothing has come for `OPEN_STALL_SECONDS`. Returns the sockets that got there."""
    sources, poller = itertools.cycle(SOURCES), select.epoll()
    opening, ready, failed = {}, [], 0
    progress = time.monotonic()
    while len(ready) + failed < count and time.monotonic() - progress < OPEN_STALL_SECONDS:
        while len(opening) < OPENING_AT_ONCE and len(ready) + failed + len(opening) < count:
            client = start_connecting(port, next(sources))
            poller.register(client, select.EPOLLOUT)
            opening[client.fileno()] = (client, ResponseReader())
        for descriptor, events in poller.poll(0.1):
            client, reader = opening[descriptor]
            outcome = advance(client, reader, events, request)
            if outcome == "asked":
                poller.modify(descriptor, select.EPOLLIN)
                continue
            if outcome == "reading":
                continue
            poller.unregister(descriptor)
            del opening[descriptor]
            progress = time.monotonic()
            if outcome == "ready":
                ready.append(client)
            else:
                client.close()
                failed += 1
    for client, _ in opening.values():
        client.close()
    poller.close()
    return ready


def advance(client, reader, events, request):
    """One step of a connection being opened: "asked", "reading", "ready" or "failed"."""
    try:
        if events & select.EPOLLOUT:
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return "failed"
            if request is None:
                return "ready"
            client.send(request)
            return "asked"
        data = client.recv(65536)
        if not data:
            return "failed"
        if not reader.feed(data):
            return "reading"
        return "ready" if reader.keep_alive and reader.status == 200 else "failed"
    except OSError:
        return "failed"


def one_request(port, path="/", timeout=REPLY_TIMEOUT_SECONDS):
    """Seconds that a request on a new connection takes; raises OSError."""
    start, reader = time.perf_counter(), ResponseReader()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        client.sendall(get(path, close=True))
        while data := client.recv(65536):
            if reader.feed(data):
                break
        elapsed = time.perf_counter() - start
        if reader.status != 200:
            raise ConnectionError(f"status {reader.status}")
        return elapsed


def new_requests(port):
    """Sorted latencies of up to `NEW_REQUESTS` requests on new connections, and how many failed."""
    latencies, failures = [], 0
    for _ in range(NEW_REQUESTS):
        try:
            latencies.append(one_request(port))
        except OSError:
            failures += 1
            if failures >= FAILURES_MAX:
                break
        time.sleep(0.002)
    return sorted(latencies), failures


def still_open(clients):
    """How many of the sockets the peer has not closed. Unexpected bytes (a 408) count as closing."""
    open_now = 0
    for client in clients:
        try:
            client.recv(1)
        except BlockingIOError:
            open_now += 1
        except OSError:
            pass
    return open_now
