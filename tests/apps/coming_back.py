"""Forks a process that comes back, by whatever way, from where it was forked."""

import os
import sys

from apps.meeting import rendezvous
from apps.processes import application as inner


def fork():
    pid = os.fork()
    if pid:
        rendezvous.emit(f"forked {pid}")
    return pid == 0


if os.environ.get("FORK_AT_IMPORT"):
    fork()


class Stream:
    def __iter__(self):
        yield b"a"
        fork()
        yield b"b"

    def close(self):
        fork()


def application(environ, start_response):
    way = environ["PATH_INFO"]
    if way == "/return":
        fork()
    if way == "/exit" and fork():
        sys.exit(5)
    if way == "/raise" and fork():
        raise RuntimeError("planted error")
    if way == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Stream()
    return inner({**environ, "PATH_INFO": "/pid"}, start_response)
