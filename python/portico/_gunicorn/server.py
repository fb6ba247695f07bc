"""The objects that hooks get, gunicorn's arbiter and worker, and the calls of the hooks.

The extension module holds one `Server` in the supervisor. Each process that is forked from it has a copy, and
goes on with its `Worker`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from portico import _logs
from portico._gunicorn.config import Config, Effective
from portico._gunicorn.hooks import HOOKS, arity, resolve
from portico._gunicorn.requests import Access, AccessQueue, Request, Response, access_without_call
from portico._logger import wants_access

if TYPE_CHECKING:
    from portico._gunicorn.conf_file import ConfFile

Hooks = dict[str, Callable[..., Any]]


class Link(Protocol):
    """What a worker process can ask of the server."""

    def replace(self, reason: str) -> None:
        """Has the worker replaced: it leaves when its successor is ready."""

    def requests(self) -> int:
        """How many requests it has begun."""


class Listener:
    """A listening socket; gunicorn's has these names."""

    def __init__(self, url: str, descriptor: int) -> None:
        self.url = url
        self.descriptor = descriptor

    def fileno(self) -> int:
        """Its descriptor."""
        return self.descriptor

    def getsockname(self) -> Any:
        """Its address."""
        with contextlib.closing(socket.socket(fileno=os.dup(self.descriptor))) as borrowed:
            return borrowed.getsockname()

    @property
    def cfg_addr(self) -> Any:
        """Its address."""
        return self.getsockname()

    def __str__(self) -> str:
        return self.url


class Heartbeat:
    """Stands for gunicorn's heartbeat file: liveness is told in shared memory here."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def notify(self) -> None:
        """Notes the time."""
        self.last = time.monotonic()

    def last_update(self) -> float:
        """When that was."""
        return self.last

    def close(self) -> None:
        """There is nothing to close."""


class Worker:
    """gunicorn's `worker`: a worker process, as it or its parent knows it."""

    def __init__(self, server: Server, age: int) -> None:
        self.server = server
        self.age = age
        self.pid: Any = "[booting]"
        self.ppid = server.pid
        self.sockets = server.LISTENERS
        self.app = server.app
        self.cfg = server.cfg
        self.log: Any = server.log
        self.hooks: Hooks = server.hooks
        self.logs_access: bool = server.logs_access
        self.timeout = self.cfg.timeout / 2
        self.booted = False
        self.aborted = False
        self.reloader = None
        self.wsgi: Any = None
        self.tmp = Heartbeat()
        self.link: Link | None = None
        self.is_alive = True
        self.interrupted = False
        self.requests: Requests | None = None
        jitter = random.randint(0, max(0, self.cfg.max_requests_jitter))
        self.max_requests = self.cfg.max_requests + jitter if self.cfg.max_requests > 0 else sys.maxsize

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    @property
    def nr(self) -> int:
        """Requests that it has begun."""
        return self.link.requests() if self.link else 0

    @property
    def alive(self) -> bool:
        """Whether it goes on. Set to False, it is replaced: it leaves when its successor is ready."""
        return self.is_alive

    @alive.setter
    def alive(self, alive: bool) -> None:
        if self.is_alive and not alive and self.link and self.booted:
            self.link.replace("worker.alive was set to False")
        self.is_alive = bool(alive)

    def notify(self) -> None:
        """gunicorn's sign of life; the server gives its own."""
        self.tmp.notify()

    # Called by the extension module, in the worker process.

    def load(self, wsgi: Any) -> Requests | None:
        """The application is there: calls `post_worker_init`. Returns who wants to know of requests."""
        self.wsgi = wsgi
        self.server.call("post_worker_init", self)
        if "worker_abort" in self.hooks:
            signal.signal(signal.SIGABRT, self.handle_abort)
        if "pre_request" in self.hooks or "post_request" in self.hooks or self.logs_access:
            self.requests = Requests(self)
        return self.requests

    def ready(self) -> None:
        """It serves. What has been asked of it before can be done now."""
        self.booted = True
        if not self.is_alive and self.link:
            self.link.replace("worker.alive was set to False")

    def answered(self, *told: Any) -> None:
        """The server has answered a request without the application."""
        if self.requests:
            self.requests.answered(access_without_call(*told))

    def interrupt(self) -> None:
        """It is told to stop at once: calls `worker_int`, once."""
        if not self.interrupted:
            self.interrupted = True
            self.server.call("worker_int", self)

    def abort(self) -> None:
        """A thread of it is stuck: calls `worker_abort`, once."""
        if not self.aborted:
            self.aborted = True
            self.server.call("worker_abort", self)

    def handle_abort(self, _number: int, _frame: FrameType | None) -> None:
        """SIGABRT."""
        try:
            self.abort()
        finally:
            _logs.flush()
            os._exit(1)

    def exit(self) -> None:
        """The process is about to end: calls `worker_exit`."""
        if self.requests:
            self.requests.close()
        self.is_alive = False
        self.server.call("worker_exit", self.server, self)


class Requests:
    """Is told by the server of the beginning and the end of each request: calls the hooks, and the logger."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        hooks = worker.hooks
        self.pre_request = hooks.get("pre_request")
        self.post_request = hooks.get("post_request")
        self.arity = arity("post_request", self.post_request) if self.post_request else 0
        self.access = AccessQueue(worker.log) if worker.logs_access else None

    def begin(
        self,
        method: str,
        uri: str,
        version: tuple[int, int],
        fields: list[tuple[str, str]],
        environ: dict[str, Any],
    ) -> Request:
        """Makes the request."""
        request = Request(method, uri, version, fields)
        request.look_at(environ)
        return request

    def call_pre_request(self, request: Request) -> None:
        """Calls `pre_request`; what it raises is the request's failure."""
        if self.pre_request:
            self.pre_request(self.worker, request)

    def end(
        self,
        request: Request,
        environ: dict[str, Any],
        answer: tuple[str, list[tuple[str, str]], int, bool] | None,
        seconds: float,
        logged: bool,
    ) -> None:
        """Logs the access and calls `post_request`, whose exceptions are logged."""
        response = Response(*answer) if answer else None
        if self.access and response and logged:
            self.access.put(response, request, environ, seconds)
        if self.post_request:
            try:
                self.post_request(*(self.worker, request, environ, response)[: self.arity])
            except Exception:
                self.worker.log.exception("Exception in post_request hook")

    def answered(self, access: Access) -> None:
        """The server has answered a request without the application."""
        if self.access:
            self.access.put(*access)

    def close(self) -> None:
        """Has what waits logged."""
        if self.access:
            self.access.close()


class Server:
    """gunicorn's `server`, the arbiter: the supervisor, and in a worker what it was at the fork."""

    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4
    SIGNALS: ClassVar[list[int]] = [
        getattr(signal, f"SIG{name}")
        for name in ("HUP", "QUIT", "INT", "TERM", "TTIN", "TTOU", "USR1", "USR2", "WINCH")
    ]
    SIG_NAMES: ClassVar[dict[int, str]] = {
        int(number): number.name.removeprefix("SIG").lower() for number in signal.Signals
    }

    def __init__(self, conf: ConfFile | None, effective: Effective, errors: Any) -> None:
        self.pid = os.getpid()
        self.master_pid = 0
        self.master_name = "Master"
        self.reexec_pid = 0
        self.worker_age = 0
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: list[Listener] = []
        self.START_CTX: dict[Any, Any] = {"args": [sys.executable, *sys.argv], "cwd": os.getcwd()}
        self.START_CTX[0] = sys.executable
        self.num_workers: Any = None
        # The hook that was called last.
        self.called = ""
        # Workers that are about to be forked, by their slots.
        self.pending: dict[int, Worker] = {}
        self.worker: Worker | None = None
        self.errors = errors
        self.take(conf, effective)
        self.log = _logs.make(self.cfg, errors)

    def take(self, conf: ConfFile | None, effective: Effective) -> None:
        """Goes by this configuration from now on."""
        effective = list(effective)
        self.hooks: Hooks = {}
        for name, texts, is_files in effective:
            if name in HOOKS and texts:
                self.hooks[name] = conf.hooks[name] if conf and is_files else resolve(name, texts[-1])
        self.cfg = Config(effective, conf.objects if conf else {})
        for name, hook in self.hooks.items():
            self.cfg.settings[name].value = hook
        self.app = Application(self.cfg)
        self.address = self.cfg.address
        self.timeout = self.cfg.timeout
        self.proc_name = self.cfg.proc_name
        self.worker_class = self.cfg.worker_class
        self.logs_through_python = _logs.in_force(self.cfg)
        self.logs_access = self.logs_through_python and wants_access(self.cfg)

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a hook, if it is configured."""
        hook = self.hooks.get(name)
        if hook:
            self.called = name
            hook(*arguments)

    # Called by the extension module, in the supervisor.

    def scaled(self, count: int, always: bool = False) -> None:
        """So many workers are asked for."""
        former, self.num_workers = self.num_workers, count
        if always or count != former:
            self.call("nworkers_changed", self, count, former)

    def starting(self) -> None:
        """Before anything else."""
        self.call("on_starting", self)

    def listening(self, listeners: list[tuple[str, int]]) -> None:
        """The sockets are there, and no worker yet."""
        self.LISTENERS = [Listener(url, descriptor) for url, descriptor in listeners]
        self.call("when_ready", self)

    def before_fork(self, slot: int) -> None:
        """In the process that is about to fork a worker: the supervisor, or the template."""
        self.worker_age += 1
        worker = self.pending[slot] = Worker(self, self.worker_age)
        self.call("pre_fork", self, worker)

    def started(self, slot: int, pid: int) -> None:
        """A worker has its process id."""
        worker = self.pending.pop(slot, None)
        if worker is None:  # A template has forked it.
            self.worker_age += 1
            worker = Worker(self, self.worker_age)
        worker.pid = pid
        self.WORKERS[pid] = worker

    def ended(self, pid: int) -> None:
        """A worker was reaped."""
        worker = self.WORKERS.pop(pid, None)
        if worker:
            worker.is_alive = False
            self.call("child_exit", self, worker)

    def reloaded(self, conf: ConfFile | None, effective: Effective, workers: int | None) -> None:
        """SIGHUP: another configuration, which has been read and is good."""
        self.take(conf, effective)
        self.log = _logs.remake(self.log, self.cfg, self.errors)
        self.scaled(workers or self.num_workers, always=True)
        self.call("on_reload", self)

    def answered(self, *told: Any) -> None:
        """A request has died with its worker."""
        response, request, environ, seconds = access_without_call(*told)
        self.log.access(response, request, environ, datetime.timedelta(seconds=seconds))

    def reopen(self) -> None:
        """SIGUSR1: the log files have been moved away."""
        self.log.reopen_files()

    def upgrading(self) -> None:
        """SIGUSR2: a new program is about to be started."""
        self.call("pre_exec", self)

    def exit(self) -> None:
        """The end."""
        self.call("on_exit", self)

    # In a worker process.

    def enter_worker(self, slot: int, link: Link) -> Worker:
        """This is the new process: calls `post_fork`."""
        worker = self.pending.pop(slot, None) or Worker(self, self.worker_age)
        self.pending.clear()
        self.worker = worker
        worker.pid = os.getpid()
        worker.link = link
        worker.tmp.notify()
        self.call("post_fork", self, worker)
        return worker

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.WORKERS.values())


class Application:
    """gunicorn's `app`: what it names, and its settings. The application itself is in the workers alone."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.app_uri = cfg.wsgi_app
        self.callable = None
