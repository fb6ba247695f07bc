"""Applications inside wsgiref.validate: what the server or they do against PEP 3333 raises AssertionError."""

from __future__ import annotations

import io
from wsgiref.validate import validator

from apps.routes import parameters, plain


def whole_body(environ, start_response):
    """Reads with read()."""
    return plain(start_response, str(len(environ["wsgi.input"].read(-1))))


def by_blocks(environ, start_response):
    """Reads in blocks."""
    total = 0
    while data := environ["wsgi.input"].read(1000):
        total += len(data)
    return plain(start_response, str(total))


def by_lines(environ, start_response):
    """Reads with readline, readlines and iteration."""
    stream = environ["wsgi.input"]
    total = len(stream.readline()) + sum(map(len, stream.readlines(10)))
    return plain(start_response, str(total + sum(map(len, stream))))


def written(environ, start_response):
    """Uses the write callable."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    return [b"and returned"]


def generated(environ, start_response):
    """Yields blocks."""
    start_response("200 OK", [("Content-Type", "text/plain")])

    def blocks():
        yield b"one "
        yield b""
        yield b"two"

    return blocks()


def lazily(environ, start_response):
    """Calls start_response when iterated."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"lazy"


def empty(environ, start_response):
    """204."""
    start_response("204 No Content", [])
    return []


def logs(environ, start_response):
    """Uses wsgi.errors."""
    environ["wsgi.errors"].write("a line for the log\n")
    environ["wsgi.errors"].writelines(["another\n"])
    environ["wsgi.errors"].flush()
    return plain(start_response, "logged")


def wrapped_file(environ, start_response):
    """Returns a file through wsgi.file_wrapper."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 100_000), 4096)


def replaced(environ, start_response):
    """Replaces the head by exc_info."""
    import sys

    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError
    except ValueError:
        start_response("503 Sorry", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"replaced"]


CASES = {
    case.__name__: validator(case)
    for case in (
        whole_body,
        by_blocks,
        by_lines,
        written,
        generated,
        lazily,
        empty,
        logs,
        wrapped_file,
        replaced,
    )
}


def application(environ, start_response):
    """The case that the query names; the path is the request's own business."""
    return CASES[parameters(environ)["case"]](environ, start_response)
