"""What attackers ask for: large responses of each kind, endless ones, calls that take a while, uploads.

The application itself costs next to nothing, so that what a trial measures is the server. `bytes(n)` is
memory that the kernel hands out only when it is written: the server may read it at no cost, and pays for each
copy.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time

from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application
BLOCK = bytes(65536)
EVENT = b"data: " + b"x" * 10_000 + b"\n\n"


@functools.cache
def shared(size: int) -> bytes:
    """Bytes that many responses have in common."""
    return bytes(size)


@functools.cache
def file_of(size: int) -> str:
    """The path of a file of so many bytes, nearly all holes: one without any block is read, not sent."""
    descriptor, path = tempfile.mkstemp(dir=os.environ["TEST_RENDEZVOUS"])
    os.pwrite(descriptor, b"\n", size - 1)
    os.close(descriptor)
    return path


def begin(start_response, size: int | None) -> None:
    """The head, with the length if there is to be one."""
    length = [] if size is None else [("Content-Length", str(size))]
    start_response("200 OK", [("Content-Type", "application/octet-stream"), *length])


@routes("/list")
def one_block(environ, start_response):
    """`bytes` bytes that all such responses share, in a list."""
    size = int(parameters(environ)["bytes"])
    begin(start_response, size)
    return [shared(size)]


@routes("/fresh")
def fresh(environ, start_response):
    """The same, made for this response alone: what is held for it is memory of the worker."""
    size = int(parameters(environ)["bytes"])
    begin(start_response, size)
    return [b"x" * size]


@routes("/blocks")
def blocks(environ, start_response):
    """`bytes` bytes from a generator, their length being told or not."""
    query = parameters(environ)
    size = int(query["bytes"])
    begin(start_response, size if query["length"] == "told" else None)
    return (BLOCK[: min(len(BLOCK), size - start)] for start in range(0, size, len(BLOCK)))


@routes("/file")
def file(environ, start_response):
    """`bytes` bytes from a file."""
    size = int(parameters(environ)["bytes"])
    begin(start_response, size)
    return environ["wsgi.file_wrapper"](open(file_of(size), "rb"))


@routes("/events")
def events(environ, start_response):
    """Server-sent events without end, as fast as they are taken."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return iter(lambda: EVENT, None)


@routes("/work")
def work(environ, start_response):
    """Takes a while."""
    time.sleep(float(parameters(environ)["seconds"]))
    return plain(start_response, "worked")


@routes("/consume")
def consume(environ, start_response):
    """Reads the body and counts it."""
    total = 0
    while data := environ["wsgi.input"].read(65536):
        total += len(data)
    return plain(start_response, str(total))
