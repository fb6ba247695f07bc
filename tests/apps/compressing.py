"""Responses that a server may compress, made in every way that PEP 3333 has."""

from __future__ import annotations

import io
import time

from apps.meeting import rendezvous
from apps.routes import Routes, parameters
from harness.compressing import text

routes = Routes()
application = routes.application

BLOCK = b"".join(b"line %d of a megabyte\n" % number for number in range(1 << 16))[: 1 << 20]


def begin(environ, start_response, *more):
    """Starts the response that the query asks for: `status`, `type`, and fields as `h.NAME`."""
    asked = parameters(environ)
    fields = [("Content-Type", asked.get("type", "text/html; charset=utf-8")), *more]
    fields += [(name[2:], value) for name, value in asked.items() if name.startswith("h.")]
    write = start_response(asked.get("status", "200 OK"), fields)
    return asked, write


@routes("/text")
def one_block(environ, start_response):
    """One block of `length` bytes in a list."""
    asked, _ = begin(environ, start_response, ("X-Accept", environ.get("HTTP_ACCEPT_ENCODING", "")))
    return [text(int(asked.get("length", 5000)))]


@routes("/list")
def several_blocks(environ, start_response):
    """All of it in a list of blocks."""
    asked, _ = begin(environ, start_response)
    whole = text(int(asked["length"]))
    return [whole[at : at + 1000] for at in range(0, len(whole), 1000)]


@routes("/generator")
def generator(environ, start_response):
    """The same, yielded block by block; ends with `error` where the query says so."""
    asked, _ = begin(environ, start_response)
    whole = text(int(asked["length"]))

    def blocks():
        for at in range(0, len(whole), 1000):
            yield whole[at : at + 1000]
        if "error" in asked:
            raise RuntimeError("midway")

    return blocks()


@routes("/write")
def by_write(environ, start_response):
    """The same by the callable that start_response returns."""
    asked, write = begin(environ, start_response)
    whole = text(int(asked["length"]))
    for at in range(0, len(whole), 1000):
        write(whole[at : at + 1000])
    return []


@routes("/file")
def file(environ, start_response):
    """A file by wsgi.file_wrapper."""
    asked, _ = begin(environ, start_response)
    return environ["wsgi.file_wrapper"](open(asked["name"], "rb"))


@routes("/memory-file")
def memory_file(environ, start_response):
    """What is no file of the system's, by wsgi.file_wrapper."""
    asked, _ = begin(environ, start_response)
    return environ["wsgi.file_wrapper"](io.BytesIO(text(int(asked["length"]))))


@routes("/held")
def held(environ, start_response):
    """Yields a block, and the next one when its gate is open."""
    asked, _ = begin(environ, start_response)

    def blocks():
        for number in range(5):
            yield b"block %d\n" % number
            rendezvous.hold(f"{asked['gate']}-{number}")

    return blocks()


@routes("/stamps")
def stamps(environ, start_response):
    """Yields the time, again and again."""
    begin(environ, start_response)

    def blocks():
        for _ in range(50):
            yield b"%d\n" % time.monotonic_ns()
            time.sleep(0.02)

    return blocks()


@routes("/large")
def large(environ, start_response):
    """So many MiB, yielded one at a time."""
    asked, _ = begin(environ, start_response)
    return (BLOCK for _ in range(int(asked["mib"])))
