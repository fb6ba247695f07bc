"""`portico stacks PID`: what each thread is at, also where the interpreter is not to be had."""

from __future__ import annotations

import re

from harness.http_client import request_bytes
from harness.server import run_to_end

STUCK = "apps.stuck:application"


def stacks(server, pid: int | None = None) -> str:
    """What the command prints."""
    ended = run_to_end("stacks", str(pid or server.pid), cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def section(text: str, heading: str) -> str:
    """The lines under a thread's heading."""
    match = re.search(rf"^{heading}[^\n]*\n((?:  .*\n)*)", text, re.MULTILINE)
    assert match, f"no {heading!r} in:\n{text}"
    return match[0]


def test_each_thread_with_its_request_and_its_stack(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "3", "--graceful-timeout", "1")
    with server.connect() as client, server.connect() as other:
        client.send(request_bytes(target="/sleep?secret=1"))
        server.rendezvous.wait_for("sleeps")
        other.send(request_bytes(target="/spin"))
        server.rendezvous.wait_for("spins")
        text = stacks(server)
        assert text.startswith("Worker 0 (pid ")
        sleeping = section(text, r"portico-\d: GET /sleep of 127\.0\.0\.1, running ")
        assert 'apps/stuck.py", line ' in sleeping and ", in sleep\n    time.sleep(" in sleeping
        assert "in spin_for_ever" in section(text, r"portico-\d: GET /spin of ")
        assert len(re.findall(r"^portico-\d: idle$", text, re.MULTILINE)) == 1
        assert "MainThread" in text and "secret" not in text and "/threading.py" not in text
    server.expected.append(re.compile("did not end|not finished"))


def test_while_c_code_holds_the_interpreter(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target="/hold-interpreter?seconds=4"))
        server.rendezvous.wait_for("holds")
        held = section(stacks(server), r"portico-\d: GET /hold-interpreter of ")
        assert "in hold_interpreter" in held
        assert client.read_response().body == b"held"
    assert re.search(r"^portico-1: idle$", stacks(server), re.MULTILINE), "and by the interpreter afterwards"


def test_while_the_application_is_imported(serve):
    server = serve.start("apps.stuck_import", "--workers", "1")
    server.rendezvous.wait_for("holding import")
    assert "in wait_for_something" in section(stacks(server), "MainThread")
    server.kill()


def test_asked_again_and_again(serve):
    server = serve(STUCK, "--workers", "1", "--threads", "2")
    texts = {len(stacks(server).splitlines()) for _ in range(3)}
    assert len(texts) == 1, "what was told before is gone"


def test_a_process_that_is_no_portico(tmp_path):
    for pid in (1, 2**22 + 1):
        for command in ("stacks", "status", "reload", "upgrade"):
            ended = run_to_end(command, str(pid), cwd=tmp_path)
            assert ended.returncode == 1
            assert ended.stdout == ""
            assert ended.stderr == f"portico: error: process {pid} is no portico that runs\n"
