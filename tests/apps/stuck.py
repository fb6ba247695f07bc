"""Calls that take too long, each in a way of its own, and some that only take long."""

from __future__ import annotations

import atexit
import ctypes
import threading
import time

import portico
from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

never_released = threading.Lock()
never_released.acquire()


def spin_for_ever():
    """Computes, and lets no Exception end it."""
    count = 0
    while True:
        try:
            count = abs(count) + 1  # Without a call CPython 3.10 would not look up from such a loop.
        except Exception:
            count = 0


@routes("/spin")
def spin(environ, start_response):
    """In Python."""
    rendezvous.emit("spins")
    spin_for_ever()


@routes("/swallow")
def swallow(environ, start_response):
    """In Python, and nothing ends it."""
    atexit.register(rendezvous.emit, "exits")
    while True:
        try:
            spin_for_ever()
        except BaseException:
            rendezvous.emit("swallows")


@routes("/sleep")
def sleep(environ, start_response):
    """In C code that has let go of the interpreter."""
    rendezvous.emit("sleeps")
    time.sleep(float(parameters(environ).get("seconds", 999)))
    return plain(start_response, "slept")


@routes("/lock")
def lock(environ, start_response):
    """On a lock that nobody releases."""
    never_released.acquire()


@routes("/hold-interpreter")
def hold_interpreter(environ, start_response):
    """In C code that keeps the interpreter to itself."""
    rendezvous.emit("holds")
    left = int(parameters(environ)["seconds"])
    while left:
        # A signal ends it before its time: without a GIL its stack is asked for by one.
        left = ctypes.PyDLL(None).sleep(left)
    return plain(start_response, "held")


@routes("/generate")
def generate(environ, start_response):
    """After the first block."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def blocks():
        yield b"first"
        spin_for_ever()

    return blocks()


@routes("/generate-sleep")
def generate_sleep(environ, start_response):
    """After the first block, in C code."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def blocks():
        yield b"first"
        time.sleep(999)

    return blocks()


@routes("/stream")
def stream(environ, start_response):
    """Yields a block now and then, all in all for long."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    query = parameters(environ)

    def blocks():
        for _ in range(int(query["blocks"])):
            time.sleep(float(query["pause"]))
            yield b"block."

    return blocks()


@routes("/large")
def large(environ, start_response):
    """More than buffers take, in blocks."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (b"x" * 65536 for _ in range(int(parameters(environ)["blocks"])))


class SpinsInClose:
    """An iterable whose close() does not end."""

    def __init__(self):
        self.left = [b"whole answer"]

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()

    def close(self):
        """Spins."""
        rendezvous.emit("closes")
        spin_for_ever()


@routes("/close")
def close(environ, start_response):
    """In close()."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return SpinsInClose()


@routes("/own-answer")
def own_answer(environ, start_response):
    """Notices the timeout and answers by itself."""
    try:
        spin_for_ever()
    except portico.RequestTimeout:
        return plain(start_response, "took too long", "503 Service Unavailable")


@routes("/raise")
def raise_it(environ, start_response):
    """Raises the exception itself."""
    raise portico.RequestTimeout


@routes("/count")
def count(environ, start_response):
    """A while of pure Python: where an exception that is pending would be raised."""
    return plain(start_response, str(sum(1 for _ in range(20_000))))


@routes("/watch-client")
def watch_client(environ, start_response):
    """Asks until the client has left."""
    gone = environ["portico.client_disconnected"]
    rendezvous.emit(f"begins with {gone()}")
    deadline = time.monotonic() + float(parameters(environ)["patience"])
    while time.monotonic() < deadline:
        if gone():
            rendezvous.emit("gone")
            break
        time.sleep(0.01)
    else:
        rendezvous.emit("still there")
    return plain(start_response, "done")


kept = []


@routes("/keep-asking")
def keep_asking(environ, start_response):
    """Keeps the callable beyond the request; says what the ones kept so far answer."""
    answers = [gone() for gone in kept]
    kept.append(environ["portico.client_disconnected"])
    return plain(start_response, f"{len(answers)} {any(answers)}")
