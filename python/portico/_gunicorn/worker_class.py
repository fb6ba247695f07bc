"""What a class of gunicorn's workers, or one that derives from it, amounts to: judged by its bases."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import inspect
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from portico.compat import finder

# The class itself, by module and name, and what the table of settings calls such workers.
KINDS = {
    ("gunicorn.workers.sync", "SyncWorker"): "sync",
    ("gunicorn.workers.gthread", "ThreadWorker"): "gthread",
    ("gunicorn.workers.ggevent", "GeventWorker"): "gevent",
    ("gunicorn.workers.geventlet", "EventletWorker"): "eventlet",
    ("gunicorn.workers.base_async", "AsyncWorker"): "gevent",
    ("gunicorn.workers.gtornado", "TornadoWorker"): "tornado",
}
WORKER = ("gunicorn.workers.base", "Worker")

# Packages whose workers serve ASGI applications, or those of a framework of their own.
ASGI = (
    "uvicorn",
    "uvicorn_worker",
    "aiohttp",
    "hypercorn",
    "gunicorn.workers.gasgi",
    "daphne",
    "sanic",
    "quart",
)

# Packages whose workers have WebSockets in a way of their own.
WEBSOCKETS = ("geventwebsocket", "flask_sockets")

# How long the import of a class may take.
PATIENCE = 60.0

Judgement = tuple[str, list[str]]


class Unfit(Exception):
    """The class is none that Portico can stand in for; the message says why, in one line."""


def judge(cls: type) -> Judgement:
    """What the table of settings calls workers of this class, and what of it is lost."""
    homes = [
        (base, base.__module__.removeprefix("portico.compat."), base.__qualname__) for base in cls.__mro__
    ]
    if any(is_in(home, ASGI) for _, home, _ in homes):
        return "asgi", []
    own: list[str] = []
    for base, home, name in homes:
        kind = KINDS.get((home, name))
        if kind:
            return kind, losses(cls, kind, own)
        if (home, name) == WORKER or base is object:
            break
        if home != "gunicorn.workers.ggevent":
            own += [member for member in vars(base) if is_code(base, member) and member not in own]
    raise Unfit(
        f"{cls.__module__}.{cls.__qualname__} derives from no worker class that Portico can stand in for"
    )


def is_in(home: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of these or in one of them."""
    return any(home == package or home.startswith(f"{package}.") for package in packages)


def is_code(base: type, member: str) -> bool:
    """Whether it is a method that would have been called."""
    value = inspect.getattr_static(base, member)
    is_special = member.startswith("__") and member != "__init__"
    return not is_special and isinstance(value, (classmethod, property, staticmethod, type(is_code)))


def losses(cls: type, kind: str, own: list[str]) -> list[str]:
    """What a worker of this class would have done that is not done here."""
    lost = []
    if own:
        lost.append(
            f"{cls.__qualname__} is served as {kind}: its own {', '.join(sorted(own))} "
            f"{'is' if len(own) == 1 else 'are'} not called; hooks such as post_fork and post_worker_init are"
        )
    if any(is_in(base.__module__, WEBSOCKETS) for base in cls.__mro__):
        lost.append(
            "environ['wsgi.websocket'] is not there; WebSockets come by environ['gunicorn.socket'], as for "
            "flask-sock and simple-websocket"
        )
    return lost


def find(name: str) -> type:
    """Imports the class that `name` names: a path with dots, or `egg:DISTRIBUTION#NAME`."""
    finder.install()
    try:
        found = from_entry_point(name) if name.startswith("egg:") else from_path(name)
    except Unfit:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise Unfit(f"{name!r} cannot be imported: {told}") from error
    if not inspect.isclass(found):
        raise Unfit(f"{name!r} is no class")
    return found


def from_path(name: str) -> Any:
    """What a path with dots names."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise Unfit(
            f"{name!r} is no worker class that Portico can stand in for; leave it out, or write gthread, "
            "sync, gevent, eventlet or tornado"
        )
    return getattr(importlib.import_module(module), attribute)


def from_entry_point(name: str) -> Any:
    """What an entry point of the group gunicorn.workers names."""
    distribution, _, point = name.removeprefix("egg:").rpartition("#")
    points = importlib.metadata.distribution(distribution).entry_points
    for entry in points:
        if entry.group == "gunicorn.workers" and entry.name == point:
            return entry.load()
    raise Unfit(f"{name!r}: {distribution} has no such entry point")


def examine(name: str, folders: list[str]) -> Judgement:
    """Judges the class that `name` names; `folders` are looked in first.

    It is imported in a process of its own: what that does to a process must not be done to this one. gevent
    and eventlet patch it.
    """

    def work() -> Any:
        sys.path[:0] = folders
        return judge(find(name))

    told = in_child(work)
    if told is None:
        raise Unfit(f"{name!r} cannot be imported: the import ends the process, or takes too long")
    if "unfit" in told:
        raise Unfit(told["unfit"])
    kind, lost = told["fit"]
    return kind, lost


def in_child(work: Callable[[], Any]) -> dict[str, Any] | None:
    """What `work` returns in a forked process, or why it is unfit; None if that does not say."""
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                told = {"fit": work()}
            except Unfit as error:
                told = {"unfit": str(error)}
            os.write(writer, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writer)
    text, end = b"", time.monotonic() + PATIENCE
    with contextlib.closing(os.fdopen(reader, "rb", buffering=0)) as pipe:
        while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            more = pipe.read(65536)
            if not more:
                break
            text += more
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # A supervisor may have reaped it.
        os.waitpid(pid, 0)
    return json.loads(text) if text else None
