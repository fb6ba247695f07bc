"""Gigabytes and slow clients: how much memory they cost, and what other clients notice of them."""

import multiprocessing
import os
import select
import socket
import threading
import time

from .http import ResponseReader, get
from .load import percentile
from .probes import SOURCES, one_request, start_connecting

BULK_BYTES = 1 << 30
BULK_TIMEOUT_SECONDS = 60.0
BLOCK = b"x" * (1 << 20)
SLOW_CLIENTS = 500  # of each kind
UPLOAD_RATE = 2048  # bytes a second
READ_RATE = 10240
SLOW_UPLOAD_BYTES = 1 << 20
TICKS_PER_SECOND = 4
OTHERS_PAUSE_SECONDS = 0.005
OTHERS_TIMEOUT_SECONDS = 1.0


def measure_upload(server, workload, seconds):
    """Send 1 GiB; the application reads it in blocks of 64 KiB and answers how many bytes came."""
    head = f"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BULK_BYTES}\r\n\r\n".encode()

    def transfer(client):
        client.sendall(head)
        for _ in range(BULK_BYTES // len(BLOCK)):
            client.sendall(BLOCK)
        reader, answer = ResponseReader(), b""
        while data := client.recv(65536):
            answer += data
            if reader.feed(data):
                break
        return BULK_BYTES if answer.endswith(str(BULK_BYTES).encode()) and reader.status == 200 else 0

    return measure_bulk(server, transfer)


def measure_download(server, workload, seconds):
    """Read 1 GiB that the application yields in blocks of 1 MiB."""

    def transfer(client):
        client.sendall(get("/download", close=True))
        buffer, head = bytearray(1 << 20), b""
        while b"\r\n\r\n" not in head:
            if not (data := client.recv(65536)):
                return 0
            head += data
        if not head.startswith(b"HTTP/1.1 200"):
            return 0
        total = len(head.partition(b"\r\n\r\n")[2])
        # The length is announced, so its end is known even where the server leaves the connection open.
        while total < BULK_BYTES and (count := client.recv_into(buffer)):
            total += count
        return total

    return measure_bulk(server, transfer)


def measure_bulk(server, transfer):
    """Transfer once; the growth of the peak resident set over the resident set before it."""
    server.reset_peak_memory()
    before, cpu_before, start, reason = server.memory("Rss"), server.cpu_seconds(), time.perf_counter(), None
    sampler = PeakSampler(server)
    try:
        with sampler, socket.create_connection(("127.0.0.1", server.port), BULK_TIMEOUT_SECONDS) as client:
            transferred = transfer(client)
    except OSError as error:
        transferred, reason = 0, f"{type(error).__name__}: {error}"
    elapsed = time.perf_counter() - start
    missing = max(0, BULK_BYTES - transferred)
    return {
        "growth": max(0, max(server.peak_memory(), sampler.peak) - before),
        "seconds": elapsed,
        "cpu_seconds": server.cpu_seconds() - cpu_before,
        "bytes_missing": missing,
        "errors": 1 if missing else 0,
        "reason": reason or ("answer incomplete or refused" if missing else None),
    }


class PeakSampler:
    """Samples the resident set of the tree: VmHWM misses processes that are born and die in between."""

    def __init__(self, server):
        self.server, self.peak, self._ended = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self):
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, self.server.memory("Rss"))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        self._thread.join()


def measure_slow_clients(server, workload, seconds):
    """Latency of other clients' requests before and during 500 slow uploads and 500 slow reads."""
    before, failures_before = others(server.port, seconds)
    memory_before = server.memory()
    context = multiprocessing.get_context("fork")
    ready, stop, result = context.Event(), context.Event(), context.SimpleQueue()
    slow = context.Process(target=slow_clients, args=(server.port, ready, stop, result), daemon=True)
    slow.start()
    ready.wait(30)
    during, failures_during = others(server.port, seconds)
    growth = server.memory() - memory_before
    stop.set()
    alive = result.get()
    slow.join(5)
    if slow.is_alive():
        slow.kill()
    return {
        "before_p50": percentile(before, 0.5),
        "before_p99": percentile(before, 0.99),
        "during_p50": percentile(during, 0.5),
        "during_p99": percentile(during, 0.99),
        "slow_alive": alive,
        "growth": growth,
        "errors": failures_before + failures_during,
    }


def others(port, seconds):
    """Sorted latencies of one request after the other on new connections, and how many failed."""
    latencies, failures, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            latencies.append(one_request(port, timeout=OTHERS_TIMEOUT_SECONDS))
        except OSError:
            failures += 1
        time.sleep(OTHERS_PAUSE_SECONDS)
    return sorted(latencies), failures


def slow_clients(port, ready, stop, result):
    """The body of the child process: trickle until told to stop, then say how many are still connected."""
    os.sched_setaffinity(0, {0})
    uploads, readers = connect_slow_clients(port)
    step = 0
    while not stop.wait(1 / TICKS_PER_SECOND):
        step += 1
        uploads = [client for client in uploads if trickle_up(client)]
        readers = [client for client in readers if trickle_down(client)]
        if step == TICKS_PER_SECOND:
            ready.set()
    ready.set()
    result.put(len(uploads) + len(readers))


def connect_slow_clients(port):
    head = f"POST /upload HTTP/1.1\r\nHost: bench\r\nContent-Length: {SLOW_UPLOAD_BYTES}\r\n\r\n".encode()
    uploads, readers = [], []
    for number in range(2 * SLOW_CLIENTS):
        is_upload = number % 2 == 0
        client = start_connecting(port, SOURCES[number % len(SOURCES)], None if is_upload else 8192)
        if select.select([], [client], [], 2.0)[1]:
            try:
                client.send(head if is_upload else get("/read"))
                (uploads if is_upload else readers).append(client)
            except OSError:
                client.close()
    return uploads, readers


def trickle_up(client):
    """Send this tick's share of a body; False once the server has hung up."""
    try:
        client.send(b"x" * (UPLOAD_RATE // TICKS_PER_SECOND))
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def trickle_down(client):
    """Read this tick's share of an answer; False once the server has hung up."""
    try:
        return client.recv(READ_RATE // TICKS_PER_SECOND) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
