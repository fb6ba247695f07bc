"""Calls that spend their time where a profile must find it."""

from __future__ import annotations

import ctypes
import threading
import time
import tracemalloc

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

HOLD = ctypes.PyDLL(None).usleep  # Keeps the interpreter while it sleeps.
kept = []


def until(environ) -> float:
    """When a call that takes as long as it is asked to must end."""
    return time.monotonic() + float(parameters(environ).get("seconds", 3))


@routes("/compute")
def compute(environ, start_response):
    """Uses a processor, in one line nearly all of the time."""
    rendezvous.emit("computes")
    end = until(environ)
    while time.monotonic() < end:
        hot_line()
    return plain(start_response, "computed")


def hot_line() -> int:
    """The line that a profile must name first."""
    return sum(number * number for number in range(20_000))  # hot


@routes("/wait")
def wait(environ, start_response):
    """Uses none."""
    rendezvous.emit("waits")
    time.sleep(float(parameters(environ).get("seconds", 3)))  # waits
    return plain(start_response, "waited")


@routes("/deep")
def deep(environ, start_response):
    """Waits at the bottom of many frames."""

    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        else:
            rendezvous.emit("deep")
            time.sleep(3)

    recurse(300)
    return plain(start_response, "deep")


@routes("/hold")
def hold(environ, start_response):
    """In C code that keeps the interpreter."""
    rendezvous.emit("holds")
    HOLD(int(float(parameters(environ).get("seconds", 3)) * 1_000_000))
    return plain(start_response, "held")


@routes("/users")
def users(environ, start_response):
    """Tells its route."""
    environ["portico.route"]("/users/<id>")
    rendezvous.emit("users")
    time.sleep(float(parameters(environ).get("seconds", 3)))
    return plain(start_response, "user")


class Kept:
    """Something to count."""


@routes("/keep")
def keep(environ, start_response):
    """Objects that stay."""
    kept.extend(Kept() for _ in range(500))
    kept.append(bytearray(1_000_000))  # grows
    return plain(start_response, "kept")


@routes("/is-tracing")
def is_tracing(environ, start_response):
    """Whether memory is traced."""
    return plain(start_response, str(tracemalloc.is_tracing()))


@routes("/thread-names")
def thread_names(environ, start_response):
    """Who is there."""
    return plain(start_response, " ".join(thread.name for thread in threading.enumerate()))
