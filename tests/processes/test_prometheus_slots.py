"""Metrics of prometheus_client by slot, in shared memory and in files; that itself is the oracle."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_older

from harness.http_client import request_bytes
from harness.rendezvous import VARIABLE, wait_until
from harness.server import TESTS, run_to_end, server_environment

APP = "apps.counted:application"
KILLED = re.compile("SIGKILL|died|not finished|reset")


def metrics(server, *options: str) -> str:
    """What `portico metrics` prints."""
    ended = run_to_end("metrics", str(server.pid), *options, cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def samples(text: str, parse=parse_open_metrics) -> dict[tuple, float]:
    """The application's samples."""
    found = {}
    for family in parse(text):
        if family.name.startswith("shop_"):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in found, key
                found[key] = sample.value
    return found


def slots(server) -> dict[int, int]:
    """Slots by process id."""
    ended = run_to_end("status", str(server.pid), "--json", cwd=server.rendezvous.folder)
    return {worker["pid"]: worker["slot"] for worker in json.loads(ended.stdout)["workers"]}


def oracle(events, folder) -> dict[tuple, float]:
    """What prometheus_client makes of the same events."""
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "harness.prometheus_oracle"],
        input=json.dumps(events),
        env={
            **server_environment(),
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
            "TESTS": str(TESTS),
            VARIABLE: str(folder),
        },
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {(name, tuple(map(tuple, labels))): value for name, labels, value in json.loads(ended.stdout)}


def same(found: dict[tuple, float], expected: dict[tuple, float]) -> None:
    """Both have the same samples; sums of floats may differ in their last digit."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for key, value in expected.items():
        assert math.isclose(found[key], value, rel_tol=1e-12), (key, found[key], value)


def count_of(server, kind: str = "plain") -> float:
    """The counter of requests."""
    return samples(metrics(server)).get(("shop_orders_total", (("kind", kind),)), 0.0)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_kinds_and_modes_are_as_prometheus_client_has(serve, tmp_path, preload):
    server = serve(APP, "--workers", "2", "--threads", "1", "--prometheus-slots", *preload)
    server.wait_workers(2)
    by_pid = slots(server)
    events = [("starts", slot, 0) for slot in sorted(by_pid.values())]

    def change(number: float) -> int:
        pid = int(server.request("GET", f"/change?by={number}").body)
        events.append(("changes", slots(server)[pid], number))
        return pid

    last = [change(number) for number in (3.25, 1, 7, 2, 5.5, 0.1)][-1]
    same(samples(metrics(server)), oracle(events, tmp_path / "alive"))
    same(samples(metrics(server, "--prometheus"), parse_older), oracle(events, tmp_path / "older"))
    # The oracle begins a slot anew only if it was not the last one that it was in.
    dying = next(worker.pid for worker in server.workers() if worker.pid != last)
    os.kill(dying, signal.SIGKILL)
    wait_until(lambda: len(slots(server).keys() - {dying}) == 2, "it is replaced")
    server.wait_workers(2)
    events.append(("dies", by_pid[dying], 0))
    events.append(("starts", next(slot for pid, slot in slots(server).items() if pid not in by_pid), 0))
    same(samples(metrics(server)), oracle(events, tmp_path / "replaced"))
    for number in (9, 0.5):
        change(number)
    same(samples(metrics(server)), oracle(events, tmp_path / "goes-on"))
    server.expected.append(KILLED)


def recycle(server, times: int, check) -> None:
    """Lets requests recycle the worker so often; kills every tenth."""
    seen = set()
    before = 0.0
    while len(seen) < times:
        pid = int(server.request("GET", "/count").body)
        if pid not in seen and len(seen) % 10 == 9:
            os.kill(pid, signal.SIGKILL)
        seen.add(pid)
        server.wait_workers(1)
        now = check()
        assert now >= before, (now, before)
        before = now


@pytest.mark.parametrize("times", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_counters_never_fall(serve, times):
    server = serve(APP, "--workers", "1", "--threads", "2", "--max-requests", "2", "--prometheus-slots")
    server.expected.append(KILLED)
    recycle(server, times, lambda: count_of(server))
    assert not list(server.rendezvous.folder.glob("*.db"))


def test_files_are_named_by_slot_and_stay_few(serve, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    server = serve(
        APP,
        *("--workers", "1", "--threads", "2", "--max-requests", "2", "--prometheus-slots"),
        environment={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
    )
    server.expected.append(KILLED)
    server.request("GET", "/count")

    def total() -> float:
        from prometheus_client import CollectorRegistry, multiprocess

        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=str(folder))
        return registry.get_sample_value("shop_orders_total", {"kind": "plain"}) or 0.0

    recycle(server, 12, total)
    names = {path.name for path in folder.iterdir()}
    slots_used = {name.rsplit("_", 1)[1] for name in names}
    assert slots_used <= {"0.db", "1.db"}, names
    assert samples(metrics(server)) == {}, "they are in files"


def test_more_series_than_there_is_room_for(serve):
    server = serve(APP, "--workers", "1", "--threads", "1", "--prometheus-slots")
    assert server.request("GET", "/fill?series=8000").body == b"filled"
    text = metrics(server)
    lost = re.search(r"^portico_application_series_lost (\d+)$", text, re.MULTILINE)
    assert lost and 1_000 < int(lost[1]) < 7_000, text[-500:]
    assert count_of(server) == 0, "it came too late"
    assert len(server.find_records("no room is left for metrics of the application")) == 1
    assert samples(text)[("shop_imported", ())] == 7, "those that were there go on"
    server.expected.append(re.compile("no room is left for metrics"))


def test_a_name_of_the_servers_is_refused(serve):
    server = serve(APP, "--workers", "1", "--prometheus-slots")
    server.request("GET", "/clash")
    assert "1000000" not in metrics(server)
    server.expect_log("the metric portico_calls of the application is not kept")
    server.expected.append(re.compile("is not kept"))


def test_process_of_the_application_counts_for_itself(serve):
    server = serve(APP, "--workers", "1", "--threads", "1", "--prometheus-slots")
    server.request("GET", "/count")
    assert server.request("GET", "/fork").body == b"forked"
    assert count_of(server) == 1


def test_while_no_thread_gets_on(serve):
    server = serve(APP, "--workers", "1", "--threads", "1", "--prometheus-slots")
    server.request("GET", "/count")
    with server.connect() as client:
        client.send(request_bytes(target="/block"))
        server.rendezvous.wait_for("blocks")
        assert count_of(server) == 1
        server.rendezvous.open("go")
        assert client.read_response().body == b"blocked"


def test_nothing_changes_where_nobody_asks_for_it(serve):
    server = serve(APP, "--workers", "1")
    server.request("GET", "/count")
    assert samples(metrics(server)) == {}
