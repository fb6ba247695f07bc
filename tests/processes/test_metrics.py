"""`portico metrics` and `portico status --json`: what the table of metrics says, read by other programs."""

from __future__ import annotations

import json
import math
import subprocess
import time

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from harness.certificates import Authority
from harness.http_client import request_bytes
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = "apps.processes:application"
STUCK = "apps.stuck:application"


def told(server, *command: str) -> str:
    """What a command prints."""
    word, *options = command
    ended = run_to_end(word, str(server.pid), *options, cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def samples(text: str, parser=open_metrics) -> dict[tuple, float]:
    """All samples by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser(text)
        for sample in family.samples
    }


def of_exchanges(method: str, code: str) -> tuple:
    """The key of a sample."""
    labels = ("http_request_method", method), ("http_response_status_code", code)
    return "portico_exchanges_total", *labels


def busy_server(serve, workers: str = "2"):
    """One that has answered three requests well and one badly, and refused one."""
    server = serve(APP, "--workers", workers)
    server.wait_workers(2)
    for _ in range(3):
        assert server.request("GET", "/pid").status == 200
    assert server.request("QUERY", "/nothing").status == 404
    with server.connect() as client:
        client.send(b"nonsense\r\n\r\n")
        assert client.read_response().status == 400
    return server


def test_open_metrics_is_read_by_prometheus_client(serve):
    server = busy_server(serve)
    text = told(server, "metrics")
    found = samples(text)
    assert found[of_exchanges("GET", "200")] == 3
    assert found[of_exchanges("_OTHER", "404")] == found[of_exchanges("_OTHER", "400")] == 1
    assert sum(value for key, value in found.items() if key[0] == "portico_calls_total") == 4
    assert found["portico_workers", ("state", "ready")] == 2
    assert found["portico_worker_starts_total", ("reason", "boot")] == 2
    assert found["portico_threads", ("slot", "0"), ("state", "lost")] == 0
    assert found["portico_queue_duration_seconds_count",] == 4
    units = {family.name: family.unit for family in open_metrics(text)}
    assert units["http_server_request_duration_seconds"] == "seconds"
    labels = ("http_request_method", "GET"), ("http_response_status_class", "2xx")
    assert found[("http_server_request_duration_seconds_count", *labels)] == 3
    assert 0 < found[("http_server_request_duration_seconds_sum", *labels)] < 3
    bounds = {key[-1][1] for key in found if key[0] == "http_server_request_duration_seconds_bucket"}
    assert sorted(map(float, bounds))[:2] == [0.005, 0.01] and max(map(float, bounds)) == math.inf


def test_the_older_format_has_the_same_samples(serve):
    server = busy_server(serve)
    one = samples(told(server, "metrics"))
    other = samples(told(server, "metrics", "--prometheus"), text_format)
    # Memory is measured anew each second, and the network namespace is everybody's.
    stable = [key for key in one if "bytes" not in key[0] and "overflows" not in key[0]]
    assert {key: other[key] for key in stable} == {key: one[key] for key in stable}
    assert len(one) == len(other)


def test_promtool_has_nothing_to_say(serve):
    promtool = installed("promtool")
    text = told(busy_server(serve), "metrics", "--prometheus")
    checked = subprocess.run(
        [promtool, "check", "metrics"], check=False, input=text, capture_output=True, text=True, timeout=30
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_durations_are_those_of_the_requests(serve):
    server = serve(STUCK, "--threads", "1")
    with server.connect() as client, server.connect() as other:
        client.send(request_bytes(target="/sleep?seconds=0.6"))
        server.rendezvous.wait_for("sleeps")
        other.send(request_bytes(target="/sleep?seconds=0.1"))
        for each in (client, other):
            assert each.read_response().body == b"slept"
    found = samples(told(server, "metrics"))

    def up_to(name: str, bound: str) -> float:
        return sum(
            value for key, value in found.items() if key[0] == f"{name}_bucket" and ("le", bound) in key
        )

    assert up_to("http_server_request_duration_seconds", "0.5") == 0
    assert up_to("http_server_request_duration_seconds", "10.0") == 2
    assert up_to("portico_queue_duration_seconds", "0.1") == 1, "the second had to wait"
    assert 0.3 < found["portico_queue_duration_seconds_sum",] < 5


def test_metrics_while_the_interpreter_is_held(serve):
    server = serve(STUCK, "--threads", "2")
    with server.connect() as client:
        client.send(request_bytes(target="/hold-interpreter?seconds=3"))
        server.rendezvous.wait_for("holds")
        assert samples(told(server, "metrics"))["portico_threads", ("slot", "0"), ("state", "running")] == 1
        status = json.loads(told(server, "status", "--json"))
        assert [request["path"] for request in status["requests"]] == ["/hold-interpreter"]
        assert client.read_response().status == 200


def test_json_has_server_workers_and_requests(serve):
    server = busy_server(serve)
    status = json.loads(told(server, "status", "--json"))
    assert (status["pid"], status["state"], status["requests"]) == (server.pid, "serving", [])
    assert status["metrics"]["portico_exchanges_total"]["GET"] == {"200": 3}
    assert status["metrics"]["portico_calls_total"] == 4
    workers = {worker["pid"]: worker for worker in status["workers"]}
    assert set(workers) == {worker.pid for worker in server.workers()}
    assert sum(worker["metrics"]["portico_calls_total"] for worker in workers.values()) == 4
    assert {worker["state"] for worker in workers.values()} == {"ready"}
    assert all(worker["uptime_seconds"] > 0 and not worker["silent"] for worker in workers.values())


def test_a_reload_keeps_totals_and_counts_itself(serve):
    server = busy_server(serve)
    assert run_to_end("reload", str(server.pid), cwd=server.rendezvous.folder).returncode == 0
    status = json.loads(told(server, "status", "--json"))
    assert status["metrics"]["portico_reloads_total"] == {"succeeded": 1, "failed": 0}
    assert status["metrics"]["portico_calls_total"] == 4
    assert all(worker["metrics"]["portico_calls_total"] == 0 for worker in status["workers"])
    assert status["metrics"]["portico_generation"] == 1


def test_log_records_are_counted_by_their_severity(serve):
    server = serve("apps.contract:application")
    assert server.request("GET", "/raise?error=Exception&at=call").status == 500
    server.expect_log("planted error")
    found = samples(told(server, "metrics"))
    assert found["portico_log_records_total", ("level", "exception")] == 1
    assert found["portico_log_records_total", ("level", "error")] == 0


def test_the_end_of_a_certificate_is_told(serve, tmp_path):
    pair = Authority(tmp_path / "authority").issue("localhost", days=20)
    server = serve("apps.control:application", *pair.options)
    wait_until(lambda: expiry(server) is not None, "the certificate to be looked at")
    assert abs(expiry(server) - time.time() - 20 * 86_400) < 86_400
    assert samples(told(server, "metrics"))["portico_tls_certificates_stale",] == 0


def expiry(server) -> float | None:
    """When the certificate expires."""
    found = samples(told(server, "metrics"))
    name = "portico_tls_certificate_not_after_seconds"
    return next((value for key, value in found.items() if key[0] == name), None)


def test_a_worker_spoils_its_slot_alone(serve):
    """It can write what it likes there: the supervisor and the commands take it for numbers."""
    server = busy_server(serve, "2..3")
    before = json.loads(told(server, "status", "--json"))
    server.scoreboard().spoil(0)
    text = told(server, "metrics")
    found = samples(text)
    of_others = [worker for worker in before["workers"] if worker["slot"] != 0]
    for worker in of_others:
        label = ("slot", str(worker["slot"]))
        assert found["portico_calls_total", label] == worker["metrics"]["portico_calls_total"]
        assert found["portico_queue_length", label] == worker["metrics"]["portico_queue_length"]
    booted = before["metrics"]["portico_worker_starts_total"]["boot"]
    assert found["portico_worker_starts_total", ("reason", "boot")] == booted
    # Requests without end wait there, it says: so there are as many workers as there may be, and no more.
    server.wait_workers(3)
    assert server.request("GET", "/pid").status == 200
    assert json.loads(told(server, "status", "--json"))["metrics"]["portico_workers"]["ready"] == 3
