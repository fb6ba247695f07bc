"""An application that meddles with what is the server's: descriptors, shared memory, the control socket."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time

from apps.meeting import rendezvous
from apps.processes import routes as processes
from apps.routes import Routes, parameters, plain

routes = Routes()
routes.include(processes)
application = routes.application


def links() -> dict[int, str]:
    """What is open, by number."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # The folder itself.
    return found


def sockets() -> list[socket.socket]:
    """Copies of all sockets, the oldest first."""
    found = []
    for number, link in links().items():
        if link.startswith("socket:"):
            found.append((int(link[8:-1]), socket.socket(fileno=os.dup(number))))
    return [copy for _, copy in sorted(found, key=lambda pair: pair[0])]


def number_of(copy: socket.socket) -> int:
    """The number under which the server has the socket of this copy."""
    inode = os.readlink(f"/proc/self/fd/{copy.fileno()}")
    return min(number for number, link in links().items() if link == inode)


def control_line() -> socket.socket:
    """The socket to the supervisor: made after those to other workers."""
    return [copy for copy in sockets() if copy.type == socket.SOCK_SEQPACKET][-1]


def numbers(what: str) -> list[int]:
    """The descriptors that are meant by a word."""
    if what == "line":
        return [number_of(control_line())]
    if what == "listener":
        listening = [
            copy for copy in sockets() if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        ]
        return [number_of(copy) for copy in listening]
    return [number for number, link in links().items() if what in link]


@routes("/close")
def close(environ, start_response):
    """Closes what is named: numbers, a word for a descriptor of the server's, or `everything`."""
    for what in parameters(environ)["what"].split(","):
        rendezvous.emit(f"closes {what}")
        if what == "everything":
            os.closerange(3, 4096)
        elif what.isdecimal():
            os.close(int(what))
        else:
            found = numbers(what)
            assert found, (what, links())
            for number in found:
                os.close(number)
    return plain(start_response, str(os.getpid()))


@routes("/descriptors")
def descriptors(environ, start_response):
    """What is open under these numbers."""
    found = links()
    asked = parameters(environ)["numbers"].split(",")
    return plain(start_response, ",".join(found.get(int(number), "nothing") for number in asked))


@routes("/say")
def say(environ, start_response):
    """Writes a secret to standard output and error, past Python's streams."""
    for number in (1, 2):
        try:
            os.write(number, b"the secret token\n")
        except OSError:
            pass
    return plain(start_response, "said")


@routes("/log")
def log(environ, start_response):
    """Writes lines of `bytes` into the error log, `count` of them, and ends the process if it is to."""
    query = parameters(environ)
    line = query.get("text", "x") * int(query.get("bytes", "1"))
    for number in range(int(query.get("count", "1"))):
        environ["wsgi.errors"].write(f"{line} {number}\n")
    if "abort" in query:
        os.abort()
    if "exit" in query:
        os._exit(int(query["exit"]))
    return plain(start_response, str(os.getpid()))


@routes("/shorten")
def shorten(environ, start_response):
    """Tries to change the length of all shared memory; answers what came of it."""
    told = []
    for number, link in links().items():
        if not link.startswith("/memfd:portico-") or "stacks" in link:
            continue
        size = os.fstat(number).st_size
        for length in (0, size // 2, size + 4096):
            try:
                os.ftruncate(number, length)
                told.append(f"{link}: {size} became {length}")
            except OSError as error:
                told.append(f"{link}: {error.strerror}")
    return plain(start_response, "\n".join(told))


@routes("/stretch-stacks")
def stretch_stacks(environ, start_response):
    """Makes the file of stacks a huge one."""
    for number in numbers("portico-stacks"):
        os.ftruncate(number, 1 << 36)
    return plain(start_response, str(os.getpid()))


@routes("/leave-child")
def leave_child(environ, start_response):
    """Forks a process that lives on and has all descriptors; then answers, whole or cut."""
    way = parameters(environ).get("way", "whole")
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    rendezvous.emit(f"child {child}")
    if way == "whole":
        return plain(start_response, str(os.getpid()))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return cut()


def cut():
    """A body that does not come to its end."""
    yield b"a beginning"
    raise RuntimeError("planted error")


@routes("/junk")
def junk(environ, start_response):
    """Puts messages into the queues between workers that are none of theirs."""
    for copy in sockets():
        if copy.type == socket.SOCK_SEQPACKET and number_of(copy) != number_of(control_line()):
            for _ in range(200):
                with contextlib.suppress(BlockingIOError):
                    copy.send(b"nothing of the kind", socket.MSG_DONTWAIT)
    return plain(start_response, str(os.getpid()))


@routes("/flood")
def flood(environ, start_response):
    """Writes to the supervisor without end, what the query says."""
    message = parameters(environ)["message"].encode()
    line = control_line()

    def write() -> None:
        rendezvous.emit("floods")
        while True:
            try:
                line.send(message)
            except BlockingIOError:
                select.select([], [line], [], 1)
            except OSError:
                return

    threading.Thread(target=write, daemon=True).start()
    return plain(start_response, str(os.getpid()))
