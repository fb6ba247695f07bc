"""Access log and error log: one line a request, nothing forged, nobody held up by whoever reads them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import termios
import time
import tty
from datetime import datetime, timezone

import pytest

from harness.http_client import Client, FramingError, request_bytes
from harness.rendezvous import wait_until, wait_until_steady
from harness.server import LineCollector

CONTROL = "apps.control:application"
RATE_WINDOW = 1  # Second in which so many failures are told; the next one begins with a count of the rest.
COMMON = re.compile(
    r'(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" '
    r"(?P<status>\d{3}) (?P<bytes>\d+|-)"
)
COMBINED = re.compile(COMMON.pattern + r' "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"')


def access_lines(server, count: int) -> list[str]:
    """The access log on standard output, once it has `count` lines."""
    wait_until(lambda: len(server.stdout.lines) >= count, f"{count} lines in {server.stdout.lines}", 5)
    return list(server.stdout.lines)


def test_access_log_is_off_by_default(serve):
    server = serve(CONTROL)
    server.request("GET", "/ping")
    server.stop()
    assert server.stdout.lines == []


def test_combined_is_the_default_format(serve):
    server = serve(CONTROL, "--access-logfile", "-")
    before = datetime.now(timezone.utc).replace(microsecond=0)
    server.request("GET", "/ping?a=b", [("Referer", "http://from/"), ("User-Agent", "agent/1.0 (x)")])
    [line] = access_lines(server, 1)
    match = COMBINED.fullmatch(line)
    assert match, line
    assert match["host"] == "127.0.0.1"
    assert match["request"] == "GET /ping?a=b HTTP/1.1"
    assert (match["status"], match["bytes"]) == ("200", "5")
    assert (match["referer"], match["agent"]) == ("http://from/", "agent/1.0 (x)")
    stamp = datetime.strptime(match["time"], "%d/%b/%Y:%H:%M:%S %z")
    assert before <= stamp <= datetime.now(timezone.utc)


def test_common_format(serve):
    server = serve(CONTROL, "--access-logfile", "-", "--access-logformat", "common")
    server.request("GET", "/ping", [("User-Agent", "agent")])
    [line] = access_lines(server, 1)
    assert COMMON.fullmatch(line), line


def test_one_line_for_each_request_however_it_ends(serve):
    server = serve("apps.contract:application", "--access-logfile", "-", "--threads", "2")
    expected = []
    with server.connect() as client:
        for number in range(20):
            client.request("GET", f"/ping?{number}")
            expected.append((f"GET /ping?{number} HTTP/1.1", "200", "5"))
    server.request("HEAD", "/body?kind=large")
    expected.append(("HEAD /body?kind=large HTTP/1.1", "200", "0"))
    server.request("GET", "/body?kind=generator")
    expected.append(("GET /body?kind=generator HTTP/1.1", "200", "5"))
    server.request("GET", "/raise?error=Exception&at=call")
    server.expect_log("planted error")
    with server.connect() as client:
        client.send(b"GET /a b HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 400
    lines = [COMBINED.fullmatch(line) for line in access_lines(server, 24)]
    assert all(lines) and len(lines) == 24
    told = [(match["request"], match["status"], match["bytes"].replace("-", "0")) for match in lines]
    assert sorted(told[:22]) == sorted(expected)
    assert [status for _, status, _ in told[22:]] == ["500", "400"]


def test_hostile_bytes_are_escaped(serve):
    server = serve(CONTROL, "--access-logfile", "-")
    agents = ['" 200 0 "-" "forged', "back\\slash", "caf\xe9", "tab\there", "\x9b31m", "%s%n", "\\x0a"]
    with server.connect() as client:
        for agent in agents:
            assert client.request("GET", '/ping?"quote', [("User-Agent", agent)]).status == 200
    for line in access_lines(server, len(agents)):
        assert COMBINED.fullmatch(line), line
        assert line.isascii() and line.isprintable(), line
        assert 'quote HTTP/1.1" 200 5' in line
    assert len(server.stdout.lines) == len(agents)


def test_refused_bytes_do_not_reach_the_terminal(serve):
    server = serve(CONTROL, "--access-logfile", "-")
    for data in (
        b"GET /\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x1b]0;title\x07\r\n\r\n",
        b"GET /\xff\r\n\r\n",
    ):
        with server.connect() as client:
            client.send(data)
            assert client.read_response().status == 400
    server.stop()
    for line in server.stdout.lines + server.log_lines:
        assert line.isprintable(), line


def test_access_log_goes_to_a_file(serve, tmp_path):
    path = tmp_path / "access.log"
    path.write_text("kept\n")
    server = serve(CONTROL, "--access-logfile", str(path))
    server.request("GET", "/ping")
    wait_until(lambda: path.read_text().count("\n") == 2, "the line")
    assert path.read_text().startswith("kept\n")
    assert server.stdout.lines == []


def test_lines_are_written_before_the_exit(serve, tmp_path):
    path = tmp_path / "access.log"
    server = serve(CONTROL, "--access-logfile", str(path))
    with server.connect() as client:
        client.send(request_bytes(target="/ping") * 500)
        for _ in range(500):
            client.read_response()
    server.stop()
    assert path.read_text().count("\n") == 500


def test_unix_peer_has_a_place_in_the_line(serve, tmp_path):
    server = serve(CONTROL, "--access-logfile", "-", bind=f"unix:{tmp_path}/socket")
    server.request("GET", "/ping")
    [line] = access_lines(server, 1)
    assert COMBINED.fullmatch(line), line


@pytest.mark.parametrize("target", ["/var/no/such/folder/log", "/"])
@pytest.mark.parametrize("option", ["--access-logfile", "--error-logfile"])
def test_log_that_cannot_be_opened_ends_the_start(serve, option, target):
    server = serve.start(CONTROL, option, target)
    assert server.wait_exit() == 1
    assert target in server.log_text
    assert "Traceback" not in server.log_text


def test_blocked_access_log_reader_blocks_no_request(serve):
    """The pipe is full and nobody reads: requests are answered, memory is bounded, the loss is told."""
    read_end, write_end = os.pipe()
    server = serve(CONTROL, "--access-logfile", "-", "--threads", "2", stdout=write_end)
    os.close(write_end)
    # No request is like the one before, of which but one copy would be kept.
    agents = ["a" * 2000 + letter for letter in "ab" * 25]
    pipeline = b"".join(request_bytes("GET", "/ping", [("User-Agent", agent)]) for agent in agents)
    with server.connect() as client:
        for turn in range(500):
            client.send(pipeline)
            for _ in range(50):
                assert client.read_response().status == 200
            if turn == 300:
                memory = server.memory()
        assert server.memory() - memory < 4_000_000
        reader = LineCollector(os.fdopen(read_end, "rb"))
        server.expect_log("(?i)access log.*dropped")
        client.expect_in_sync()
        wait_until(
            lambda: reader.lines[-1:] and "a" * 2000 not in reader.lines[-1], "the line after the loss"
        )


def test_closed_reader_of_the_access_log_is_survived(serve):
    process = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    server = serve(CONTROL, "--access-logfile", "-", stdout=process.stdin)
    process.stdin.close()
    process.wait()
    for _ in range(20):
        assert server.request("GET", "/ping").status == 200
    server.expect_log("the access log cannot be written")
    for _ in range(20):
        assert server.request("GET", "/ping").status == 200
    server.stop()  # By then it has tried to write every line.
    assert len(server.find_records("the access log cannot be written")) == 1, "told once, not for each line"


# Error log


def test_error_names_method_path_and_traceback(serve):
    server = serve("apps.contract:application")
    server.request("POST", "/raise?error=Exception&at=call", body=b"x")
    record = server.expect_log("planted error")
    assert "POST /raise" in record
    assert "ValueError: planted error" in record
    assert "in raise_at" in record
    assert "[ERROR]" in record


def test_error_log_goes_to_a_file(serve, tmp_path):
    path = tmp_path / "error.log"
    server = serve.start("apps.contract:application", "--error-logfile", str(path))
    wait_until(
        lambda: path.exists() and "http://127.0.0.1:" in path.read_text(), "the start-up lines in the file"
    )
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)", path.read_text())[1])
    with Client(("127.0.0.1", port)) as client:
        assert client.request("GET", "/raise?error=Exception&at=call").status == 500
    wait_until(lambda: "planted error" in path.read_text(), "the traceback in the file")
    server.stop()
    assert server.log_lines == []


class Reader:
    """The reader of a server's error log, which stands still until it is told to go on."""

    def __init__(self, kind: str, folder) -> None:
        self.options: list[str] = []
        self.path = str(folder / "fifo")
        if kind == "pipe":
            self.ours, self.theirs = os.pipe()
        elif kind == "terminal":
            self.ours, self.theirs = os.openpty()
            tty.setraw(self.theirs)
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            self.ours, self.theirs = ours.detach(), theirs.detach()
        else:
            os.mkfifo(self.path)
            self.ours = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(self.ours, True)
            self.theirs = os.open(os.devnull, os.O_WRONLY)
            self.options = ["--error-logfile", self.path]

    def start(self, serve, *options: str, **settings):
        """Starts a server that logs to it, and waits until it answers."""
        address = str(serve.folder / "socket")
        server = serve.start(
            "apps.meddling:application",
            *self.options,
            *options,
            bind=f"unix:{address}",
            stderr=self.theirs,
            **settings,
        )
        os.close(self.theirs)
        wait_until(lambda: accepts(address), "the socket to accept")
        server.found_addresses = [address]
        return server

    def go_on(self) -> LineCollector:
        """Reads from now on."""
        return TerminalCollector(os.fdopen(self.ours, "rb", buffering=0))


class TerminalCollector(LineCollector):
    """Reads what may be a terminal, whose end is an error."""

    def run(self, pipe) -> None:
        with contextlib.suppress(OSError):
            super().run(pipe)


def fill(server) -> None:
    """Has the application log far more than any reader's buffer and all that may wait take."""
    started = time.monotonic()
    for number in range(40):
        assert server.request("GET", f"/log?count=50&bytes=2000&text={number % 10}").status == 200
    assert time.monotonic() - started < 20


def unread(read_end: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(read_end, termios.FIONREAD, b"\0" * 4), "little")


def small_pipe() -> tuple[int, int]:
    """A pipe that has room for a page."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    return read_end, write_end


KINDS = ["pipe", "socket", "terminal", "fifo"]


@pytest.mark.parametrize("kind", KINDS)
def test_blocked_error_log_reader_delays_nobody(serve, tmp_path, kind):
    """Nor a request, nor the driving thread, nor the supervisor; memory is bounded, the loss is told."""
    reader = Reader(kind, tmp_path)
    server = reader.start(serve, "--workers", "2", "--threads", "2")
    workers = server.wait_workers(2)
    fill(server)
    memory = [worker.memory() for worker in workers]
    for _ in range(2):
        fill(server)
    assert all(worker.memory() - before < 4_000_000 for worker, before in zip(workers, memory, strict=True))
    # The supervisor has as much to say of a reload, and of a death.
    server.signal(signal.SIGHUP)
    workers = server.wait_replaced(workers)
    workers[0].kill()
    wait_until(lambda: workers[0].pid not in server.states(), "its end to be noticed")
    server.wait_workers(2)
    fill(server)
    for _ in range(20):
        assert server.seconds_to_answer() < 1
    collector = reader.go_on()
    wait_until(
        lambda: any("records were dropped" in line for line in collector.lines), "what is lost is told"
    )
    wait_until(lambda: any("SIGKILL from outside" in line for line in collector.lines), "the death is told")
    assert server.request("GET", "/log?text=once-more").status == 200
    wait_until(lambda: any("once-more 0" in line for line in collector.lines), "lines as before")
    told = [line for line in collector.lines if line.startswith("[20")]
    stamps = [line[1:20] for line in told if f"[{server.pid}] [" in line]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("kind", KINDS)
def test_blocked_reader_does_not_delay_the_end(serve, tmp_path, kind):
    reader = Reader(kind, tmp_path)
    server = reader.start(serve)
    server.wait_workers(1)
    fill(server)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 8
    os.close(reader.ours)


def test_blocked_reader_does_not_delay_a_failing_start(serve, tmp_path):
    """More than a pipe takes is said, and the process ends with its status."""
    read_end, write_end = small_pipe()
    (tmp_path / "broken.py").write_text("raise ValueError('x' * 20_000)\n")
    server = serve.start("broken", cwd=tmp_path, stderr=write_end)
    os.close(write_end)
    assert server.wait_exit(15) == 3
    os.close(read_end)


def test_slow_reader_gets_the_failing_starts_whole_error(serve, tmp_path):
    read_end, write_end = small_pipe()
    (tmp_path / "broken.py").write_text("raise ValueError('x' * 20_000 + ' the end')\n")
    server = serve.start("broken", cwd=tmp_path, stderr=write_end)
    os.close(write_end)
    wait_until(lambda: unread(read_end) > 0, "it to tell")
    wait_until_steady(lambda: unread(read_end), 0.2)
    collector = LineCollector(os.fdopen(read_end, "rb"))
    assert server.wait_exit(15) == 3
    collector.thread.join(5)
    assert any(line.endswith("x the end") for line in collector.lines)


@pytest.mark.parametrize("end", ["abort", "exit=7"])
@pytest.mark.parametrize("to_file", [False, True])
def test_last_words_before_a_crash_are_logged(serve, tmp_path, end, to_file):
    server = serve("apps.meddling:application", error_log=tmp_path / "log" if to_file else None)
    server.wait_workers(1)
    for number in range(5):
        with server.connect() as client:
            client.send(request_bytes("GET", f"/log?text=last-words-{number}-&count=20&{end}"))
            with pytest.raises((FramingError, ConnectionResetError)):
                client.read_response()
        server.expect_log("died", number + 1)
        assert f"last-words-{number}- 19" in server.log_text
        server.wait_workers(1)


def test_standard_error_of_other_programs_keeps_its_mode(serve):
    """The description is shared with the shell and with the application's own output."""
    read_end, write_end = os.pipe()
    server = serve.start(CONTROL, stderr=write_end)
    collector = LineCollector(os.fdopen(read_end, "rb"))
    wait_until(lambda: any("Listening at" in line for line in collector.lines), "the start")
    assert os.get_blocking(write_end)
    os.close(write_end)
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0


def test_errors_that_clients_cause_are_rate_limited(serve):
    """An application that fails at every request: so many tracebacks a second, the rest is counted."""
    server = serve("apps.contract:application", "--threads", "8")
    server.expected.append(re.compile("planted error|were not logged"))
    pipeline = request_bytes("GET", "/raise?error=Exception&at=call") * 50
    count = 0
    with server.connect() as client:
        started = time.monotonic()
        while time.monotonic() - started < 3:
            client.send(pipeline)
            for _ in range(50):
                assert client.read_response().status == 500
            count += 50
        seconds = time.monotonic() - started
        time.sleep(RATE_WINDOW)
        assert client.request("GET", "/raise?error=Exception&at=call").status == 500

    def logged() -> int:
        return len(server.find_records("planted error"))

    def left_out() -> int:
        return sum(int(number) for number in re.findall(r"(\d+) further failures", server.log_text))

    wait_until(lambda: logged() + left_out() == count + 1, "all to be told, or counted", 5)
    assert logged() <= (seconds + 2 * RATE_WINDOW) * 100
    assert count < 1000 or left_out() > 0


def test_log_level_silences(serve, tmp_path):
    path = str(tmp_path / "socket")
    server = serve.start("apps.contract:application", "--log-level", "error", bind=f"unix:{path}")
    wait_until(lambda: accepts(path), "the socket to accept")
    with Client(path) as client:
        client.expect_in_sync()
    server.stop()
    assert server.log_lines == []


def accepts(address) -> bool:
    """Whether somebody listens there."""
    try:
        Client(address).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_terminal_gets_colours_unless_it_wants_none(serve, no_color, coloured):
    ours, theirs = os.openpty()
    server = serve.start(CONTROL, environment={"NO_COLOR": no_color, "TERM": "xterm"}, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"http://127.0.0.1:" not in shown:
        shown += os.read(ours, 4096)
    server.signal(signal.SIGINT)
    assert server.wait_exit() == 0
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:
        pass  # EIO: the other end is closed
    os.close(ours)
    assert (b"\x1b[" in shown) == coloured
    assert b"Traceback" not in shown


def test_records_have_time_process_and_level(serve):
    server = serve(CONTROL)
    pids = "|".join(str(process.pid) for process in {server.supervisor, server.worker})
    for line in server.log_lines:
        assert re.match(rf"\[\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{{4}}\] \[({pids})\] \[INFO\] ", line), (
            line
        )


def test_path_in_the_error_log_is_escaped(serve):
    server = serve("apps.faults:application")
    assert server.request("GET", "/%0d%0a[2026-01-01%20forged%1b[31m").status == 500
    record = server.expect_log("planted error")
    assert "\x1b" not in record
    assert not any(line.startswith("[2026-01-01 forged") for line in server.log_lines)
