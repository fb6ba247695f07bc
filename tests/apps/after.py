"""Leaves things to be done after its responses."""

from __future__ import annotations

import contextvars
import os
import threading
import time

import portico
from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

user = contextvars.ContextVar("user", default="nobody")


class Closing:
    """A body whose end is told."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = iter(blocks)

    def __iter__(self):
        return self.blocks

    def close(self) -> None:
        rendezvous.emit("closed")


def note(what: str, *, gate: str | None = None) -> None:
    if gate:
        rendezvous.hold(gate, 60)
    rendezvous.emit(f"{what} {threading.current_thread().name.rsplit('-', 1)[0]} {os.getpid()}")


@routes("/pid")
def pid(environ, start_response):
    """The process."""
    return plain(start_response, str(os.getpid()))


@routes("/leave")
def leave(environ, start_response):
    """Leaves what emits a name, once a gate is open, if one is given; the body's end is told."""
    query = parameters(environ)
    environ["portico.after_response"](note, query["name"], gate=query.get("gate"))
    start_response("200 OK", [("Content-Length", "2")])
    return Closing(b"o", b"k")


@routes("/context")
def context(environ, start_response):
    """What is left sees the context of its request."""
    token = user.set(parameters(environ)["user"])
    environ["portico.after_response"](lambda: rendezvous.emit(f"user {user.get()}"))
    user.reset(token)
    return plain(start_response, "ok")


def fail(number: int) -> None:
    raise ValueError(f"failed on purpose, {number}")


@routes("/failing")
def failing(environ, start_response):
    """Leaves what raises."""
    environ["portico.after_response"](fail, 7)
    return plain(start_response, "ok")


@routes("/raising")
def raising(environ, start_response):
    """Leaves something, and fails itself."""
    environ["portico.after_response"](note, "raised")
    raise RuntimeError("the request failed on purpose")


@routes("/many")
def many(environ, start_response):
    """Leaves as much as there is room for; answers how much that was, and what was said then."""
    for count in range(2000):
        try:
            environ["portico.after_response"](note, "one", gate="many")
        except portico.AfterResponseRefused as refusal:
            return plain(start_response, f"{count} {refusal}")
    return plain(start_response, "no end")


@routes("/wrong")
def wrong(environ, start_response):
    """What cannot be called."""
    try:
        environ["portico.after_response"]("text")
    except TypeError as error:
        return plain(start_response, str(error))


@routes("/forked")
def forked(environ, start_response):
    """Asks in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            environ["portico.after_response"](note, "in the child")
        except portico.AfterResponseRefused as refusal:
            os.write(writing, str(refusal).encode())
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return plain(start_response, told)


@routes("/thread")
def thread(environ, start_response):
    """A thread of its own asks, and does not wait for this request."""
    started = threading.Thread(target=environ["portico.after_response"], args=(note, "at once"))
    started.start()
    started.join()
    rendezvous.hold("thread")
    return plain(start_response, "ok")


@routes("/chain")
def chain(environ, start_response):
    """What is left leaves something, by the function of the package."""

    def first() -> None:
        time.sleep(0.05)
        portico.after_response(note, "second")

    portico.after_response(first)
    return plain(start_response, "ok")
