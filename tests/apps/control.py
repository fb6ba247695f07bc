"""An application whose calls the test steers: held, counted, slow, large."""

from __future__ import annotations

import multiprocessing
import threading
import time

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

lock = threading.Lock()
running: set[object] = set()
running_most: list[int] = [0]
threads_seen: set[int] = set()
local = threading.local()


@routes("/hold")
def hold(environ, start_response):
    """Waits at a gate."""
    gate = parameters(environ)["gate"]
    rendezvous.hold(gate)
    return plain(start_response, f"held {gate}")


@routes("/hold-each")
def hold_each(environ, start_response):
    """Emits which request runs, then waits at a gate that many share."""
    query = parameters(environ)
    rendezvous.emit(f"runs {query['name']}")
    rendezvous.hold(query["gate"])
    return plain(start_response, query["name"])


@routes("/run")
def run(environ, start_response):
    """Emits that it runs."""
    name = parameters(environ)["name"]
    rendezvous.emit(f"runs {name}")
    return plain(start_response, name)


@routes("/sleep")
def sleep(environ, start_response):
    """Sleeps."""
    time.sleep(float(parameters(environ)["seconds"]))
    return plain(start_response, "slept")


@routes("/spin")
def spin(environ, start_response):
    """Computes, holding the interpreter, for so long."""
    end = time.perf_counter() + float(parameters(environ)["seconds"])
    while time.perf_counter() < end:
        pass
    return plain(start_response, "spun")


@routes("/concurrency")
def concurrency(environ, start_response):
    """Counts the calls that run at once and the threads that ever ran one."""
    call = object()
    with lock:
        running.add(call)
        running_most[0] = max(running_most[0], len(running))
        threads_seen.add(threading.get_ident())
    local.calls = getattr(local, "calls", 0) + 1
    time.sleep(float(parameters(environ).get("seconds", "0")))
    with lock:
        running.remove(call)
    return plain(start_response, f"{local.calls} {threading.current_thread().name}")


@routes("/figures")
def figures(environ, start_response):
    """Most calls at once, and number of threads that ever ran one."""
    return plain(start_response, f"{running_most[0]} {len(threads_seen)}")


def tell_and_sleep(connection):
    """What the forked process does."""
    connection.send("runs")
    time.sleep(60)


@routes("/fork-and-terminate")
def fork_and_terminate(environ, start_response):
    """Forks a process that sleeps, terminates it and tells its exit code."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_and_sleep, args=(theirs,))
    process.start()
    ours.recv()
    process.terminate()
    process.join(5)
    code = process.exitcode
    process.kill()
    return plain(start_response, str(code))


@routes("/large")
def large(environ, start_response):
    """An answer of `bytes` bytes: one block, or blocks of `block` bytes."""
    query = parameters(environ)
    total = int(query["bytes"])
    block = int(query.get("block", total))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(total))])
    if block == total:
        return [b"x" * total]
    return blocks_of(total, block, query.get("name", "large"))


def blocks_of(total, block, name):
    """`total` bytes in blocks; emits when the last was taken or the server gave up."""
    data = b"x" * block
    try:
        for _ in range(total // block):
            yield data
        rendezvous.emit(f"all of {name} is sent")
    except GeneratorExit:
        rendezvous.emit(f"{name} is closed early")
        raise


@routes("/consume")
def consume(environ, start_response):
    """Reads the body in blocks and counts it."""
    total = 0
    while data := environ["wsgi.input"].read(65536):
        total += len(data)
    return plain(start_response, str(total))
