"""How each server is started. Equal settings: one process, the same threads, keep-alive, no access log
unless the workload asks for one, room for every connection that the workload opens."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .process import BENCH

BIN = Path(sys.executable).parent
FLOOR = BENCH / ".build" / "floor"
KEEP_ALIVE_SECONDS = 75
CONNECTIONS_MAX = 20000
BACKLOG = 4096
BODY_BYTES_MAX = 2 << 30


@dataclass(frozen=True)
class Launch:
    """What a workload asks of a server."""

    app: str  # module:attribute
    threads: int
    port: int
    access_log: Path | None = None
    connections: int = 64  # of the load generator, at the same time
    workers: int = 1
    options: tuple[str, ...] = ()  # of this server, for this workload

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Definition:
    """One server. A contender is measured in every round, the others (see `run`) in the first only."""

    name: str
    distribution: str | None
    command: Callable[[Launch], list[str]]
    contender: bool = True
    logs_to_stdout: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    note: str = ""


def portico(launch):
    log = ["--access-logfile", str(launch.access_log)] if launch.access_log else []
    return [
        str(BIN / "portico"), "--bind", launch.address, "--workers", str(launch.workers),
        "--threads", str(launch.threads), "--keep-alive", str(KEEP_ALIVE_SECONDS), "--backlog", str(BACKLOG),
        "--log-level", "warning", "--limit-request-body", str(BODY_BYTES_MAX), *log, *launch.options,
        launch.app,
    ]  # fmt: skip


def gunicorn(launch, *worker):
    log = ["--access-logfile", str(launch.access_log)] if launch.access_log else []
    return [
        str(BIN / "gunicorn"), "--bind", launch.address, "--workers", str(launch.workers), *worker,
        "--backlog", str(BACKLOG), "--worker-connections", str(CONNECTIONS_MAX),
        "--keep-alive", str(KEEP_ALIVE_SECONDS), "--log-level", "warning", "--no-control-socket", *log,
        *launch.options, launch.app,
    ]  # fmt: skip


def gunicorn_gthread(launch):
    return gunicorn(launch, "--worker-class", "gthread", "--threads", str(launch.threads))


def gunicorn_sync(launch):
    return gunicorn(launch, "--worker-class", "sync")


def granian(launch):
    log = ["--access-log"] if launch.access_log else ["--no-access-log", "--log-level", "warning"]
    return [
        str(BIN / "granian"), "--host", "127.0.0.1", "--port", str(launch.port), "--interface", "wsgi",
        "--http", "1", "--no-ws", "--workers", str(launch.workers), "--runtime-threads", "1",
        "--blocking-threads", str(launch.threads), "--backlog", str(BACKLOG),
        "--backpressure", str(CONNECTIONS_MAX), *log, *launch.options, launch.app,
    ]  # fmt: skip


UWSGI_CLOSES = (":mixed", ":stream", ":stamped_stream")


def uwsgi(launch):
    """http11-socket keeps connections alive, and gives each a thread until it closes: so there is one thread
    for each connection, up to 64. It cannot serve two kinds of workload, which get http-socket without
    keep-alive: with fewer threads than connections, those without a thread are never answered; and an answer
    of unannounced length is sent without chunks and without an end."""
    log = ["--logto", str(launch.access_log)] if launch.access_log else ["--disable-logging"]
    if launch.app.endswith(UWSGI_CLOSES):
        listen = ["--http-socket", launch.address, "--add-header", "Connection: close"]
        threads = launch.threads
    else:
        listen = ["--http11-socket", launch.address]
        threads = max(launch.threads, min(launch.connections, 64))
    return [
        str(BIN / "uwsgi"), *listen, "--processes", "1", "--threads", str(threads), "--single-interpreter",
        "--home", str(BIN.parent), "--pythonpath", ".", "--module", launch.app, "--need-app", "--die-on-term",
        "--listen", str(BACKLOG), "--buffer-size", "16384", "--socket-timeout", str(KEEP_ALIVE_SECONDS), *log,
    ]  # fmt: skip


def waitress(launch):
    return [
        str(BIN / "waitress-serve"), f"--listen={launch.address}", f"--threads={launch.threads}",
        f"--connection-limit={CONNECTIONS_MAX}", f"--backlog={BACKLOG}", "--asyncore-use-poll",
        f"--max-request-body-size={BODY_BYTES_MAX}", launch.app,
    ]  # fmt: skip


def launcher(server):
    """bjoern has no command line; fastpysgi's cannot set the size of a body, cheroot's not how many
    connections it keeps (10 by default)."""
    return lambda launch: [
        sys.executable, "launch.py", server, launch.app, str(launch.port), str(launch.threads),
    ]  # fmt: skip


def floor(launch):
    return [str(FLOOR), str(launch.port)]


SERVERS = (
    Definition("portico", "portico", portico),
    Definition("bjoern", "bjoern", launcher("bjoern"), note="one thread, no access log"),
    Definition("fastpysgi", "fastpysgi", launcher("fastpysgi"), note="one thread, no access log"),
    Definition("granian", "granian", granian, logs_to_stdout=True),
    Definition("uwsgi", "pyuwsgi", uwsgi, note="a kept connection holds a thread: 64 threads, and no "
               "keep-alive in mixed, stream and stream-lag"),
    Definition("waitress", "waitress", waitress, contender=False, note="no access log of its own"),
    Definition("cheroot", "cheroot", launcher("cheroot"), contender=False, note="no access log of its own"),
    Definition("gunicorn-gthread", "gunicorn", gunicorn_gthread, contender=False),
    Definition("gunicorn-sync", "gunicorn", gunicorn_sync, contender=False, note="one thread, no keep-alive"),
    Definition("floor", None, floor, note="bare epoll loop in C with a fixed answer; no Python"),
)  # fmt: skip
BY_NAME = {server.name: server for server in SERVERS}


def without_paths(text):
    """Text, such as a command or an error, without the paths of this machine."""
    return text.replace(str(BIN.parent), ".venv").replace(str(BENCH) + "/", "")


def shown(command):
    """A command line as it can be published."""
    return " ".join(f"'{word}'" if " " in word else word for word in map(without_paths, command))
