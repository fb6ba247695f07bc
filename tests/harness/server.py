"""A server as real processes: started, watched and stopped as an operator would.

The command is a supervisor with workers; tests have one worker unless they ask for more. Every start ends in
`stop`, which asserts that SIGTERM leads to exit status 0, that no process is left, and that the log holds no
error which the test has not named. Processes are ended by their own id only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from harness.http_client import Address, Client, FieldList, Response, expect_refusal
from harness.process import Process, read_or_empty
from harness.rendezvous import VARIABLE, Rendezvous, wait_until
from harness.scoreboard import Scoreboard

TESTS = Path(__file__).resolve().parent.parent
STARTUP_PATIENCE = 20.0
STOP_PATIENCE = 20.0
# Longest time of an answer that waits for nobody: it takes a millisecond, and this beside other tests. What
# waits for another client, a timeout or the server's next look at its threads takes longer.
PROMPT_ANSWER = 0.5
LISTENING = re.compile(
    r"(?:(?:https?|redirect|uwsgi|scgi|fastcgi)://(\[[0-9a-fA-F:.]+\]|[^\s:/]+):(\d+)|unix:(?://)?(/\S+))"
)
RECORD_START = re.compile(r"\[\d{4}-\d\d-\d\d ")
# What each worker has and nothing else: the thread that looks after a lent event loop.
WORKER_THREAD = "portico-standby"
TROUBLE = re.compile(r"\[(?:ERROR|CRITICAL)\]|Traceback \(most recent call last\)|panicked at", re.IGNORECASE)


def command() -> list[str]:
    """How the server is started. PORTICO_TEST_COMMAND names another, to try the tests themselves out."""
    other = os.environ.get("PORTICO_TEST_COMMAND")
    return shlex.split(other) if other else [sys.executable, "-m", "portico"]


def server_environment(extra: dict[str, str | None] | None = None) -> dict[str, str]:
    """This process' environment less what configures a server, for one worker, with `extra`.

    None as a value takes the name out.
    """
    platforms = ("KUBERNETES_SERVICE_HOST", "NOMAD_ALLOC_ID", "ECS_CONTAINER_METADATA_URI")
    variables = (
        "LISTEN_",
        "WEB_CONCURRENCY",
        "PORT",
        "SCRIPT_NAME",
        "SENDFILE",
        "FORWARDED_ALLOW_IPS",
        *platforms,
    )
    configuring = ("PORTICO_", "GUNICORN_", *variables)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(configuring)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(TESTS), "PORTICO_WORKERS": "1"}
    for key, value in (extra or {}).items():
        environment.pop(key, None)
        if value is not None:
            environment[key] = value
    return environment


class LineCollector:
    """Reads a pipe to its end on a thread of its own; lines that came together are seen together."""

    def __init__(self, pipe) -> None:
        self.lines: list[str] = []
        self.thread = threading.Thread(target=self.run, args=(pipe,), daemon=True)
        self.thread.start()

    def run(self, pipe) -> None:
        begun = b""
        # A file without a buffer has only `read`, which gives what is there.
        read = getattr(pipe, "read1", pipe.read)
        with pipe:
            while data := read(1 << 20):
                *lines, begun = (begun + data).split(b"\n")
                self.lines += [line.decode("utf-8", "backslashreplace") for line in lines]
        if begun:
            self.lines.append(begun.decode("utf-8", "backslashreplace"))


class Server:
    """A running server and what it says."""

    def __init__(
        self,
        application: str | None,
        *options: str,
        bind: str | list[str] | None = "127.0.0.1:0",
        folder: Path,
        environment: dict[str, str | None] | None = None,
        cwd: Path = TESTS,
        prefix: tuple[str, ...] = (),
        program: list[str] | None = None,
        error_log: Path | None = None,
        **popen: object,
    ) -> None:
        """Starts a server.

        `bind` gives its addresses, None leaves them to the server; `folder` is the meeting place with the
        application; `prefix` is a command that runs the server's command, `program` stands for it;
        `error_log` is where it writes instead of standard error; `popen` goes to subprocess.Popen.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.rendezvous = Rendezvous(folder)
        self.expected: list[re.Pattern[str]] = []
        self.first_record = 0
        self.error_log = error_log
        binds = [bind] if isinstance(bind, str) else bind or []
        arguments = [word for address in binds for word in ("--bind", address)]
        self.arguments = [
            *prefix,
            *(program or command()),
            *arguments,
            *(["--error-logfile", str(error_log)] if error_log else []),
            *options,
            *([application] if application else []),
        ]
        streams: dict = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | popen
        self.process = subprocess.Popen(
            self.arguments,
            cwd=cwd,
            env=server_environment({VARIABLE: str(folder)} | (environment or {})),
            **streams,
        )
        self.stdout = LineCollector(self.process.stdout) if self.process.stdout else None
        self.stderr = LineCollector(self.process.stderr) if self.process.stderr else None
        self.binds_expected = max(1, len(binds))
        self.supervisor = Process(self.process.pid)
        self.board: Scoreboard | None = None
        self.found_addresses: list[Address] = []

    # Start

    def wait_ready(self) -> Server:
        """Waits until the start-up lines tell every address."""
        try:
            wait_until(
                lambda: self.process.poll() is not None or len(self.addresses) >= self.binds_expected,
                "the start-up lines",
                STARTUP_PATIENCE,
            )
            assert self.process.poll() is None, (
                f"exit status {self.process.returncode} at start:\n{self.log_text}"
            )
        except BaseException:
            self.kill()
            raise
        return self

    @property
    def addresses(self) -> list[Address]:
        """The addresses that the start-up lines tell, in their order; the log may be moved away later."""
        if len(self.found_addresses) >= self.binds_expected:
            return self.found_addresses
        found = self.found_addresses = []
        for line in self.log_lines:
            for host, port, path in LISTENING.findall(line):
                address: Address = path.rstrip(",;)") if path else (host.strip("[]"), int(port))
                if address not in found and not (port and int(port) == 0):
                    found.append(address)
        return found

    @property
    def address(self) -> Address:
        """The first address."""
        return self.addresses[0]

    @property
    def pid(self) -> int:
        """Process id of the server: of its supervisor."""
        return self.process.pid

    # Processes

    def workers(self) -> list[Process]:
        """The workers that have an engine, ready or about to be; the process itself where it serves alone."""
        family = [self.supervisor, *self.supervisor.children()]
        return [process for process in family if WORKER_THREAD in process.thread_names()]

    @property
    def worker(self) -> Process:
        """The only worker; waits for its threads, which come with its first connections."""
        try:
            wait_until(lambda: len(self.workers()) == 1, "one worker with an engine", STARTUP_PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"{error}; {self.workers()}; the log is:\n{self.log_text}") from None
        return self.workers()[0]

    def scoreboard(self) -> Scoreboard:
        """The supervisor's scoreboard."""
        if self.board is None:
            self.board = Scoreboard(self.pid)
        return self.board

    def states(self) -> dict[int, str]:
        """What each worker is at, by process id: starting, ready or retiring."""
        return self.scoreboard().states()

    def is_busy(self, worker: Process) -> bool:
        """Whether a thread of this worker is in a call."""
        return self.scoreboard().busy_threads(worker.pid) > 0

    def wait_workers(self, count: int, patience: float = STARTUP_PATIENCE) -> list[Process]:
        """Waits until there are so many workers, all of which are ready and none of which is leaving."""

        workers: list[Process] = []

        def settled() -> bool:
            try:
                states = self.states()
            except FileNotFoundError:
                return False  # It has just been started.
            # A worker that has just died stays in its slot until the supervisor has waited for it.
            workers[:] = filter(lambda process: process.alive, map(Process, sorted(states)))
            return len(states) == len(workers) == count and set(states.values()) == {"ready"}

        try:
            wait_until(settled, f"{count} ready workers", patience)
        except TimeoutError as error:
            raise AssertionError(f"{error}; {self.states()}; the log is:\n{self.log_text}") from None
        return workers

    def wait_replaced(self, old: list[Process], patience: float = STARTUP_PATIENCE) -> list[Process]:
        """Waits until as many ready workers serve and none of the `old` ones is left."""
        wait_until(lambda: not any(process.alive for process in old), "the old workers to end", patience)
        return self.wait_workers(len(old), patience)

    def answering_pids(self, requests: int = 40) -> set[int]:
        """The processes that answer so many requests, each on a connection of its own; needs `/pid`."""
        return {int(self.request("GET", "/pid").body) for _ in range(requests)}

    # Talk

    def connect(self, timeout: float = 10.0, receive_buffer: int | None = None) -> Client:
        """A new connection to the first address."""
        return Client(self.address, timeout, receive_buffer)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        fields: FieldList = (),
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> Response:
        """One request on a connection of its own."""
        with self.connect(timeout) as client:
            return client.request(method, target, fields, body)

    @contextlib.contextmanager
    def connections(self, count: int) -> Iterator[list[Client]]:
        """So many connections; they are closed at the end."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.connect()) for _ in range(count)]

    def seconds_to_answer(self, target: str = "/ping") -> float:
        """Seconds that a request on a new connection takes."""
        started = time.monotonic()
        assert self.request("GET", target, timeout=5.0).status == 200
        return time.monotonic() - started

    def expect_prompt_answer(self, target: str = "/ping") -> None:
        """Fails if a request on a new connection waits for anything."""
        seconds = self.seconds_to_answer(target)
        assert seconds < PROMPT_ANSWER, f"{target} took {seconds:.2f} s"

    def wait_refusing(self, patience: float = 5.0) -> None:
        """Waits until nobody listens on the first address any more."""

        def refuses() -> bool:
            try:
                self.connect().close()
            except OSError:
                return True
            return False

        wait_until(refuses, "new connections to be refused", patience)

    def wait_engine(self) -> None:
        """Waits until the engine has seen what was sent so far: it answers a malformed request by itself."""
        for _ in range(2):
            expect_refusal(self.address, b"NOT HTTP\r\n\r\n", 400)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server."""
        self.process.send_signal(number)

    # Log

    @property
    def log_lines(self) -> list[str]:
        """Lines of standard error so far, and of the error log."""
        lines = list(self.stderr.lines) if self.stderr else []
        return lines + (read_or_empty(self.error_log).splitlines() if self.error_log else [])

    @property
    def log_text(self) -> str:
        """Standard error so far."""
        return "\n".join(self.log_lines)

    @property
    def records(self) -> list[str]:
        """The log's records; one may span lines, as a traceback does."""
        records: list[str] = []
        for line in self.log_lines:
            if records and not RECORD_START.match(line):
                records[-1] += "\n" + line
            else:
                records.append(line)
        return records

    def find_records(self, pattern: str) -> list[str]:
        """Records since `first_record` in which `pattern` is found."""
        return [
            record for record in self.records[self.first_record :] if re.search(pattern, record, re.DOTALL)
        ]

    def expect_log(self, pattern: str, count: int = 1, patience: float = 5.0) -> str:
        """Waits for `count` records with `pattern` in them, takes them as expected, returns the last."""
        self.expected.append(re.compile(pattern, re.DOTALL))

        def found() -> list[str]:
            return self.find_records(pattern)

        try:
            wait_until(lambda: len(found()) >= count, f"log record {pattern!r}", patience)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the log is:\n{self.log_text}") from None
        return found()[-1]

    def expect_text(self, text: str, patience: float = 5.0) -> None:
        """Waits until a text stands in the log, be it a record of its own or not."""
        try:
            wait_until(lambda: text in self.log_text, f"{text!r} in the log", patience)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the log is:\n{self.log_text}") from None

    def unexpected_records(self, first: int = 0) -> list[str]:
        """Records of trouble, from number `first` on, that no `expect_log` has named."""
        return [
            record
            for record in self.records[first:]
            if TROUBLE.search(record) and not any(pattern.search(record) for pattern in self.expected)
        ]

    # Stop

    def wait_exit(self, timeout: float = STOP_PATIENCE) -> int:
        """Waits for the end of the process and of its output; the exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            family = [self.supervisor, *self.supervisor.children()]
            stacks = "\n".join(f"{process}:\n{process.kernel_stacks()}" for process in family)
            self.kill()
            raise AssertionError(f"still running after {timeout} s\n{stacks}\n{self.log_text}") from None
        for collector in (self.stdout, self.stderr):
            if collector:
                collector.thread.join(5)
        return status

    def stop(self, timeout: float = STOP_PATIENCE) -> None:
        """SIGTERM; asserts exit status 0 and a log without unexpected trouble."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        children = self.supervisor.children()
        status = self.wait_exit(timeout)
        assert status == 0, f"exit status {status}:\n{self.log_text}"
        assert not any(child.alive for child in children), f"left: {children}\n{self.log_text}"
        assert not self.unexpected_records(), "\n".join(self.unexpected_records())

    def kill(self) -> None:
        """Ends all its processes at once; for tidying up after a failure."""
        if self.process.poll() is None:
            children = self.supervisor.children()
            self.process.kill()
            self.process.wait(10)
            for child in children:
                child.kill()

    # Figures of the process that serves

    def memory(self) -> int:
        """See `Process.memory`; of the only worker."""
        return self.worker.memory()

    def peak_memory(self) -> int:
        """See `Process.peak_memory`; of the only worker."""
        return self.worker.peak_memory()

    def reset_peak_memory(self) -> None:
        """See `Process.reset_peak_memory`; of the only worker."""
        self.worker.reset_peak_memory()

    def descriptors(self) -> int:
        """How many descriptors the only worker has open."""
        return self.worker.descriptors()

    def cpu_seconds(self) -> float:
        """CPU time that supervisor and only worker used so far."""
        processes = {self.worker, self.supervisor}
        return sum(process.cpu_seconds() for process in processes)


def run_to_end(
    *arguments: str,
    cwd: Path,
    timeout: float = 30.0,
    environment: dict[str, str | None] | None = None,
    program: list[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the server's command, or `program` in its place, where it is expected to end by itself."""
    started = time.monotonic()
    process = subprocess.run(
        [*(program or command()), *arguments],
        cwd=cwd,
        env=server_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert time.monotonic() - started < timeout
    return process
