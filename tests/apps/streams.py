"""What frameworks do with wsgi.input, wsgi.errors and wsgi.file_wrapper beyond reading and writing."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application


def answer(start_response, value):
    """A value as JSON."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]


def outcome(function, *arguments):
    """What a call gives, or the class of what it raises with that of its base that `io` names."""
    try:
        value = function(*arguments)
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}"
    return value if isinstance(value, (bool, int, str, type(None))) else type(value).__name__


QUESTIONS = ["readable", "seekable", "writable", "isatty", "flush", "tell", "fileno", "truncate"]


def asked(stream):
    """What a stream says of itself, and of what it cannot do."""
    told = {name: outcome(getattr(stream, name)) for name in QUESTIONS}
    told["write"] = outcome(stream.write, "x" if isinstance(stream, io.TextIOBase) else b"x")
    told["seek"] = outcome(stream.seek, 0)
    told["detach"] = outcome(stream.detach)
    return told


def missing(stream, base):
    """Public names of `base` that the stream does not have."""
    return [name for name in dir(base) if not name.startswith("_") and not hasattr(stream, name)] + [
        name for name in ("__enter__", "__exit__", "__iter__", "__next__") if not hasattr(stream, name)
    ]


@routes("/input")
def input_(environ, start_response):
    """What wsgi.input says of itself; it is read afterwards, so that nothing of it is gone."""
    stream = environ["wsgi.input"]
    told = asked(stream)
    told["missing"] = missing(stream, io.BufferedIOBase)
    told["is a stream"] = isinstance(stream, io.BufferedIOBase)
    with stream as entered:
        told["enters"] = entered is stream
    told["closed"] = stream.closed
    stream.close()
    told["body"] = stream.read().decode()
    return answer(start_response, told)


def with_text(stream):
    """In a `with`, at whose end the stream is closed."""
    with io.TextIOWrapper(stream, "utf-8") as text:
        return text.read()


def read_into(stream, name):
    """Into a buffer of seven bytes, until nothing comes."""
    buffer, parts = bytearray(7), []
    while count := getattr(stream, name)(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts).decode()


WAYS = {
    "text": lambda stream: io.TextIOWrapper(stream, "utf-8").read(),
    "with": with_text,
    "lines": lambda stream: "".join(io.TextIOWrapper(stream, "utf-8", newline="")),
    "buffered": lambda stream: io.BufferedReader(stream).read().decode(),
    "buffered-lines": lambda stream: b"".join(io.BufferedReader(stream)).decode(),
    "csv": lambda stream: "".join(
        ",".join(row) + "\r\n" for row in csv.reader(io.TextIOWrapper(stream, "utf-8", newline=""))
    ),
    "readinto": lambda stream: read_into(stream, "readinto"),
    "readinto1": lambda stream: read_into(stream, "readinto1"),
    "detached": lambda stream: io.TextIOWrapper(stream, "utf-8").detach().read().decode(),
    "rw-pair": lambda stream: io.BufferedRWPair(stream, io.BytesIO()).read().decode(),
}


@routes("/way")
def way(environ, start_response):
    """Reads wsgi.input in one of these ways, and what is left of it."""
    text = WAYS[parameters(environ)["way"]](environ["wsgi.input"])
    return answer(start_response, [text, environ["wsgi.input"].read().decode()])


@routes("/errors")
def errors(environ, start_response):
    """What wsgi.errors says of itself."""
    stream = environ["wsgi.errors"]
    told = asked(stream)
    told["missing"] = [name for name in missing(stream, io.TextIOBase) if name != "__next__"]
    told["encoding"] = stream.encoding
    told["read"] = outcome(stream.read)
    with stream as entered:
        entered.write("written in a with\n")
    return answer(start_response, told)


class OnlyRead:
    """A file-like object that can be read and nothing else."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def read(self, size):
        return self.data.read(size)


@routes("/wrapper")
def wrapper(environ, start_response):
    """What wsgi.file_wrapper says of several objects."""
    wrap = environ["wsgi.file_wrapper"]
    path = Path(environ["HTTP_X_FILE"])
    told = {}
    for name, filelike in {
        "file": path.open("rb"),
        "bytes": io.BytesIO(b"0123456789"),
        "read": OnlyRead(b"0123456789"),
    }.items():
        wrapped = wrap(filelike, blksize=4)
        told[name] = {"missing": missing(wrapped, io.BufferedIOBase)} | asked(wrapped)
        told[name]["fileno"] = type(told[name]["fileno"]).__name__ if name == "file" else told[name]["fileno"]
        told[name]["blksize"] = wrapped.blksize
        told[name]["same"] = wrapped.filelike is filelike
    with wrap(io.BytesIO(b"0123456789"), 3) as wrapped:
        parts = [next(wrapped), wrapped.read(2), wrapped.tell(), wrapped.seek(1), wrapped.read()]
        buffer = bytearray(4)
        wrapped.seek(0)
        parts += [wrapped.readinto(buffer), bytes(buffer), list(wrapped)]
    told["used"] = repr([*parts, wrapped.closed])
    only_read = wrap(OnlyRead(b"0123456789"))
    told["only read"] = repr([only_read.read1(2), only_read.readinto(buffer), bytes(buffer)])
    told["only read"] += repr(only_read.readinto1(buffer))
    told["text"] = io.TextIOWrapper(wrap(io.BytesIO(b"a\nb\n")), "utf-8").readlines()
    told["name"] = wrap(path.open("rb"), 100).name == str(path)
    told["no such"] = hasattr(wrap(io.BytesIO()), "no_such")
    return answer(start_response, told)


class Counted:
    """A file that counts what is read of it."""

    def __init__(self, path):
        self.file = path.open("rb")
        self.bytes = 0

    def read(self, *size):
        data = self.file.read(*size)
        self.bytes += len(data)
        return data

    def close(self):
        rendezvous.emit(f"read {self.bytes}")
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@routes("/werkzeug")
def werkzeug(environ, start_response):
    """What werkzeug makes of a file and a Range."""
    from werkzeug.utils import send_file

    path = Path(environ["HTTP_X_FILE"])
    given = Counted(path) if "counted" in parameters(environ) else path
    response = send_file(
        given, environ, mimetype="application/octet-stream", conditional=True, last_modified=1
    )
    if "counted" in parameters(environ):
        response.headers.pop("Content-Length", None)
        response.make_conditional(environ, accept_ranges=True, complete_length=path.stat().st_size)
    return response(environ, start_response)


@routes("/path")
def path(environ, start_response):
    """The file of X-File, through wsgi.file_wrapper."""
    skip = int(parameters(environ).get("skip", "0"))
    stream = open(environ["HTTP_X_FILE"], "rb")
    stream.seek(skip)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](stream)


@routes("/growing")
def growing(environ, start_response):
    """A file that grows while it is read."""

    class Growing(io.FileIO):
        def read(self, size=-1):
            data = super().read(size)
            if not data and self.tell() < 40:
                with open(environ["HTTP_X_FILE"], "ab") as more:
                    more.write(b"grown 10 b")
                data = super().read(size)
            return data

    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](Growing(environ["HTTP_X_FILE"], "rb"))


# Iteration


@routes("/counted-blocks")
def counted_blocks(environ, start_response):
    """Blocks of five bytes; tells how many were asked for and how the iteration ended."""
    query = parameters(environ)
    count = 0

    def blocks():
        nonlocal count
        try:
            while True:
                count += 1
                yield b"block"
        finally:
            rendezvous.emit(f"asked for {count}")

    headers = [("Content-Type", "text/plain")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    start_response(query.get("status", "200 OK"), headers)
    return blocks()


@routes("/until-gone")
def until_gone(environ, start_response):
    """Yields blocks until it is closed; `block`: of this content, `head`: after so many empty ones."""
    query = parameters(environ)
    pause = float(query.get("pause", "0.02"))

    def blocks():
        number = 0
        try:
            for number in range(int(10 / pause) if pause else 1 << 40):
                if number == 0 and "first" in query:
                    yield query["first"].encode()
                rendezvous.emit("begins") if number == 0 else None
                yield query.get("block", "").encode()
                rendezvous.emit("yields") if pause or number % 1000 == 0 else None
                time.sleep(pause) if pause else None
        except GeneratorExit:
            rendezvous.emit("closed early")
            raise
        rendezvous.emit(f"ran to its end after {number}")

    start_response("200 OK", [("Content-Type", "text/plain")])
    return blocks()


@routes("/write-until-gone")
def write_until_gone(environ, start_response):
    """Writes until that raises."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    rendezvous.emit("begins")
    for _ in range(500):
        try:
            write(parameters(environ).get("block", "").encode())
        except ConnectionError as error:
            rendezvous.emit(f"write raised {type(error).__name__}")
            return []
        time.sleep(0.02)
    rendezvous.emit("wrote to its end")
    return plain(start_response, "done")
