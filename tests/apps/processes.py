"""Tells which process answers, and can harm that process in every way that is known."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

hoard: list[bytearray] = []


@routes("/pid")
def pid(environ, start_response):
    """The process."""
    return plain(start_response, str(os.getpid()))


@routes("/switch-interval")
def switch_interval(environ, start_response):
    """How soon a thread that computes has to let another one run."""
    return plain(start_response, str(sys.getswitchinterval()))


@routes("/multiprocess")
def multiprocess(environ, start_response):
    """What the server says about other processes."""
    return plain(start_response, str(environ["wsgi.multiprocess"]))


@routes("/work")
def work(environ, start_response):
    """Emits `runs NAME PID`, sleeps, answers the process id."""
    query = parameters(environ)
    rendezvous.emit(f"runs {query['name']} {os.getpid()}")
    time.sleep(float(query.get("seconds", "0")))
    return plain(start_response, str(os.getpid()))


@routes("/hold")
def hold(environ, start_response):
    """Waits at a gate; answers the process id."""
    rendezvous.hold(parameters(environ)["gate"])
    return plain(start_response, str(os.getpid()))


@routes("/sleep")
def sleep(environ, start_response):
    """Sleeps; answers the process id."""
    time.sleep(float(parameters(environ)["seconds"]))
    return plain(start_response, str(os.getpid()))


@routes("/segfault")
def segfault(environ, start_response):
    """Reads from address 0."""
    ctypes.string_at(0)


@routes("/exit")
def exit_process(environ, start_response):
    """Ends the process past the server."""
    os._exit(int(parameters(environ)["status"]))


@routes("/abort")
def abort(environ, start_response):
    """As a failed assertion of C code does it."""
    os.abort()


@routes("/leak")
def leak(environ, start_response):
    """Keeps so many bytes for ever."""
    hoard.append(bytearray(b"x" * int(parameters(environ)["bytes"])))
    return plain(start_response, str(os.getpid()))


@routes("/spin")
def spin(environ, start_response):
    """Computes for ever, in Python."""
    rendezvous.emit(f"spins {os.getpid()}")
    while True:
        pass


@routes("/stuck")
def stuck(environ, start_response):
    """Never comes back from C code, a lock that it has itself; with `interpreter` it lets nobody else run."""
    library = ctypes.PyDLL(None) if "interpreter" in parameters(environ) else ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(128)
    library.pthread_mutex_lock(mutex)
    rendezvous.emit(f"stuck {os.getpid()}")
    library.pthread_mutex_lock(mutex)


@routes("/orphan")
def orphan(environ, start_response):
    """Leaves a process behind that ends as nobody's child; answers its id."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(0.3)
        else:
            os.write(writer, str(grandchild).encode())
        os._exit(0)
    os.waitpid(child, 0)
    number = os.read(reader, 20)
    os.close(reader)
    os.close(writer)
    return plain(start_response, number.decode())


@routes("/signals")
def signals(environ, start_response):
    """Which signals that end processes are handled by code of the application."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    told = [f"{number.name}={signal.getsignal(number)!r}" for number in numbers]
    return plain(start_response, "; ".join(told))


@routes("/threads")
def threads(environ, start_response):
    """Names of the threads that Python knows."""
    return plain(start_response, ",".join(sorted(thread.name for thread in threading.enumerate())))
