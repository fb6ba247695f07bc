"""What watches applications from within: each request arrives, once, also at recycling and at the end."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.collector import Collector, attributes
from harness.documentation import ROOT, python_block
from harness.process import Process
from harness.rendezvous import wait_until
from harness.sources import source

GUIDE = ROOT / "docs/guides/observability.md"
BIN = Path(sys.executable).parent
PORTICO = [str(BIN / "portico")]
PRELOAD = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e47{:02x}", "00f067aa0ba902b7"
REQUESTS = 20

SHOP = source("flask_shop")

PLAIN = source("plain_shop")

COUNTED = source("counted_shop")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes what agents send."""
    with Collector() as collector:
        yield collector


def need(*modules: str) -> None:
    """Skips where requirements/apm.txt is not installed."""
    for module in modules:
        if not importlib.util.find_spec(module):
            pytest.skip("pip install -r requirements/apm.txt")


def wrapper(*words: str) -> tuple[str, ...]:
    """A program of the environment that runs another."""
    return (str(BIN / words[0]), *words[1:])


def otlp(collector: Collector) -> dict[str, str]:
    """OpenTelemetry's variables, so that it talks to nobody else."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_SERVICE_NAME": "shop",
    }


def traced(server) -> None:
    """Makes requests, each in a trace of its own."""
    for number in range(REQUESTS):
        traceparent = f"00-{TRACE.format(number)}-{PARENT}-01"
        response = server.request("GET", f"/item/{number}", [("Traceparent", traceparent)])
        assert response.status == 200
        assert traceparent in response.body.decode()


def assert_each_once(spans: list) -> None:
    """Each request of `traced` is one span, whose parent is who sent it."""
    assert sorted(span.trace_id.hex() for span in spans) == [TRACE.format(n) for n in range(REQUESTS)]
    assert {span.parent_span_id.hex() for span in spans} == {PARENT}


@PRELOAD
def test_opentelemetry_instrument(serve, tmp_path, collector, preload):
    need("opentelemetry.instrumentation.flask")
    (tmp_path / "shop.py").write_text(SHOP)
    server = serve(
        "shop:app",
        *("--workers", "2", "--access-logfile", "-", "--access-logformat", "json", *preload),
        prefix=wrapper("opentelemetry-instrument"),
        program=PORTICO,
        cwd=tmp_path,
        environment=otlp(collector),
    )
    server.wait_workers(2)
    traced(server)
    server.request("GET", "/broken")
    server.expected.append(re.compile("planted error"))
    server.stop()
    spans = [span for span in collector.spans() if attributes(span)["url.path"] != "/broken"]
    assert_each_once(spans)
    assert {span.name for span in spans} == {"GET /item/<int:number>"}
    told = attributes(spans[0])
    assert told["http.request.method"] == "GET"
    assert told["http.route"] == "/item/<int:number>"
    assert told["http.response.status_code"] == 200
    (broken,) = [attributes(span) for span in collector.spans() if span not in spans]
    assert broken["http.response.status_code"] == 500
    # The access log tells the same trace, and who sent the request.
    lines = [json.loads(line) for line in server.stdout.lines]
    lines = {line["trace_id"]: line["span_id"] for line in lines if line["url.path"] != "/broken"}
    assert lines == {span.trace_id.hex(): PARENT for span in spans}
    # Its thread is named; that it is there at the template's start, it owes to its hook for forks.
    assert "forks the workers (OtelBatchSpanRecordProcessor)" in server.log_text
    assert "--preload: the import" not in server.log_text


def test_preload_strict_accepts_threads_restarted_after_the_fork(serve, tmp_path, collector):
    need("opentelemetry.instrumentation.flask")
    (tmp_path / "shop.py").write_text(SHOP)
    server = serve(
        "shop:app",
        "--preload=strict",
        prefix=wrapper("opentelemetry-instrument"),
        program=PORTICO,
        cwd=tmp_path,
        environment=otlp(collector),
    )
    traced(server)
    server.stop()
    assert_each_once(collector.spans())


@PRELOAD
def test_opentelemetry_in_post_fork(serve, tmp_path, collector, preload):
    need("opentelemetry.exporter.otlp", "opentelemetry.instrumentation.wsgi")
    (tmp_path / "plain.py").write_text(
        PLAIN + python_block(GUIDE, "from opentelemetry.instrumentation.wsgi import")
    )
    (tmp_path / "gunicorn.conf.py").write_text(python_block(GUIDE, "from opentelemetry import trace\n"))
    server = serve("plain:app", "--workers", "2", *preload, cwd=tmp_path, environment=otlp(collector))
    server.wait_workers(2)
    traced(server)
    server.stop()
    assert_each_once(collector.spans())
    assert "threads in the process" not in server.log_text


def test_opentelemetry_of_django_after_reload_and_upgrade(serve, collector):
    need("opentelemetry.instrumentation.django")
    server = serve(
        "apps.djangosite.wsgi",
        prefix=wrapper("opentelemetry-instrument"),
        program=PORTICO,
        environment=otlp(collector) | {"DJANGO_SETTINGS_MODULE": "apps.djangosite.settings"},
    )
    old = server.wait_workers(1)
    server.request("GET", "/no/such/page")
    server.signal(signal.SIGHUP)
    server.wait_replaced(old)
    server.request("GET", "/no/such/page")
    server.signal(signal.SIGUSR2)
    wait_until(lambda: server.process.poll() is not None, "the old supervisor to end", 20)
    server.request("GET", "/no/such/page")
    (new,) = {int(pid) for pid in re.findall(r"\[(\d+)\] \[INFO\] Starting", server.log_text)} - {server.pid}
    Process(new).signal(signal.SIGTERM)
    wait_until(lambda: not Process(new).alive, "the new supervisor to end", 10)
    found = [attributes(span)["http.response.status_code"] for span in collector.spans()]
    assert found == [404] * 3, "one before, one after the reload, one after the upgrade"
    assert not server.unexpected_records()


@PRELOAD
def test_datadog(serve, tmp_path, collector, preload):
    need("ddtrace", "msgpack")
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {
        "DD_TRACE_AGENT_URL": collector.url,
        "DD_TRACE_API_VERSION": "v0.4",
        "DD_SERVICE": "shop",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_CRASHTRACKING_ENABLED": "false",
    }
    server = serve(
        "shop:app",
        *("--workers", "2", *preload),
        prefix=wrapper("ddtrace-run"),
        program=PORTICO,
        cwd=tmp_path,
        environment=environment,
    )
    server.wait_workers(2)
    traced(server)
    server.stop()
    spans = collector.datadog_spans()
    assert sorted(span["trace_id"] for span in spans) == [
        int(TRACE.format(number)[16:], 16) for number in range(REQUESTS)
    ]
    assert {span["parent_id"] for span in spans} == {int(PARENT, 16)}
    assert {span["resource"] for span in spans} == {"GET /item/<int:number>"}
    assert {span["meta"]["http.status_code"] for span in spans} == {"200"}
    assert {span["meta"]["http.method"] for span in spans} == {"GET"}
    # A thread of the tracer may have been talking to its agent in the moment of the fork.
    assert "has left what does not survive a fork: the thread" not in server.log_text


@PRELOAD
def test_newrelic(serve, tmp_path, preload):
    need("newrelic")
    (tmp_path / "shop.py").write_text(SHOP)
    clouds = ("aws", "azure", "azurefunction", "docker", "gcp", "kubernetes", "pcf")
    lines = ["[newrelic]", "app_name = shop", *(f"utilization.detect_{cloud} = false" for cloud in clouds)]
    (tmp_path / "newrelic.ini").write_text("\n".join(lines))
    environment = {
        "NEW_RELIC_CONFIG_FILE": "newrelic.ini",
        "NEW_RELIC_LICENSE_KEY": "0" * 40,
        # It answers itself what its collector would, and writes what it would have sent.
        "NEW_RELIC_DEVELOPER_MODE": "true",
        "NEW_RELIC_AUDIT_LOG": "audit",
        "NEW_RELIC_STARTUP_TIMEOUT": "10",
    }
    server = serve(
        "shop:app",
        *preload,
        prefix=wrapper("newrelic-admin", "run-program"),
        program=PORTICO,
        cwd=tmp_path,
        environment=environment,
    )
    traced(server)
    server.stop()
    audit = (tmp_path / "audit").read_text()
    assert "WebTransaction/Function/shop:item" in audit
    assert {TRACE.format(number) for number in range(REQUESTS)} <= set(re.findall("[0-9a-f]{32}", audit))


@PRELOAD
def test_sentry(serve, tmp_path, collector, preload):
    need("sentry_sdk")
    (tmp_path / "shop.py").write_text(python_block(GUIDE, "import os\n\nimport sentry_sdk") + SHOP)
    server = serve(
        "shop:app",
        *("--workers", "2", "--max-requests", "5", "--max-requests-jitter", "0", *preload),
        cwd=tmp_path,
        environment={"SENTRY_DSN": f"http://key@127.0.0.1:{collector.port}/1"},
    )
    old = server.wait_workers(2)
    traced(server)
    assert server.request("GET", "/broken?why=so").status == 500
    server.expected.append(re.compile("planted error"))
    server.wait_replaced(old)
    traced(server)
    server.stop()
    (event,) = collector.sentry_items("event")
    assert event["exception"]["values"][0]["value"] == "planted error"
    assert event["request"]["url"] == "http://test/broken"
    assert event["request"]["query_string"] == "why=so"
    names = Counter(item["transaction"] for item in collector.sentry_items("transaction"))
    assert names == {"item": 2 * REQUESTS, "broken": 1}


def test_prometheus_in_several_processes(serve, tmp_path):
    need("prometheus_client")
    (tmp_path / "files").mkdir()
    (tmp_path / "counted.py").write_text(
        COUNTED + python_block(GUIDE, "from prometheus_client import CONTENT_TYPE_LATEST")
    )
    (tmp_path / "gunicorn.conf.py").write_text(
        python_block(GUIDE, "from prometheus_client import multiprocess")
    )
    server = serve(
        "counted:app",
        *("--workers", "2", "--max-requests", "5", "--max-requests-jitter", "0"),
        cwd=tmp_path,
        environment={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files")},
    )
    server.wait_workers(2)
    for _ in range(REQUESTS):
        assert server.request().status == 200
    wait_until(lambda: "Worker exiting" in server.log_text, "workers to be recycled")

    def living() -> set[int]:
        return {int(path.stem.rpartition("_")[2]) for path in (tmp_path / "files").glob("gauge_live*")}

    wait_until(lambda: all(Process(pid).alive for pid in living()), "the files of workers that ended to go")
    text = server.request("GET", "/metrics").body.decode()
    assert re.search(rf"^requests_total {REQUESTS}\.0$", text, re.MULTILINE), text
    assert re.search(r"^alive [012]\.0$", text, re.MULTILINE), text
