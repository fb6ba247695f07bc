"""`portico memory PID`: objects by type, and lines that allocate memory."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time

from harness.http_client import request_bytes
from harness.server import TESTS, command, run_to_end, server_environment

APP = "apps.profiled:application"
GROWS = next(
    number
    for number, line in enumerate((TESTS / "apps" / "profiled.py").read_text().splitlines(), 1)
    if line.endswith("# grows")
)


def memory(server, *arguments: str) -> str:
    """What the command prints; it must succeed."""
    ended = run_to_end("memory", str(server.pid), *arguments, cwd=server.rendezvous.folder, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def test_objects_are_counted_by_type(serve):
    server = serve(APP, "--workers", "2", "--threads", "2")
    workers = server.wait_workers(2)
    server.request("GET", "/keep")
    text = memory(server)
    assert all(f"(pid {worker.pid})" in text for worker in workers), text
    rows = re.findall(r"^ *(\d+) +\S+ \S+ +(\S+)$", text, re.MULTILINE)
    assert ("500", "apps.profiled.Kept") in rows, text
    assert f"(pid {workers[0].pid})" in memory(server, "--slot", "0")
    assert server.request("GET", "/ping").status == 200


def test_the_line_that_allocates_is_named(serve):
    server = serve(APP, "--workers", "1", "--threads", "2")
    tracing = subprocess.Popen(
        [*command(), "memory", str(server.pid), "--trace", "3s"],
        env=server_environment(),
        cwd=server.rendezvous.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Whenever it begins: one of these falls into it.
    while tracing.poll() is None:
        assert server.request("GET", "/keep").status == 200
        time.sleep(0.1)  # Each keeps a megabyte.
    text = tracing.communicate()[0]
    first = text.split("LINE\n", 1)[1].splitlines()[0]
    assert f"apps/profiled.py:{GROWS}" in first and "MiB" in first, text
    with server.connect() as client:
        client.send(request_bytes(target="/is-tracing"))
        assert client.read_response().body == b"False"


def test_a_terminal_is_asked_first(serve):
    server = serve(APP, "--workers", "1")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"n\n")
        ended = subprocess.run(
            [*command(), "memory", str(server.pid)],
            env=server_environment(),
            cwd=server.rendezvous.folder,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == 1 and "Go on? [y/N]" in ended.stderr, ended
    assert "memory: nothing was done" in ended.stderr and ended.stdout == ""
