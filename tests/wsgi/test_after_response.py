"""`portico.after_response`: what an application leaves to be done after its responses."""

from __future__ import annotations

import json
import re
import signal

import pytest

import portico
from harness.packages import skip_without
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.after:application"
QUEUE_MAX = 1000


def await_event(server, start: str) -> str:
    """Waits for an event that begins so."""
    wait_until(lambda: server.rendezvous.matching(start), f"the event {start}", 10)
    return server.rendezvous.matching(start)[0]


def numbers(server, folder) -> dict[str, int]:
    """What `portico status --json` has of it, all workers together."""
    told = run_to_end("status", str(server.pid), "--json", cwd=folder)
    assert told.returncode == 0, told
    metrics = json.loads(told.stdout)["metrics"]
    found = {}
    for name, value in metrics.items():
        if name.startswith("portico_after_response_"):
            key = name.removeprefix("portico_after_response_").removesuffix("_total")
            found[key] = sum(value["slot"].values()) if isinstance(value, dict) and "slot" in value else value
    return found


def test_call_follows_the_response_and_its_close(serve):
    server = serve(APP, "--threads", "1")
    worker = server.worker
    assert not any("after" in name for name in worker.thread_names()), "nobody pays who does not use it"
    with server.connect() as client:
        response = client.request("GET", "/leave?name=task&gate=task")
        assert (response.status, response.body) == (200, b"ok")
        server.rendezvous.wait_for("closed")
        server.rendezvous.wait_for("holding task")
        assert client.request("GET", "/pid").status == 200, "the only thread is free"
        server.rendezvous.open("task")
    assert await_event(server, "task").startswith("task portico-after ")
    events = server.rendezvous.events()
    assert events.index("closed") < events.index("holding task")


def test_it_sees_the_context_of_its_request(serve):
    server = serve(APP)
    assert server.request("GET", "/context?user=anna").status == 200
    assert await_event(server, "user") == "user anna"


def test_a_failure_is_logged_with_its_request(serve, tmp_path):
    server = serve(APP, "--request-id")
    response = server.request("GET", "/failing?secret=1", [("X-Request-Id", "abc-123")])
    identity = response.get("X-Request-Id")
    record = server.expect_log("failed on purpose")
    assert f"GET /failing (request {identity}): <function fail at" in record, record
    assert "called after the response, raised" in record and "apps/after.py" in record
    assert "ValueError: failed on purpose, 7" in record and "secret" not in record
    wait_until(lambda: numbers(server, tmp_path)["failed"] == 1, "the failure to be counted")


def test_call_follows_a_failed_request_as_well(serve):
    server = serve(APP)
    assert server.request("GET", "/raising").status == 500
    server.expect_log("the request failed on purpose")
    await_event(server, "raised portico-after")


def test_what_cannot_be_called_is_refused(serve):
    server = serve(APP)
    assert b"must be callable" in server.request("GET", "/wrong").body


def test_the_queue_is_bounded(serve, tmp_path):
    server = serve(APP, "--after-threads", "1")
    response = server.request("GET", "/many")
    count, told = response.body.decode().split(" ", 1)
    assert (int(count), told) == (
        QUEUE_MAX,
        "too many functions wait to be called after responses (--after-threads)",
    )
    server.expect_log(r"1000 functions wait to be called after responses; one is refused")
    server.rendezvous.wait_for("holding many")
    assert numbers(server, tmp_path) == {
        "running": 1,
        "queued": QUEUE_MAX - 1,
        "done": 0,
        "failed": 0,
        "dropped": 0,
        "refused": 1,
    }
    shown = run_to_end("status", str(server.pid), cwd=tmp_path)
    assert "after responses: 1 running, 999 waiting" in shown.stdout, shown.stdout
    server.rendezvous.open("many")
    wait_until(lambda: numbers(server, tmp_path)["done"] == QUEUE_MAX, "all to be called")
    assert numbers(server, tmp_path)["queued"] == 0


def test_several_threads_run_at_once(serve):
    server = serve(APP, "--after-threads", "3")
    for number in range(3):
        server.request("GET", f"/leave?name=task{number}&gate=gate{number}")
    for number in range(3):
        server.rendezvous.wait_for(f"holding gate{number}")
    for number in range(3):
        server.rendezvous.open(f"gate{number}")
    for number in range(3):
        await_event(server, f"task{number} portico-after")


def test_a_process_that_the_application_forks_is_refused(serve):
    server = serve(APP)
    assert b"was forked by a worker" in server.request("GET", "/forked").body
    assert not server.rendezvous.matching("in the child")


def test_thread_of_the_application_waits_for_no_response(serve):
    server = serve(APP)
    with server.connect() as client:
        client.send(b"GET /thread HTTP/1.1\r\nHost: x\r\n\r\n")
        await_event(server, "at once")
        server.rendezvous.open("thread")
        assert client.read_response().status == 200


def test_what_is_left_may_leave_something(serve):
    server = serve(APP)
    server.request("GET", "/chain")
    await_event(server, "second portico-after")


def test_outside_of_a_worker_nothing_is_called():
    with pytest.raises(portico.AfterResponseRefused, match="no worker of Portico runs"):
        portico.after_response(print)


# The end of a worker


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_stop_waits_for_what_is_left(serve, options):
    server = serve(APP, *options)
    server.wait_workers(1)
    for number in range(3):
        server.request("GET", f"/leave?name=task{number}&gate=gate")
    server.rendezvous.wait_for("holding gate")
    server.signal(signal.SIGTERM)
    server.wait_refusing()
    server.rendezvous.open("gate")
    assert server.wait_exit() == 0
    assert [len(server.rendezvous.matching(f"task{number} ")) for number in range(3)] == [1, 1, 1]
    assert not server.unexpected_records()


def test_what_outlasts_the_end_is_dropped_and_told(serve):
    server = serve(APP, "--graceful-timeout", "1")
    server.wait_workers(1)
    for number in range(3):
        server.request("GET", f"/leave?name=task{number}&gate=never")
    server.rendezvous.wait_for("holding never")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    record = server.expect_log("functions that were to be called after responses are dropped")
    assert "3 functions" in record and "1 of which run" in record and "GET /leave" in record, record
    assert not server.rendezvous.matching("task")


def test_recycled_worker_does_what_is_left_first(serve, tmp_path):
    server = serve(APP, "--max-requests", "2")
    (old,) = server.wait_workers(1)
    for number in range(2):
        server.request("GET", f"/leave?name=task{number}&gate=gate")
    server.rendezvous.wait_for("holding gate")
    wait_until(lambda: "retiring" in server.states().values() or len(server.states()) > 1, "its successor")
    server.rendezvous.open("gate")
    for number in range(2):
        assert await_event(server, f"task{number} ").endswith(f" {old.pid}")
    wait_until(lambda: not old.alive, "the old worker to end")
    assert numbers(server, tmp_path)["done"] == 2, "totals survive"


# Greenlets


PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("library", PATCHES)
def test_in_a_hub_it_runs_in_a_greenlet(serve, tmp_path, library):
    skip_without(library)
    (tmp_path / "green_after.py").write_text(f"{PATCHES[library]}\nfrom apps.after import application\n")
    server = serve("green_after", "--threads", "4", cwd=tmp_path)
    server.expected.append(re.compile("EventletDeprecationWarning"))
    for number in range(3):
        assert server.request("GET", f"/leave?name=task{number}&gate=gate").status == 200
    server.rendezvous.wait_for("holding gate")
    assert server.request("GET", "/pid").status == 200, "the hub goes on"
    server.rendezvous.open("gate")
    for number in range(3):
        await_event(server, f"task{number} ")
    server.request("GET", "/leave?name=last&gate=last")
    server.rendezvous.wait_for("holding last")
    server.signal(signal.SIGTERM)
    server.wait_refusing()
    server.rendezvous.open("last")
    assert server.wait_exit() == 0, server.log_text
    assert server.rendezvous.matching("last ")
