"""Uses the objects of one request in several threads at once, and those of many requests in all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application
helpers = ThreadPoolExecutor(8)
# What requests have left for others to use when they have ended; the newest of them.
kept: list[tuple] = []
KEPT_MAX = 50
# The end of the process waits for the helpers.
waiting = threading.BoundedSemaphore(4)


def together(functions: list[Callable[[], object]]) -> list:
    """What they return, called at the same moment in threads of their own."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(run, functions))


@routes("/read")
def read(environ, start_response):
    """Several threads read the body at once, each in its way; answers with the pieces that they got."""
    stream = environ["wsgi.input"]

    def by(take):
        return lambda: [piece.decode() for piece in iter(take, b"")]

    def into():
        buffer = bytearray(8)
        return bytes(buffer[: stream.readinto(buffer)])

    ways = {
        "blocks": [by(lambda: stream.read(8))] * 4 + [by(into)] * 2,
        "lines": [by(stream.readline)] * 3 + [lambda: [line.decode() for line in stream]] * 2,
        "all": [by(stream.read)] * 4,
    }
    pieces = together(ways[parameters(environ)["way"]])
    return plain(start_response, json.dumps(pieces))


@routes("/write")
def write(environ, start_response):
    """Several threads write blocks at once."""
    send = start_response("200 OK", [("Content-Type", "text/plain")])

    def of(number):
        return lambda: [send(f"<{number}:{block}>".encode() * 100) for block in range(50)]

    together([of(number) for number in range(5)])
    return []


@routes("/start")
def start(environ, start_response):
    """Several threads call start_response at once: one of them is the first."""

    def begin():
        try:
            start_response("200 OK", [("X-Thread", str(threading.get_ident()))] * 20)
        except AssertionError as error:
            return str(error)
        return "begun"

    results = together([begin] * 6)
    return [" ".join(sorted(set(results))).encode() + b" %d" % results.count("begun")]


@routes("/keep")
def keep(environ, start_response):
    """Leaves all that it was given to others, who use it at once and later."""
    number = parameters(environ)["number"]
    send = start_response("200 OK", [("X-Number", number)])
    asked = environ["portico.client_disconnected"]
    mine = (number, environ["portico.request_id"], environ, start_response, send, asked)
    if len(kept) >= KEPT_MAX:
        kept.pop(0)
    kept.append(mine)
    helpers.submit(use, [mine])
    if waiting.acquire(blocking=False):
        helpers.submit(use, list(kept)).add_done_callback(lambda _: waiting.release())
    return [f"{number} {environ['portico.request_id']}".encode()]


wrong: list[str] = []


def use(many: list[tuple]) -> None:
    """Does with other requests' objects what an application can do; notes what should not be."""
    for objects in many:
        try:
            look_at(*objects)
        except Exception as error:
            wrong.append(repr(error))


def look_at(number: str, ident: str, environ: dict, start_response, send, asked) -> None:
    """Uses what one request was given, which may have ended, or may end meanwhile."""
    for _ in range(3):
        if (environ["portico.request_id"], parameters(environ)["number"]) != (ident, number):
            wrong.append(f"{number} {ident} has become {environ}")
        if not dict(environ) or not isinstance(environ["portico.deadline"](), float | None):
            wrong.append("a deadline that is none")
        asked()
        environ["wsgi.errors"].flush()
        environ["wsgi.input"].read(1)
    time.sleep(0.0005)
    attempts = (
        (start_response, ("500 Stolen", [("X-Stolen", number)])),
        (environ["wsgi.early_hints"], ([("Link", "</stolen>")],)),
        (send, (b"",)),
    )
    for function, arguments in attempts:
        try:
            function(*arguments)
        except AssertionError:
            pass  # It has ended, or has begun.


@routes("/wrong")
def tell_wrong(environ, start_response):
    """What was noted."""
    return plain(start_response, "\n".join(wrong[:5]))


@routes("/deep")
def deep(environ, start_response):
    """Calls that come and go, for whoever looks at its frames."""
    end = time.monotonic() + float(parameters(environ)["seconds"])

    def descend(depth: int) -> int:
        return 1 + descend(depth - 1) if depth else 0

    while time.monotonic() < end:
        for depth in range(0, 60, 3):
            descend(depth)
    return plain(start_response, "deep")


@routes("/spin")
def spin(environ, start_response):
    """Computes until an exception ends it."""
    while True:
        sum(range(200))


@routes("/callbacks")
def callbacks(environ, start_response):
    """Registers callbacks from several threads, and waits for its client to leave."""
    called: list[int] = []
    ask = environ["portico.client_disconnected"]
    together([lambda: [ask(lambda: called.append(1)) for _ in range(20)]] * 4)
    place = len(counts)
    counts.append(0)
    end = time.monotonic() + 10
    while len(called) < 80 and time.monotonic() < end:
        time.sleep(0.002)
    counts[place] = len(called)
    return plain(start_response, "left")


counts: list[int] = []


@routes("/counts")
def tell_counts(environ, start_response):
    """How many callbacks each of them has seen, from the moment on at which it has registered them."""
    return plain(start_response, json.dumps(counts))
