"""Responses that end before their end, after a good part of them."""

from __future__ import annotations

import time

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

BLOCK = bytes(range(256)) * 64


def block_list(environ) -> list[bytes]:
    """The blocks that are given, each told from the others by its first bytes."""
    return [b"%06d" % number + BLOCK[6:] for number in range(int(parameters(environ).get("blocks", "40")))]


def headers(environ) -> list[tuple[str, str]]:
    """With a Content-Length of one byte more than there are, where one is asked for."""
    blocks = block_list(environ)
    length = [("Content-Length", str(sum(map(len, blocks)) + 1))] if "length" in parameters(environ) else []
    return [("Content-Type", "application/octet-stream"), *length]


@routes("/raises")
def raises(environ, start_response):
    """Yields blocks, then fails."""
    rendezvous.emit("begins")
    start_response("200 OK", headers(environ))
    yield from block_list(environ)
    rendezvous.emit("raises")
    raise ValueError("planted error")


@routes("/written")
def written(environ, start_response):
    """Writes blocks, then fails."""
    write = start_response("200 OK", headers(environ))
    for block in block_list(environ):
        write(block)
    raise ValueError("planted error")


@routes("/short")
def short(environ, start_response):
    """Yields fewer bytes than are announced."""
    rendezvous.emit("begins")
    start_response("200 OK", headers(environ))
    yield from block_list(environ)
    rendezvous.emit("ends")


@routes("/short-list")
def short_list(environ, start_response):
    """Returns fewer bytes than are announced, all at once."""
    start_response("200 OK", headers(environ))
    return block_list(environ)


@routes("/short-block")
def short_block(environ, start_response):
    """Returns fewer bytes than are announced, in one block."""
    start_response("200 OK", headers(environ))
    return [b"".join(block_list(environ))]


@routes("/hangs")
def hangs(environ, start_response):
    """Yields blocks, then does not go on."""
    start_response("200 OK", headers(environ))
    yield from block_list(environ)
    while True:
        time.sleep(0.01)


@routes("/hangs-for-good")
def hangs_for_good(environ, start_response):
    """Yields blocks, then cannot be interrupted for some seconds."""
    start_response("200 OK", headers(environ))
    yield from block_list(environ)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


@routes("/file")
def file(environ, start_response):
    """Sends a file, which the test shortens meanwhile."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](open(environ["HTTP_X_FILE"], "rb"))


@routes("/whole")
def whole(environ, start_response):
    """A response as it should be."""
    return plain(start_response, "whole")
