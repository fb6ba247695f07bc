"""Long responses: whole, in blocks, and without end. Each byte tells its place."""

from __future__ import annotations

from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

BLOCK_BYTES = 64 * 1024
TEXT = [("Content-Type", "text/plain")]


def content(length: int) -> bytes:
    """The first `length` bytes of any of these responses."""
    pattern = b"".join(b"%07d\n" % number for number in range(10_000))
    return (pattern * (length // len(pattern) + 1))[:length]


@routes("/whole")
def whole(environ, start_response):
    """One block, made for this response."""
    start_response("200 OK", TEXT)
    return [content(int(parameters(environ)["length"]))]


@routes("/list")
def blocks(environ, start_response):
    """A list of blocks of half a megabyte."""
    body = content(int(parameters(environ)["length"]))
    start_response("200 OK", TEXT)
    return [body[at : at + (1 << 19)] for at in range(0, len(body), 1 << 19)]


@routes("/generator")
def generator(environ, start_response):
    """Blocks that are made one by one; `known`: with Content-Length."""
    query = parameters(environ)
    body = content(int(query["length"]))
    start_response("200 OK", [*TEXT, *([("Content-Length", query["length"])] if "known" in query else [])])
    return (body[at : at + BLOCK_BYTES] for at in range(0, len(body), BLOCK_BYTES))


@routes("/endless")
def endless(environ, start_response):
    """Blocks without end."""
    start_response("200 OK", TEXT)
    while True:
        yield b"x" * BLOCK_BYTES


@routes("/length")
def length(environ, start_response):
    """The length of the request's body."""
    return plain(start_response, str(len(environ["wsgi.input"].read())))
