"""Calls that want to know when their client has left, and how much time they have."""

from __future__ import annotations

import threading
import time

import portico
from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application
kept = []


@routes("/callback")
def callback(environ, start_response):
    """Registers callbacks, one of which raises, and waits for them."""
    called = threading.Event()

    def tell():
        name, request = threading.current_thread().name, environ["PATH_INFO"]
        rendezvous.emit(f"called back for {request}, not in {name}")
        called.set()

    client_disconnected = environ["portico.client_disconnected"]
    client_disconnected(lambda: 1 / 0)
    rendezvous.emit(f"begins with {client_disconnected(tell)}")
    in_time = called.wait(float(parameters(environ)["patience"]))
    rendezvous.emit("waited for it" if in_time else "in vain")
    return plain(start_response, "done")


@routes("/late-callback")
def late_callback(environ, start_response):
    """Registers a callback when the client has left."""
    client_disconnected = environ["portico.client_disconnected"]
    rendezvous.emit("begins")
    while not client_disconnected():
        time.sleep(0.01)
    called = threading.Event()
    rendezvous.emit(f"too late: {client_disconnected(called.set)}")
    rendezvous.emit(f"called back: {called.wait(5)}")
    return plain(start_response, "done")


@routes("/slow-callback")
def slow_callback(environ, start_response):
    """Ends while its callback runs."""
    called = threading.Event()

    def take_long():
        called.set()
        time.sleep(0.5)
        rendezvous.emit("callback ends")

    environ["portico.client_disconnected"](take_long)
    rendezvous.emit("begins")
    called.wait()
    return plain(start_response, "done")


@routes("/keep")
def keep(environ, start_response):
    """Keeps callables beyond the request; says what those of the last one answer."""
    answers = [function() for function in kept]
    kept[:] = [environ["portico.deadline"], environ["portico.client_disconnected"]]
    return plain(start_response, repr(answers))


@routes("/register-late")
def register_late(environ, start_response):
    """Registers a callback with what an earlier request has left."""
    client_disconnected = kept[1]
    client_disconnected(lambda: rendezvous.emit("called back for another"))
    return callback(environ, start_response)


@routes("/no-callable")
def no_callable(environ, start_response):
    """Gives what cannot be called."""
    try:
        environ["portico.client_disconnected"]("text")
    except TypeError as error:
        return plain(start_response, str(error))


def compute_until(deadline: float) -> None:
    """In a function of its own: CPython 3.13 does not catch in the frame whose loop is broken off."""
    while time.monotonic() < deadline:
        pass


@routes("/spin")
def spin(environ, start_response):
    """Computes until ClientDisconnected is raised, or for some time."""
    rendezvous.emit("begins")
    deadline = time.monotonic() + float(parameters(environ)["patience"])
    try:
        compute_until(deadline)
    except portico.ClientDisconnected:
        rendezvous.emit("raised")
        raise
    rendezvous.emit("not raised")
    return plain(start_response, "done")


@routes("/swallow")
def swallow(environ, start_response):
    """Goes on where the exception is raised, and counts how often."""
    rendezvous.emit("begins")
    count, deadline = 0, time.monotonic() + 1
    while time.monotonic() < deadline:
        try:
            compute_until(deadline)
        except portico.ClientDisconnected:
            count += 1
    rendezvous.emit(f"raised {count} times")
    return plain(start_response, "done")


class Stream:
    """Yields a block and computes; tells how it ended."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __iter__(self):
        yield b"block."
        rendezvous.emit("begins")
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            pass
        yield b"block."

    def close(self):
        """Takes a while, in which nothing is to be raised."""
        rendezvous.emit("closing")
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            pass
        rendezvous.emit("closed")


@routes("/stream")
def stream(environ, start_response):
    """A stream whose second block takes long."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Stream(float(parameters(environ)["patience"]))


@routes("/answered")
def answered(environ, start_response):
    """Computes after the last byte of its answer."""
    environ["portico.client_disconnected"](lambda: rendezvous.emit("called back"))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])

    def blocks():
        try:
            yield b"done"
        finally:  # No further block is asked for.
            deadline = time.monotonic() + 0.5
            try:
                while time.monotonic() < deadline:
                    pass
            except portico.ClientDisconnected:
                rendezvous.emit("raised")
            rendezvous.emit("went on")

    return blocks()


@routes("/deadline")
def deadline(environ, start_response):
    """How much time is left at the beginning, later, in another thread, and after a block."""
    left = environ["portico.deadline"]
    start_response("200 OK", [("Content-Type", "text/plain")])

    def blocks():
        times = [left()]
        time.sleep(0.3)
        times.append(left())
        helper = threading.Thread(target=lambda: times.append(left()))
        helper.start()
        helper.join()
        yield b"["
        times.append(left())
        yield (", ".join(map(repr, times)) + "]").encode()

    return blocks()
