"""Fixtures: a factory of server processes, and one server shared by the tests of a module."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.certificates import Authority, Pair
from harness.folders import Folders
from harness.programs import FAILED_LIST, SKIPPED_LIST, advice, missing
from harness.rendezvous import Rendezvous
from harness.server import Server


def pytest_configure() -> None:
    """Programs under test end at a signal, also where whoever runs the tests ignores it (nohup, `&`)."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--serial",
        choices=("only", "none"),
        help="run only the tests that cannot stand neighbours, marked `serial`, or none of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `slow`, `chaos` or `hostile` run only where `-m` asks for them; see also `--serial`."""
    if wanted := config.option.serial:
        unwanted = [item for item in items if bool(item.get_closest_marker("serial")) != (wanted == "only")]
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in set(unwanted)]
    if config.option.markexpr:
        return
    for item in items:
        for name in ("slow", "chaos", "hostile"):
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"{name}: ask for it with -m {name}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was skipped for want of a program, and how to have it; for tests/run.py, also what failed."""
    if hasattr(config, "workerinput"):
        return  # A process of pytest-xdist's: the one that has started it tells this for all.
    if path := os.environ.get(FAILED_LIST):
        failed = [
            report
            for kind in ("failed", "error")
            for report in terminalreporter.stats.get(kind, [])
            if isinstance(report, pytest.TestReport)
        ]
        with open(path, "a") as file:
            file.writelines(f"{config.rootpath}/{report.nodeid}\n" for report in failed)
    reports = terminalreporter.stats.get("skipped", [])
    skipped = missing(report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple))
    if path := os.environ.get(SKIPPED_LIST):
        with open(path, "a") as file:
            file.writelines(f"{name}\n" for name in skipped)
        return
    for line in advice(skipped):
        terminalreporter.write_line(line)


class Servers:
    """Starts servers and, at the end, stops each and asserts that it ended well."""

    def __init__(self, folder: Path, folders: Folders) -> None:
        self.folder = folder
        self.folders = folders
        self.numbers = itertools.count()
        self.servers: list[Server] = []

    def start(self, application: str | None, *options: str, **settings) -> Server:
        """Starts a server without waiting for it; the parameters are those of `Server`."""
        server = Server(
            application, *options, folder=self.folder / f"server-{next(self.numbers)}", **settings
        )
        self.servers.append(server)
        return server

    def __call__(self, application: str | None, *options: str, **settings) -> Server:
        """Starts a server and waits until it is ready."""
        return self.start(application, *options, **settings).wait_ready()

    def stop(self) -> None:
        """Stops those that still run; the first failure is raised when all are stopped."""
        failures: list[BaseException] = []
        for server in self.servers:
            if server.process.poll() is not None:
                continue
            try:
                server.stop()
            except BaseException as failure:
                failures.append(failure)
            finally:
                server.kill()
        if failures:
            raise failures[0]


@pytest.fixture(scope="session")
def folders() -> Iterator[Folders]:
    """Temporary folders that other users may enter; they outlive every server."""
    made = Folders()
    yield made
    made.remove()


@pytest.fixture
def serve(tmp_path: Path, folders: Folders) -> Iterator[Servers]:
    """Factory of servers for one test."""
    servers = Servers(tmp_path, folders)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory, folders: Folders) -> Iterator[Servers]:
    """Factory of servers for the tests of one module."""
    servers = Servers(tmp_path_factory.mktemp("servers"), folders)
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def shared_server(request: pytest.FixtureRequest, serve_module: Servers) -> Server:
    """The server that a module describes in its `SERVER`: application first, then options."""
    return serve_module(*request.module.SERVER)


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The module's server; each test answers for the errors that it leaves in the log."""
    shared_server.first_record = len(shared_server.records)
    yield shared_server
    assert shared_server.process.poll() is None, f"the server has ended:\n{shared_server.log_text}"
    left = shared_server.unexpected_records(shared_server.first_record)
    assert not left, "\n".join(left)


@pytest.fixture
def meeting(server: Server) -> Rendezvous:
    """Where the tests meet the application of the module's server."""
    return server.rendezvous


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of a module's tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    """A certificate for this machine, and its key."""
    return authority.issue("localhost", "127.0.0.1")


@pytest.fixture
def chaos_seconds() -> float:
    """How long a chaos run takes: CHAOS_SECONDS of the environment, see `make chaos`."""
    return float(os.environ.get("CHAOS_SECONDS", "60"))
