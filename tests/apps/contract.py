"""Keeps and breaks the rules of PEP 3333, one path a case: start_response, write, exceptions."""

from __future__ import annotations

import ast
import sys

from apps import bodies
from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain
from apps.tracked import Tracked

PLAIN = [("Content-Type", "text/plain")]

routes = Routes()
routes.include(bodies.routes)
application = routes.application


# start_response


@routes("/start")
def start(environ, start_response):
    """Calls start_response with what X-Start says: a Python literal (status, headers)."""
    status, headers = ast.literal_eval(environ["HTTP_X_START"])
    start_response(status, headers)
    return [b"body"]


@routes("/start-by-name")
def start_by_name(environ, start_response):
    """Passes arguments by name, which PEP 3333 forbids and applications do."""
    start_response(status="200 OK", headers=PLAIN, exc_info=None)
    return [b"body"]


@routes("/start-asking")
def start_asking(environ, start_response):
    """Passes something wrong that, asked what it is, asks the server in turn; tells what that says of it."""
    asked = []

    class Asking(str):
        def __repr__(self):
            asked.append(environ["portico.client_disconnected"]())
            try:
                start_response("200 OK", PLAIN)
            except AssertionError:
                pass  # The call that asks is the first.
            return "asking " * 1000

    wrong = Asking("\u20ac")
    status, headers = {
        "status": (wrong, []),
        "pair": ("200 OK", [wrong]),
        "name": ("200 OK", [(wrong, "value")]),
        "list": ("200 OK", [[wrong] * 1000]),
    }[environ["QUERY_STRING"]]
    try:
        start_response(status, headers)
    except (TypeError, ValueError) as error:
        start_response("200 OK", PLAIN, sys.exc_info())
        return [f"{len(asked)} {len(str(error))} {error}".encode()]
    return [b"taken"]


@routes("/start-twice")
def start_twice(environ, start_response):
    """The second call without exc_info must raise; tells what."""
    start_response("200 OK", PLAIN)
    try:
        start_response("500 Second", PLAIN)
    except Exception as error:
        return [f"raised {type(error).__name__}".encode()]
    return [b"raised nothing"]


@routes("/start-again-after-error")
def start_again_after_error(environ, start_response):
    """Calls start_response with a wrong status, without exc_info and with it; tells what was raised."""
    raised = []
    for status in ("wrong", "200 Again"):
        try:
            start_response(status, PLAIN)
        except Exception as error:
            raised.append(type(error).__name__)
            exc_info = sys.exc_info()
    start_response("200 OK", PLAIN, exc_info)
    return [" ".join(raised).encode()]


@routes("/start-iterable")
def start_iterable(environ, start_response):
    """Gives the headers as something that is neither list nor tuple."""
    headers = {"X-A": "1", "X-B": "2"}
    kinds = {
        "items": headers.items,
        "generator": lambda: (pair for pair in headers.items()),
        "endless": lambda: iter(lambda: ("X-A", "1"), None),
        "raising": lambda: (1 / 0 for _ in range(1)),
    }
    start_response("200 OK", kinds[environ["QUERY_STRING"]]())
    return [b"body"]


@routes("/close-asked")
def close_asked(environ, start_response):
    """Asks for the connection to be closed, as `value` says."""
    start_response("200 OK", [*PLAIN, ("Connection", parameters(environ)["value"])])
    return [b"body"]


@routes("/event-stream")
def event_stream(environ, start_response):
    """Answers as Flask's recipes for event streams do."""
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Connection", "keep-alive")])
    return (b"data: %d\n\n" % number for number in range(3))


@routes("/replace")
def replace(environ, start_response):
    """Replaces a head that has not gone out yet, by exc_info."""
    start_response("200 OK", [*PLAIN, ("X-First", "1"), ("Content-Length", "3")])
    try:
        raise ValueError("before the head went out")
    except ValueError:
        start_response("503 Replaced", [*PLAIN, ("X-Second", "2")], sys.exc_info())
    return [b"replaced"]


@routes("/replace-late")
def replace_late(environ, start_response):
    """exc_info after the head went out: start_response must raise that very exception again."""

    def blocks():
        start_response("200 OK", PLAIN)
        yield b"first"
        try:
            raise ValueError("after the head went out")
        except ValueError as cause:
            try:
                start_response("500 Late", PLAIN, sys.exc_info())
            except BaseException as error:
                rendezvous.emit(f"raised the same {error is cause}")
                raise
        yield b"never"

    return Tracked(environ, blocks())


@routes("/never-started")
def never_started(environ, start_response):
    """Forgets start_response."""
    return Tracked(environ, [b"body"])


@routes("/started-lazily")
def started_lazily(environ, start_response):
    """Calls start_response only when iterated, after empty blocks."""

    def blocks():
        yield b""
        yield b""
        start_response("201 Lazy", PLAIN)
        yield b"body"

    return blocks()


@routes("/headers-kept")
def headers_kept(environ, start_response):
    """Changes the list of headers after start_response; what was given counts until the head goes out."""
    headers = [*PLAIN, ("X-Kept", "1")]
    start_response("200 OK", headers)
    return [b"body"]


@routes("/many-headers")
def many_headers(environ, start_response):
    """Answers with as many fields as asked for."""
    count = int(parameters(environ)["count"])
    start_response("200 OK", [(f"X-{number}", str(number)) for number in range(count)])
    return [b"body"]


@routes("/errors")
def errors(environ, start_response):
    """Writes to wsgi.errors in each way."""
    stream = environ["wsgi.errors"]
    stream.write("written to wsgi.errors\n")
    stream.writelines(["one line of two\n", "two lines of two \xe9\u20ac\n"])
    stream.flush()
    return plain(start_response, "logged")


# write


@routes("/write")
def write(environ, start_response):
    """Sends by the write callable, then by the iterable."""
    send = start_response("200 OK", PLAIN)
    send(b"written ")
    send(b"")
    send(b"twice, ")
    return [b"then ", b"iterated"]


@routes("/write-length")
def write_length(environ, start_response):
    """The write callable with a Content-Length."""
    send = start_response("200 OK", [*PLAIN, ("Content-Length", "11")])
    send(b"hello ")
    return [b"world"]


@routes("/write-only")
def write_only(environ, start_response):
    """Everything by write; the iterable is empty."""
    start_response("200 OK", PLAIN)(b"only written")
    return []


@routes("/burst-holds")
def burst_holds(environ, start_response):
    """Several blocks at once, then none until the client has them all."""
    start_response("200 OK", PLAIN)
    return burst()


def burst():
    yield from (b"one", b"two", b"three", b"four")
    rendezvous.hold("burst")
    yield b"five"


@routes("/write-flushes")
def write_flushes(environ, start_response):
    """What was written is on its way before the next step of the application."""
    start_response("200 OK", PLAIN)(b"first")
    rendezvous.hold("write-flushes")
    return [b"second"]


@routes("/write-text")
def write_text(environ, start_response):
    """write takes bytes only."""
    start_response("200 OK", PLAIN)("text")
    return []


# Exceptions


class Private(BaseException):
    """Not an Exception: must be caught all the same."""


EXCEPTIONS = {
    "Exception": lambda: ValueError("planted error"),
    "SystemExit": lambda: SystemExit("planted error"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("planted error"),
    "GeneratorExit": lambda: GeneratorExit("planted error"),
    "BaseException": lambda: Private("planted error"),
}


class Raises:
    """Iterable that raises when asked for its iterator."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self):
        raise self.error

    def close(self) -> None:
        rendezvous.emit("closed /raise")


@routes("/raise")
def raise_at(environ, start_response):
    """Raises `error` at the place that `at` names."""
    query = parameters(environ)
    error, at = EXCEPTIONS[query["error"]](), query["at"]

    def blocks():
        if at == "lazy-start":
            raise error
        if at == "first-block":
            raise error
        yield b""
        if at == "after-empty-block":
            raise error
        yield b"first"
        if at == "second-block":
            raise error
        yield b"second"
        if at == "end":
            raise error

    if at == "call":
        raise error
    if at != "lazy-start":
        start_response("200 OK", PLAIN)
    if at == "after-start":
        raise error
    if at == "iter":
        return Raises(error)
    return Tracked(environ, blocks(), error if at == "close" else None)


@routes("/raise-large")
def raise_large(environ, start_response):
    """Raises an error that says five million characters."""
    raise ValueError("begin" + "x" * 5_000_000 + "end")


@routes("/raise-with-length")
def raise_with_length(environ, start_response):
    """Raises within a body whose length was announced."""

    def blocks():
        yield b"half"
        raise ValueError("planted error")

    start_response("200 OK", [*PLAIN, ("Content-Length", "8")])
    return Tracked(environ, blocks())


@routes("/raise-after-write")
def raise_after_write(environ, start_response):
    """Raises when write has sent the head."""
    start_response("200 OK", PLAIN)(b"written")
    raise ValueError("planted error")
