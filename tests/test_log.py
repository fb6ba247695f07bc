"""Access log and error log: one line a request, nothing forged, nobody held up by whoever reads them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from datetime import datetime, timezone

import pytest

from harness.http_client import Client, request_bytes
from harness.rendezvous import wait_until
from harness.server import LineCollector

CONTROL = "apps.control:application"
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


def test_one_line_for_each_request_in_each_way_to_end(serve):
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


def test_blocked_reader_of_the_access_log_blocks_no_request(serve):
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
        time.sleep(0.01)
    server.expect_log("the access log cannot be written")
    assert len(server.find_records("the access log cannot be written")) == 1, "told once, not for each line"


# Error log


def test_error_names_method_and_path_and_has_the_traceback(serve):
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
