"""`portico profile PID`: where calls spend time, by wall clock and by processor."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import xml.dom.minidom
from pathlib import Path

import pytest

from harness.http_client import request_bytes
from harness.interpreter import IS_FREE_THREADED
from harness.packages import skip_without
from harness.rendezvous import wait_until
from harness.server import TESTS, command, run_to_end, server_environment

APP = "apps.profiled:application"
HOT = next(
    number
    for number, line in enumerate((TESTS / "apps" / "profiled.py").read_text().splitlines(), 1)
    if line.endswith("# hot")
)
# Longer than the profile and the start of its command take together.
BUSY = "seconds=8"


def profile(server, *arguments: str, pid: int | None = None) -> str:
    """What the command prints; it must succeed."""
    ended = run_to_end(
        "profile", str(pid or server.pid), *arguments, cwd=server.rendezvous.folder, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def hottest(text: str) -> str:
    """The first of the hottest lines."""
    return text.split("LINE\n", 1)[1].splitlines()[0]


@pytest.mark.parametrize("mode", [(), ("--cpu",)])
def test_the_planted_hot_line_comes_first(serve, mode):
    server = serve(APP, "--workers", "1", "--threads", "4")
    with server.connections(2) as clients:
        for number, client in enumerate(clients, 1):
            client.send(request_bytes(target=f"/compute?{BUSY}&secret=1"))
            server.rendezvous.wait_for("computes", number)
        text = profile(server, "2s", *mode)
        assert re.search(rf"apps/profiled\.py:{HOT} hot_line", hottest(text)), text
        assert "GET /compute" in text and "secret" not in text and "threading.py" not in text, text


def test_waiting_counts_by_the_clock_alone(serve):
    server = serve(APP, "--workers", "1", "--threads", "4")
    with server.connections(3) as clients:
        for number, client in enumerate(clients[:2], 1):
            client.send(request_bytes(target=f"/wait?{BUSY}"))
            server.rendezvous.wait_for("waits", number)
        clients[2].send(request_bytes(target=f"/compute?{BUSY}"))
        server.rendezvous.wait_for("computes")
        by_clock, by_processor = profile(server, "1s"), profile(server, "1s", "--cpu")
    assert " wait\n" in hottest(by_clock) + "\n", by_clock
    assert f"profiled.py:{HOT} " in hottest(by_processor), by_processor
    waited = [line for line in by_processor.splitlines() if "GET /wait" in line]
    assert not waited or float(waited[0].split()[0]) < 0.1, by_processor


def test_short_calls_have_their_share(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    running = subprocess.Popen(
        [*command(), "profile", str(server.pid), "2s"],
        env=server_environment(),
        cwd=server.rendezvous.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    # One after the other, and each much shorter than the time between two samples.
    with server.connect() as client:
        while running.poll() is None:
            assert client.request("GET", "/wait?seconds=0.002").status == 200
    text = running.communicate()[0]
    waited = next(line for line in text.splitlines() if "GET /wait" in line)
    assert float(waited.split()[0]) > 0.8, text


def test_route_is_the_tag_where_one_is_told(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target=f"/users?{BUSY}"))
        server.rendezvous.wait_for("users")
        lines = profile(server, "0.5", "--format", "collapsed").splitlines()
    assert lines and all(line.startswith("GET /users/<id>;") for line in lines), lines


def test_each_form_holds_the_same(serve, tmp_path):
    server = serve(APP, "--workers", "2", "--threads", "2")
    server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target=f"/compute?{BUSY}"))
        server.rendezvous.wait_for("computes")
        for name in ("p.svg", "p.json", "p.txt"):
            assert profile(server, "0.5", "-o", str(tmp_path / name)) == f"Written to {tmp_path / name}\n"
    texts = xml.dom.minidom.parse(str(tmp_path / "p.svg")).getElementsByTagName("title")
    assert any("hot_line" in title.firstChild.data for title in texts)
    speedscope = json.loads((tmp_path / "p.json").read_text())
    assert "hot_line" in {frame["name"] for frame in speedscope["shared"]["frames"]}
    sampled = speedscope["profiles"][0]
    assert (
        len(sampled["samples"]) == len(sampled["weights"]) and sum(sampled["weights"]) == sampled["endValue"]
    )
    assert re.search(rf"hot_line \(.*profiled\.py:{HOT}\)", (tmp_path / "p.txt").read_text())


def test_deep_recursion_is_cut_and_counted(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target="/deep"))
        server.rendezvous.wait_for("deep")
        text = profile(server, "0.5")
    if not IS_FREE_THREADED:  # Where the faulthandler writes, it cuts at 100 frames by itself.
        assert re.search(r"\d+ stacks were too deep", text), text


def test_one_command_at_a_time(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    first = subprocess.Popen(
        [*command(), "profile", str(server.pid), "5s"],
        env=server_environment(),
        stdout=subprocess.PIPE,
        cwd=server.rendezvous.folder,
    )
    try:
        wait_until(lambda: is_inspected(server), "the first has begun")
        second = run_to_end("profile", str(server.pid), "1s", cwd=server.rendezvous.folder)
        assert second.returncode == 1 and "worker 0 is being profiled already" in second.stderr, second
        first.send_signal(signal.SIGKILL)
        first.wait()
        wait_until(lambda: not is_inspected(server), "its death ends the work")
        assert "No call ran meanwhile." in profile(server, "0.5")
    finally:
        first.kill()
        first.wait()
        first.stdout.close()


def is_inspected(server) -> bool:
    """Whether the worker has the thread that samples."""
    names = []
    for task in Path(f"/proc/{server.worker.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # It may end meanwhile.
            names.append((task / "comm").read_text())
    return "portico-inspect\n" in names


def test_while_c_code_keeps_the_interpreter(serve):
    server = serve(APP, "--workers", "1", "--threads", "2", "--timeout", "0")
    with server.connect() as client:
        client.send(request_bytes(target="/hold?seconds=6"))
        server.rendezvous.wait_for("holds")
        text = profile(server, "2s")
        assert re.search(r"profiled\.py:\d+ hold", hottest(text)), text
        if not IS_FREE_THREADED:
            assert re.search(r"could not be had for 2\.\d s; stacks were taken without it", text), text
        assert client.read_response().body == b"held"
    assert "No call ran meanwhile." in profile(server, "0.5"), "it is over for the next one"


def test_a_worker_that_dies_is_told(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target=f"/compute?{BUSY}"))
        server.rendezvous.wait_for("computes")
        running = subprocess.Popen(
            [*command(), "profile", str(server.pid), "20s"],
            env=server_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=server.rendezvous.folder,
        )
        worker = server.worker.pid
        wait_until(lambda: is_inspected(server), "it has begun")
        wait_until(lambda: server.worker.cpu_seconds() > 0.5, "something has been seen")
        os.kill(worker, signal.SIGKILL)
        output, errors = running.communicate(timeout=10)
    assert running.returncode == 1
    assert re.search(rf"worker 0 \(pid {worker}\): it ended after \d+\.\d s", errors), errors
    assert f"profiled.py:{HOT} " in hottest(output), "what it had seen until then counts"
    server.expected.append(re.compile("SIGKILL|died|not finished"))


def test_workers_of_a_template(serve):
    server = serve(APP, "--workers", "2", "--threads", "2", "--preload")
    server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes(target=f"/compute?{BUSY}"))
        server.rendezvous.wait_for("computes")
        assert f"profiled.py:{HOT} " in hottest(profile(server, "1s"))
        slot = profile(server, "0.5", "--slot", "1")
        assert "Profile of worker 1 (pid " in slot
        assert "Profile of worker " in profile(server, "0.5", pid=server.workers()[0].pid)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_are_told_apart(serve, tmp_path, library):
    skip_without(library)
    patch = {
        "gevent": "from gevent import monkey; monkey.patch_all()",
        "eventlet": "import eventlet; eventlet.monkey_patch()",
    }
    (tmp_path / "green_app.py").write_text(
        f"{patch[library]}\n"
        "import time\n"
        "def app(environ, start_response):\n"
        "    time.sleep(4)  # each in its own greenlet\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n"
    )
    server = serve("green_app:app", "--workers", "1", "--threads", "4", cwd=tmp_path)
    server.expected.append(re.compile("EventletDeprecationWarning"))
    with server.connections(3) as clients:
        for number, client in enumerate(clients):
            client.send(request_bytes(target=f"/{number}"))
        text = profile(server, "1s", "--format", "collapsed")
        for number in range(3):
            assert re.search(rf"^GET /{number};.*app \(.*green_app\.py:4\)", text, re.MULTILINE), text
        for client in clients:
            assert client.read_response().status == 200


def test_nothing_is_there_while_nobody_profiles(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    profile(server, "0.5")
    wait_until(lambda: not is_inspected(server), "the thread has ended")
    names = server.request("GET", "/thread-names").body.decode()
    assert "portico-inspect" not in names, names


def test_what_cannot_be_is_told(serve, tmp_path):
    server = serve(APP, "--workers", "1")
    for arguments, told in [
        (("--slot", "3"), "profile: there is no worker in slot 3 at this moment"),
        (("0.2", "-o", str(tmp_path / "no" / "p.svg")), "p.svg cannot be written: No such file"),
    ]:
        ended = run_to_end("profile", str(server.pid), *arguments, cwd=tmp_path)
        assert ended.returncode == 1 and told in ended.stderr, ended
    ended = run_to_end("profile", "1", cwd=tmp_path)
    assert ended.returncode == 1 and "process 1 is no portico that runs" in ended.stderr
    ended = run_to_end("profile", str(server.pid), "--external", "-o", "x", cwd=tmp_path)
    assert ended.returncode == 1, ended
