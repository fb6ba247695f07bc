"""What an application may return and what it must not: iterables, files, early hints, one path a case."""

from __future__ import annotations

import io
import time
from pathlib import Path

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain
from apps.tracked import Tracked

PLAIN = [("Content-Type", "text/plain")]

routes = Routes()


BODIES = {
    "one": lambda: [b"hello"],
    "tuple": lambda: (b"hello",),
    "empty-list": list,
    "empty-block": lambda: [b""],
    "many": lambda: [b"hel", b"", b"lo"],
    "generator": lambda: (block for block in [b"hel", b"lo"]),
    "empty-generator": lambda: iter(()),
    "zero-blocks": lambda: (block for block in [b"", b"hel", b"", b"", b"lo", b""]),
    "large": lambda: [b"x" * 3_000_000],
    "large-blocks": lambda: (b"%07d" % number * 10_000 for number in range(40)),
    "set": lambda: {b"hello"},
    "dict": lambda: {b"hello": 1},
    "sequence": lambda: Sequence([b"hel", b"lo"]),
}


class Sequence:
    """Iterable by __getitem__ alone, as the old protocol has it."""

    def __init__(self, blocks) -> None:
        self.blocks = blocks

    def __getitem__(self, index):
        return self.blocks[index]


@routes("/body")
def body(environ, start_response):
    """The body named by `kind`, with the Content-Length of `length` and the status of `status` if given."""
    query = parameters(environ)
    headers = [*PLAIN, *([("Content-Length", query["length"])] if "length" in query else [])]
    start_response(query.get("status", "200 OK"), headers)
    return BODIES[query["kind"]]()


@routes("/tracked")
def tracked(environ, start_response):
    """The same, from an iterable with close()."""
    query = parameters(environ)
    headers = [*PLAIN, *([("Content-Length", query["length"])] if "length" in query else [])]
    start_response(query.get("status", "200 OK"), headers)
    return Tracked(environ, BODIES[query["kind"]]())


@routes("/held-blocks")
def held_blocks(environ, start_response):
    """Each block only when the test has seen the one before."""

    def blocks():
        yield b"first"
        rendezvous.hold("second")
        yield b"second"
        rendezvous.hold("third")
        yield b"third"

    start_response("200 OK", PLAIN)
    return Tracked(environ, blocks())


@routes("/computed-blocks")
def computed_blocks(environ, start_response):
    """Computes for as long as `seconds` between its blocks, without letting go of the interpreter."""
    seconds = float(parameters(environ)["seconds"])

    def blocks():
        yield b"first"
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        yield b"second"

    start_response("200 OK", PLAIN)
    return blocks()


@routes("/endless")
def endless(environ, start_response):
    """Never ends by itself."""

    def blocks():
        while True:
            yield b"x" * 10_000

    start_response("200 OK", PLAIN)
    return Tracked(environ, blocks())


WRONG_VALUES = {
    "none": None,
    "integer": 7,
    "text": "text",
    "bytes": b"iterating bytes gives integers",
    "text-block": ["text"],
    "none-block": [None],
    "integer-block": [7],
    "list-block": [[b"nested"]],
    "object": object(),
}


@routes("/wrong")
def wrong(environ, start_response):
    """Returns what no server can send."""
    start_response("200 OK", PLAIN)
    return WRONG_VALUES[parameters(environ)["value"]]


@routes("/wrong-later")
def wrong_later(environ, start_response):
    """A wrong block when the head has gone out."""
    start_response("200 OK", PLAIN)
    return Tracked(environ, iter([b"first", WRONG_VALUES[parameters(environ)["value"]]]))


# file_wrapper


class Unseekable(io.BytesIO):
    """A file-like object with only read and close."""

    def seek(self, *_):
        raise io.UnsupportedOperation("seek")

    def tell(self):
        raise io.UnsupportedOperation("tell")


class TrackedFile(io.FileIO):
    """A real file that tells when it is closed."""

    def close(self) -> None:
        if not self.closed:
            rendezvous.emit("closed /file")
        super().close()


@routes("/file")
def file(environ, start_response):
    """Sends the file of X-File: `kind` says how it is opened, `skip` how much of it is read before."""
    query = parameters(environ)
    path = Path(environ["HTTP_X_FILE"])
    kinds = {
        "real": lambda: TrackedFile(path),
        "buffered": lambda: path.open("rb"),
        "memory": lambda: io.BytesIO(path.read_bytes()),
        "unseekable": lambda: Unseekable(path.read_bytes()),
    }
    stream = kinds[query["kind"]]()
    stream.read(int(query.get("skip", "0")))
    headers = [*PLAIN, *([("Content-Length", query["length"])] if "length" in query else [])]
    start_response("200 OK", headers)
    block = [int(query["block"])] if "block" in query else []
    wrapped = environ["wsgi.file_wrapper"](stream, *block)
    return Tracked(environ, iter(wrapped)) if "iterated" in query else wrapped


# Early hints


@routes("/hints")
def hints(environ, start_response):
    """Sends 103 twice, then the answer."""
    early = environ["wsgi.early_hints"]
    early([("Link", "</style.css>; rel=preload; as=style")])
    early([("Link", "</app.js>; rel=preload; as=script"), ("X-Hint", "2")])
    return plain(start_response, "hinted")


@routes("/hints-bad")
def hints_bad(environ, start_response):
    """Tries to put a field of its own into the interim answer."""
    environ["wsgi.early_hints"]([("Link", "</a>\r\nX-Injected: 1")])
    return plain(start_response, "hinted")


@routes("/hints-late")
def hints_late(environ, start_response):
    """Hints when the head has gone out: they must not stand within the body."""

    def blocks():
        yield b"first"
        try:
            environ["wsgi.early_hints"]([("Link", "</late>")])
        except Exception as error:
            rendezvous.emit(f"late hints raised {type(error).__name__}")
        yield b"second"

    start_response("200 OK", PLAIN)
    return blocks()
