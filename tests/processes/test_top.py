"""`portico top PID` in a pseudo terminal: what it shows, what its keys do, and how it leaves the terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import command, run_to_end, server_environment
from harness.terminal import terminal

APP = "apps.cancelling:application"
# From the first look to the end of the request that hangs, by keys alone.
DEMO_SECONDS = 10.0


def top(server, *, rows: int = 24, columns: int = 80, **variables: str | None):
    """The command in a terminal."""
    environment = server_environment({"TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": None} | variables)
    return terminal([*command(), "top", str(server.pid)], environment, rows=rows, columns=columns)


def test_stuck_request_is_found_and_cancelled_by_keys(serve):
    """Within ten seconds, while others are served."""
    server = serve(APP, "--workers", "1", "--threads", "4")
    outcomes: list[int] = []
    stopped = threading.Event()

    def neighbour() -> None:
        with server.connect() as client:
            while not stopped.is_set():
                outcomes.append(client.request(target="/short/neighbour").status)

    thread = threading.Thread(target=neighbour)
    with server.connect() as stuck:
        stuck.send(request_bytes(target="/spin?secret=1"))
        server.rendezvous.wait_for("spins")
        thread.start()
        try:
            started = time.monotonic()
            with top(server) as screen:
                lines = screen.wait_for("GET /spin")
                assert lines[0].startswith(f"portico {server.pid}  serving, up ")
                assert len(lines) == 24 and all(len(line) <= 80 for line in lines)
                # The oldest is the first, and selected.
                (row,) = [line for line in lines if line.startswith(">")]
                assert re.search(r" running +0-\d+-2 +127\.0\.0\.1 +GET /spin", row), row
                screen.send("s")
                screen.wait_for("in spin_for_ever")
                screen.send("qc")
                screen.wait_for("Cancel GET /spin (0-")
                screen.send("y")
                screen.wait_for("GET /spin ended, after ")
                seconds = time.monotonic() - started
                assert stuck.read_response().status == 503
                screen.send("q")
                assert screen.wait_exit() == 0
                assert screen.is_restored()
                assert "secret" not in screen.output.decode()
        finally:
            stopped.set()
            thread.join(20)
    assert seconds < DEMO_SECONDS
    assert len(outcomes) > 10 and set(outcomes) == {200}
    server.expected.append(re.compile("cancelled: GET /spin"))


def test_stacks_of_all_threads_are_counted(serve):
    server = serve(APP, "--workers", "1", "--threads", "3", "--graceful-timeout", "1")
    with server.connect() as one, server.connect() as other:
        for client in (one, other):
            client.send(request_bytes(target="/sleep"))
        server.rendezvous.wait_for("sleeps", 2)
        with top(server, rows=40, columns=120) as screen:
            screen.wait_for("2 in flight")
            screen.send("S")
            lines = screen.wait_for("in sleep")
            assert any(re.match(r"2 of \d+ threads, worker 0$", line) for line in lines), lines
            screen.send("q?")
            screen.wait_for("select a request")
            screen.send("q/nothing\r")
            screen.wait_for("0 of 2 in flight")
            screen.send("\x1b")
            screen.wait_for("GET /sleep")
            screen.send("q")
            assert screen.wait_exit() == 0
    server.expected.append(re.compile("did not end|not finished"))


def test_workers_come_and_go_and_are_reloaded(serve):
    server = serve(APP, "--workers", "1", "--threads", "1")
    with top(server, rows=30, columns=100) as screen:
        screen.wait_for("serving")
        screen.send("+")
        screen.wait_for("One worker more")
        server.wait_workers(2)
        screen.send("-y")
        screen.wait_for("One worker less")
        server.wait_workers(1)
        screen.send("ry")
        screen.wait_for("Reloaded")
        screen.send("q")
        assert screen.wait_exit() == 0


@pytest.mark.parametrize("way", ["q", "ctrl-c", "term", "int", "hup"])
def test_terminal_is_given_back_as_it_was(serve, way):
    server = serve(APP)
    with top(server) as screen:
        screen.wait_for("serving")
        match way:
            case "q":
                screen.send("q")
            case "ctrl-c":
                screen.send("\x03")
            case _:
                screen.process.send_signal(getattr(signal, f"SIG{way.upper()}"))
        # Python itself tells whoever has started it of this signal.
        assert screen.wait_exit() == (-signal.SIGINT if way == "int" else 0)
        assert screen.is_restored()


def test_end_of_the_server_is_told(serve):
    server = serve.start(APP, "--workers", "1").wait_ready()
    with top(server) as screen:
        screen.wait_for("serving")
        server.kill()
        assert screen.wait_exit() == 1
        assert screen.is_restored()
        wait_until(
            lambda: f"the server (process {server.pid}) has ended".encode() in screen.output, "the message"
        )


def test_sizes_and_colours(serve):
    server = serve(APP)
    with top(server) as screen:
        screen.wait_for("serving")
        assert b"\x1b[32m" in screen.frame() and "\u2591" in "\n".join(screen.screen())
        for rows, columns in [(12, 40), (50, 160), (3, 10), (24, 80)]:
            screen.resize(rows, columns)

            def has_size(rows=rows, columns=columns) -> bool:
                lines = screen.screen()
                return len(lines) == rows and max(map(len, lines)) <= columns

            wait_until(has_size, f"{columns} x {rows}")
        screen.send("q")
        assert screen.wait_exit() == 0
    with top(server, LC_ALL="C", NO_COLOR="1") as screen:
        screen.wait_for("serving")
        assert screen.frame().isascii()
        assert set(re.findall(rb"\x1b\[([0-9;]*)m", screen.frame())) <= {b"", b"0", b"1", b"7"}
    with top(server, TERM="dumb") as screen:
        assert screen.wait_exit() == 1
        assert b"top needs a terminal" in screen.output and b"\x1b" not in screen.output


def test_one_screen_for_a_pipe_and_for_programs(serve):
    server = serve(APP, "--workers", "1", "--threads", "2", "--graceful-timeout", "1")
    folder = server.rendezvous.folder
    with server.connect() as client:
        client.send(request_bytes(target="/sleep"))
        server.rendezvous.wait_for("sleeps")
        ended = run_to_end("top", str(server.pid), "--once", cwd=folder)
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        assert "GET /sleep" in ended.stdout and "\x1b" not in ended.stdout
        told = json.loads(run_to_end("top", str(server.pid), "--json", cwd=folder).stdout)
        assert told["snapshot"]["requests"][0]["path"] == "/sleep"
        assert told["rates"]["seconds"] == pytest.approx(1.0, abs=0.5)
        assert told["sentence"]["text"].endswith(".")
    ended = run_to_end("top", str(server.pid), cwd=folder)
    assert ended.returncode == 1 and ended.stderr.startswith("portico: error: top needs a terminal")
    ended = run_to_end("top", str(os.getpid()), "--once", cwd=folder)
    assert ended.stderr == f"portico: error: process {os.getpid()} is no portico that runs\n"
    server.expected.append(re.compile("did not end|not finished"))
