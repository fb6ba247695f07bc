"""Reads wsgi.input as the request says and tells what came."""

from __future__ import annotations

import itertools
import json

from apps.meeting import rendezvous
from apps.routes import Routes, parameters

routes = Routes()
application = routes.application
kept_streams = []


@routes("/operations")
def operations(environ, start_response):
    """Performs the operations of X-Operations, a JSON list of [name, argument...]; tells each result."""
    stream = environ["wsgi.input"]
    results = [perform(stream, *operation) for operation in json.loads(environ["HTTP_X_OPERATIONS"])]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(results).encode()]


def perform(stream, name, *arguments):
    """One operation's result, bytes told as latin-1."""
    if name == "iterate":
        result = list(itertools.islice(stream, *(arguments or [None])))
    elif name == "next":
        result = next(stream, b"<end>")
    else:
        result = getattr(stream, name)(*arguments)
    assert all(type(item) is bytes for item in (result if isinstance(result, list) else [result])), result
    return (
        [item.decode("latin-1") for item in result] if isinstance(result, list) else result.decode("latin-1")
    )


@routes("/slurp")
def slurp(environ, start_response):
    """Reads everything with one read, or in blocks of `block` bytes; emits how it ended."""
    block = int(parameters(environ).get("block", "-1"))
    stream, total = environ["wsgi.input"], 0
    rendezvous.emit("slurp begins")
    try:
        while data := stream.read(block):
            total += len(data)
    except OSError as error:
        kinds = ",".join(kind.__name__ for kind in type(error).__mro__)
        rendezvous.emit(f"OSError {kinds}")
        raise
    rendezvous.emit(f"slurped {total}")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(total).encode()]


@routes("/ignore")
def ignore(environ, start_response):
    """Does not read the body."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ignored"]


@routes("/read-some")
def read_some(environ, start_response):
    """Reads three bytes of the body and no more."""
    some = environ["wsgi.input"].read(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [some]


@routes("/early")
def early(environ, start_response):
    """Emits each block as it is read, to show that a streamed body is read while it arrives."""
    stream = environ["wsgi.input"]
    while data := stream.read(5):
        rendezvous.emit(f"read {data.decode()}")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


@routes("/length")
def length(environ, start_response):
    """Tells what environ says of the body, and the body."""
    told = {
        "length": environ.get("CONTENT_LENGTH"),
        "coding": environ.get("HTTP_TRANSFER_ENCODING"),
        "terminated": environ["wsgi.input_terminated"],
        "body": environ["wsgi.input"].read().decode(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


@routes("/kept")
def kept(environ, start_response):
    """Keeps the stream; `/late` reads it when its request is over."""
    kept_streams[:] = [environ["wsgi.input"]]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"kept"]


@routes("/late")
def late(environ, start_response):
    """Reads from the stream of the `/kept` request, which is over."""
    try:
        outcome = repr(kept_streams[0].read())
    except (ValueError, OSError) as error:
        outcome = type(error).__name__
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [outcome.encode()]
