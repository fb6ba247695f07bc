"""Django's tasks (Django 6) by `portico.contrib.django.tasks.PoolBackend`."""

from __future__ import annotations

import signal

import pytest

from harness.rendezvous import wait_until

pytest.importorskip("django.tasks")
APP = "apps.django_tasks"


def test_task_runs_after_the_response_in_the_pool(serve):
    server = serve(APP, "--threads", "1")
    identity, status = server.request("GET", "/enqueue/anna").body.decode().split()
    assert status == "READY"
    server.rendezvous.wait_for("holding greet anna")
    assert server.request("GET", f"/result/{identity}").body == b"RUNNING None 1", "the only thread is free"
    server.rendezvous.open("greet anna")
    server.rendezvous.wait_for("greeted anna 2 in portico-after")
    wait_until(
        lambda: server.request("GET", f"/result/{identity}").body == b"SUCCESSFUL annaanna 1", "the result"
    )
    told = [
        event for event in server.rendezvous.events() if " greet " in event and not event.startswith("hold")
    ]
    assert told == ["enqueued greet READY", "started greet RUNNING", "finished greet SUCCESSFUL"]


def test_contexts_coroutines_and_failures(serve):
    server = serve(APP)
    assert server.request("GET", "/others").status == 200
    for event in ("attempt 1", "waited", "finished fail FAILED"):
        server.rendezvous.wait_for(event)
    record = server.expect_log("GET /others: .*called after the response, raised")
    assert "ValueError: the task failed on purpose" in record


def test_what_it_cannot_do_is_refused_when_asked(serve):
    server = serve(APP)
    told = server.request("GET", "/refused").body.decode().splitlines()
    assert told == [
        "Backend does not support setting priority of tasks.",
        "Backend does not support run_after.",
        "Unsupported type: <class 'object'>",
        "False",
        "[]",
    ]


def test_a_stop_waits_for_tasks(serve):
    server = serve(APP)
    server.wait_workers(1)
    server.request("GET", "/enqueue/bob")
    server.rendezvous.wait_for("holding greet bob")
    server.signal(signal.SIGTERM)
    server.wait_refusing()
    server.rendezvous.open("greet bob")
    assert server.wait_exit() == 0
    assert server.rendezvous.matching("greeted bob")
