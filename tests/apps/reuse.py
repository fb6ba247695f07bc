"""Keeps what requests are given, and uses it when it is late."""

from __future__ import annotations

import gzip
import tempfile
import threading

from apps.routes import Routes, plain

routes = Routes()
application = routes.application
kept: list[tuple] = []


@routes("/keep")
def keep(environ, start_response):
    """Keeps everything."""
    write = start_response("200 OK", [("X-Kept", "yes")])
    kept.append((environ, start_response, write, environ["wsgi.early_hints"]))
    return [b"kept"]


@routes("/late")
def late(environ, start_response):
    """Uses what others were given, before and after its own start_response; tells what they raised."""
    results: list[str] = []
    for exc_info in (None, (ValueError, ValueError(), None)):
        for theirs, their_start_response, their_write, their_early_hints in kept:
            results.append(outcome(their_start_response, "500 Stolen", [("X-Stolen", "yes")]))
            results.append(outcome(their_write, b"stolen"))
            results.append(outcome(their_early_hints, [("Link", "</stolen>")]))
            results.append(theirs["PATH_INFO"])
        start_response("200 OK", [("X-Own", "yes")], exc_info)
    return [" ".join(results).encode()]


@routes("/thread")
def in_a_thread(environ, start_response):
    """Calls start_response in a thread that it starts."""
    thread = threading.Thread(target=start_response, args=("200 OK", [("X-Thread", "yes")]))
    thread.start()
    thread.join()
    return [b"threaded"]


@routes("/gzip")
def unpacked(environ, start_response):
    """A file-like object whose descriptor has other bytes than it gives."""
    packed = tempfile.NamedTemporaryFile()
    packed.write(gzip.compress(b"unpacked " * 1000))
    packed.flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](gzip.open(packed.name))


@routes("/change")
def change(environ, start_response):
    """Changes its environ; tells what an earlier request left in it."""
    found = environ.get("HTTP_X_LEFT", "nothing")
    environ["HTTP_X_LEFT"] = environ["HTTP_HOST"] = "changed"
    environ.pop("wsgi.errors")
    return plain(start_response, found)


def outcome(function, *arguments) -> str:
    """What calling it raises."""
    try:
        function(*arguments)
    except Exception as error:
        return type(error).__name__
    return "nothing"
