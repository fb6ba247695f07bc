"""Traces: what a collector is sent, decoded by OpenTelemetry's own classes; what a bad collector costs."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.collector import Collector, attributes
from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sources import source

CONTROL = "apps.control:application"
ECHO = "apps.echo:application"
CONTRACT = "apps.contract:application"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
JSON_LOG = ("--access-logfile", "-", "--access-logformat", "json")
ERROR = 2  # Status.STATUS_CODE_ERROR
COUNTED = re.compile(r"^portico_otlp_spans_(sent|dropped)_total\S* (\d+)", re.MULTILINE)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes spans."""
    if not importlib.util.find_spec("opentelemetry"):
        pytest.skip("pip install -r requirements/apm.txt")
    with Collector() as collector:
        yield collector


def variables_of(collector: Collector, **more: str) -> dict[str, str]:
    """The environment that sends spans there, and nothing else of OpenTelemetry's."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        **more,
    }


def counted(server) -> tuple[int, int]:
    """Spans that were sent and dropped."""
    ended = run_to_end("metrics", str(server.pid), cwd=Path.cwd())
    assert ended.returncode == 0, ended.stderr
    found = {name: int(count) for name, count in COUNTED.findall(ended.stdout)}
    return found["sent"], found["dropped"]


# What is sent


def test_a_span_has_what_the_conventions_ask_for(serve, collector):
    environment = variables_of(
        collector, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=the%20test,team=a"
    )
    server = serve(CONTROL, "--otlp", environment=environment)
    before = time.time_ns()
    fields = [("traceparent", TRACEPARENT), ("User-Agent", "agent"), ("Authorization", "Basic c2VjcmV0")]
    server.request("GET", "/sleep?seconds=0.1", fields)
    (span,) = collector.own_spans(1)
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("GET", TRACE, PARENT)
    assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= time.time_ns()
    assert 0.1 <= (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 < 5
    told = attributes(span)
    assert 0 <= told.pop("portico.queue_time") < 5
    assert told == {
        "http.request.method": "GET",
        "url.path": "/sleep",
        "url.scheme": "http",
        "server.address": "test",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "agent",
        "http.response.status_code": 200,
    }
    assert not span.HasField("status") and not span.events
    (message,) = collector.traces()
    (resource,) = message.resource_spans
    told = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert told.pop("process.pid") == str(server.worker.pid) and told.pop("telemetry.sdk.version")
    assert told == {
        "service.name": "shop",
        "deployment.environment.name": "the test",
        "team": "a",
        "telemetry.sdk.name": "portico",
        "telemetry.sdk.language": "rust",
    }
    (body,) = collector.bodies("/v1/traces")
    assert message.SerializeToString() == body, "it is encoded as protobuf's own library would"
    assert b"secret" not in body and b"seconds=" not in body


def test_spans_are_compressed_and_have_the_operators_headers(serve, collector):
    environment = variables_of(
        collector,
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces?key=a",
        OTEL_EXPORTER_OTLP_HEADERS="x-key=a%20b",
    )
    server = serve(CONTROL, "--otlp", environment=environment)
    server.request("GET", "/ping")
    wait_until(lambda: collector.bodies("/v1/traces?key=a"), "a message", 10)
    (fields,) = collector.fields
    assert (fields["x-key"], fields["Content-Encoding"]) == ("a b", "gzip")
    assert fields["Content-Type"] == "application/x-protobuf"


def test_environ_continues_the_servers_span(serve, collector):
    server = serve(ECHO, "--otlp", *JSON_LOG, environment=variables_of(collector))
    state = ("tracestate", "a=b"), ("baggage", "user=c")

    def environ(*fields: tuple[str, str]) -> dict[str, str]:
        return json.loads(server.request("GET", "/", list(fields)).body)["environ"]

    sampled = environ(("traceparent", TRACEPARENT), *state)
    unsampled = environ(("traceparent", TRACEPARENT[:-1] + "0"), *state)
    root = environ(("traceparent", "nonsense"), *state)
    environ()
    spans = collector.own_spans(3)
    assert [span.parent_span_id.hex() for span in spans] == [PARENT, "", ""]
    assert sampled["HTTP_TRACEPARENT"] == f"00-{TRACE}-{spans[0].span_id.hex()}-01"
    assert sampled["HTTP_TRACESTATE"] == unsampled["HTTP_TRACESTATE"] == "a=b"
    # It is passed on, with a span that nobody is sent.
    version, trace, span, flags = unsampled["HTTP_TRACEPARENT"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00") and span != PARENT
    assert root["HTTP_TRACEPARENT"] == f"00-{spans[1].trace_id.hex()}-{spans[1].span_id.hex()}-01"
    assert "HTTP_TRACESTATE" not in root, "it is that of another trace"
    assert {each["HTTP_BAGGAGE"] for each in (sampled, unsampled, root)} == {"user=c"}
    # The access log tells the same ids.
    wait_until(lambda: len(server.stdout.lines) == 4, "the log", 5)
    lines = [json.loads(line) for line in server.stdout.lines]
    told = [(line["trace_id"], line["span_id"]) for line in lines if line["trace_flags"] == "01"]
    assert told == [(span.trace_id.hex(), span.span_id.hex()) for span in spans]
    assert [line["span_id"] for line in lines if line["trace_flags"] == "00"] == [span]


def test_off_nothing_of_it_is_there(serve, collector):
    server = serve(ECHO, environment=variables_of(collector))
    environ = json.loads(server.request("GET", "/", [("traceparent", TRACEPARENT)]).body)["environ"]
    assert environ["HTTP_TRACEPARENT"] == TRACEPARENT
    assert "portico-otlp" not in server.worker.thread_names()
    server.stop()
    assert not collector.received


def test_strangers_begin_their_own_traces_if_asked(serve, collector):
    options = ("--otlp", "--otlp-parents", "trusted", "--forwarded-allow-ips", "none")
    server = serve(ECHO, *options, environment=variables_of(collector))
    fields = [("traceparent", TRACEPARENT), ("tracestate", "a=b")]
    environ = json.loads(server.request("GET", "/", fields).body)["environ"]
    (span,) = collector.own_spans(1)
    assert span.trace_id.hex() != TRACE and not span.parent_span_id
    assert environ["HTTP_TRACEPARENT"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert "HTTP_TRACESTATE" not in environ


def test_a_ratio_is_sent_and_all_passed_on(serve, collector):
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    server = serve(ECHO, "--otlp", environment=variables_of(collector, **sampler))
    flags = []
    with server.connect() as client:
        for _ in range(400):
            told = json.loads(client.request("GET", "/").body)["environ"]["HTTP_TRACEPARENT"]
            flags.append(told[-2:])
            # As OpenTelemetry's SDKs decide.
            assert (told[-2:] == "01") == (int(told[19:35], 16) < round(0.25 * 2**64))
    server.stop()
    # 100, give or take 9.
    assert 50 < flags.count("01") < 150
    assert len(collector.spans("portico")) == flags.count("01")


def test_queue_time_precedes_the_applications_span(serve, tmp_path, collector):
    pytest.importorskip("opentelemetry.instrumentation.flask")
    (tmp_path / "shop.py").write_text(source("traced_shop"))
    server = serve(
        "shop:app",
        *("--otlp", "--threads", "1"),
        prefix=(str(Path(sys.executable).parent / "opentelemetry-instrument"),),
        program=[str(Path(sys.executable).parent / "portico")],
        cwd=tmp_path,
        environment=variables_of(collector),
    )
    with server.connections(2) as clients:
        for client in clients:
            client.send(request_bytes("GET", "/slow", [("traceparent", TRACEPARENT)]))
        told = [json.loads(client.read_response().body)["traceparent"] for client in clients]
    server.stop()
    own = {span.span_id: span for span in collector.spans("portico")}
    (scope,) = {
        scope.scope.name
        for message in collector.traces()
        for resource in message.resource_spans
        for scope in resource.scope_spans
    } - {"portico"}
    inner = {span.parent_span_id: span for span in collector.spans(scope)}
    assert {span.parent_span_id.hex() for span in own.values()} == {PARENT}
    assert own.keys() == inner.keys() == {bytes.fromhex(each.split("-")[2]) for each in told}
    assert {span.trace_id.hex() for span in [*own.values(), *inner.values()]} == {TRACE}
    assert {span.name for span in inner.values()} == {"GET /slow"}
    gaps = []
    for identity, span in own.items():
        assert span.start_time_unix_nano <= inner[identity].start_time_unix_nano
        assert inner[identity].end_time_unix_nano <= span.end_time_unix_nano + 1_000_000
        gap = (inner[identity].start_time_unix_nano - span.start_time_unix_nano) / 1e9
        gaps.append((attributes(span)["portico.queue_time"], gap))
    (short, _), (long, gap) = sorted(gaps)
    assert short < 0.2 and 0.4 < long < 1, gaps
    assert long <= gap + 0.001 and gap - long < 0.2, gaps


# Of which requests


def test_http2(serve, collector):
    server = serve(
        CONTROL, "--otlp", "--http2-cleartext=prior-knowledge", environment=variables_of(collector)
    )
    with Http2Client(server.address) as client:
        assert client.request("/ping", fields=[("traceparent", TRACEPARENT)]).status == 200
    (span,) = collector.own_spans(1)
    assert (span.trace_id.hex(), attributes(span)["network.protocol.version"]) == (TRACE, "2")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways(serve, tmp_path, collector, protocol):
    server = serve(
        "apps.behind:application",
        "--otlp",
        bind=f"{protocol}://unix:{tmp_path}/s",
        environment=variables_of(collector),
    )
    values = variables("/a%20b?c", PATH_INFO="/a b", REQUEST_SCHEME="https", HTTP_TRACEPARENT=TRACEPARENT)
    environ = json.loads(ask(server.address, protocol, values).body)["environ"]
    (span,) = collector.own_spans(1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert environ["HTTP_TRACEPARENT"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    told = attributes(span)
    assert (told["url.path"], told["url.scheme"], told["client.address"]) == ("/a%20b", "https", "192.0.2.7")
    values = variables("/", HTTP_TRACEPARENT="nonsense", HTTP_TRACESTATE="a=b", HTTP_BAGGAGE="c=d")
    environ = json.loads(ask(server.address, protocol, values).body)["environ"]
    span = collector.own_spans(2)[1]
    assert environ["HTTP_TRACEPARENT"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert "HTTP_TRACESTATE" not in environ and environ["HTTP_BAGGAGE"] == "c=d"


def test_what_the_server_answers_itself(serve, tmp_path, collector):
    (tmp_path / "a.txt").write_text("static")
    options = ("--static", f"/files={tmp_path}", "--limit-request-field_size", "200")
    server = serve(CONTROL, "--otlp", *options, environment=variables_of(collector))
    server.request("GET", "/files/a.txt")
    server.request("BREW", "/ping")
    for request in (b"nonsense\r\n\r\n", request_bytes("GET", "/ping", [("A", "b" * 300)])):
        with server.connect() as client:
            client.send(request)
            client.read_response()
    found = [attributes(span) for span in collector.own_spans(4)]
    shown = [
        (
            each["http.request.method"],
            each.get("url.path"),
            each["http.response.status_code"],
            each.get("portico.reason"),
        )
        for each in found
    ]
    assert shown == [
        ("GET", "/files/a.txt", 200, None),
        ("_OTHER", "/ping", 200, None),
        ("_OTHER", None, 400, "refused"),
        ("_OTHER", None, 431, "refused"),
    ]
    assert found[1]["http.request.method_original"] == "BREW"
    assert [span.name for span in collector.spans("portico")] == ["GET", "HTTP", "HTTP", "HTTP"]


def test_failures_timeouts_and_clients_that_leave(serve, collector):
    server = serve(CONTRACT, "--otlp", "--timeout", "1", environment=variables_of(collector))
    server.request("GET", "/raise?error=Exception&at=call")
    server.expect_log("planted error")
    (failed,) = collector.own_spans(1)
    assert (failed.status.code, attributes(failed)["error.type"]) == (ERROR, "500")
    server.stop()
    server = serve(CONTROL, "--otlp", "--timeout", "1", "--threads", "2", environment=variables_of(collector))
    server.expected.append(re.compile("timeout|took too long|Traceback|given up", re.IGNORECASE))
    assert server.request("GET", "/sleep?seconds=3").status in (500, 503, 504)
    timed_out = collector.own_spans(2)[1]
    assert (timed_out.status.code, attributes(timed_out)["error.type"]) == (ERROR, "timeout")
    (event,) = timed_out.events
    assert event.name == "timeout"
    assert timed_out.start_time_unix_nano + 900_000_000 < event.time_unix_nano <= timed_out.end_time_unix_nano
    server.stop()
    server = serve("apps.streams:application", "--otlp", environment=variables_of(collector))
    with server.connect() as client:
        client.send(request_bytes("GET", "/until-gone"))
        server.rendezvous.wait_for("begins")
    gone = collector.own_spans(3)[2]
    assert [event.name for event in gone.events] == ["client_gone"]
    assert "http.response.status_code" not in attributes(gone) and not gone.HasField("status")


# Processes


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_each_request_is_sent_once_over_all_ends(serve, collector, preload):
    options = ("--workers", "2", "--max-requests", "5", "--max-requests-jitter", "0", *preload)
    server = serve(CONTROL, "--otlp", *options, environment=variables_of(collector))
    old = server.wait_workers(2)
    for number in range(40):
        assert server.request("GET", f"/ping?{number}").status == 200
        if number == 20:
            server.signal(signal.SIGHUP)
            server.wait_replaced(old)
    server.stop()
    spans = collector.spans("portico")
    assert len(spans) == 40 == len({span.span_id for span in spans}) == len({span.trace_id for span in spans})
    pids = {
        each.value.string_value
        for message in collector.traces()
        for resource in message.resource_spans
        for each in resource.resource.attributes
        if each.key == "process.pid"
    }
    assert len(pids) >= 4


def test_killed_worker_costs_its_own_spans_alone(serve, collector):
    server = serve(CONTROL, "--otlp", environment=variables_of(collector))
    worker = server.worker
    server.request("GET", "/ping")
    collector.own_spans(1)
    server.expected.append(re.compile("was killed|SIGKILL|died"))
    worker.signal(signal.SIGKILL)
    wait_until(lambda: server.workers() and server.worker.pid != worker.pid, "another worker", 10)
    server.request("GET", "/ping")
    collector.own_spans(2)
    sent, dropped = counted(server)
    assert (sent, dropped) == (2, 0), "counters outlive the worker"


def test_an_application_that_forks_sends_no_span_twice(serve, collector):
    server = serve(CONTROL, "--otlp", environment=variables_of(collector))
    assert server.request("GET", "/fork-and-terminate").body == b"-15"
    server.request("GET", "/ping")
    server.stop()
    assert len(collector.spans("portico")) == 2


# Collectors that are not there, or are bad


@contextmanager
def silent() -> Iterator[str]:
    """A collector that takes everything and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def seconds_each(server, count: int) -> list[float]:
    """How long requests take, one after the other."""
    taken = []
    with server.connect() as client:
        for _ in range(count):
            begun = time.perf_counter()
            assert client.request("GET", "/ping").status == 200
            taken.append(time.perf_counter() - begun)
    return sorted(taken)


@pytest.mark.serial
def test_hanging_collector_delays_nothing_but_the_end(serve):
    count = 4000
    server = serve(CONTROL)
    usual = seconds_each(server, count)
    server.stop()
    with silent() as url:
        server = serve(CONTROL, "--otlp", "--otlp-endpoint", url)
        server.expected.append(re.compile("traces"))
        hanging = seconds_each(server, count)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 5
    p99 = count * 99 // 100
    # A span costs some microseconds; a wait for the collector would be seconds.
    assert hanging[p99] < 2 * usual[p99] + 0.002, (usual[p99], hanging[p99])
    assert hanging[-1] < 0.5
    assert server.find_records(r"traces: \d+ spans were dropped"), server.log_text


def test_drops_are_counted_and_told_within_bounds(serve):
    with silent() as url:
        port = url.rpartition(":")[2]
    # Nobody is there any more.
    server = serve(CONTROL, "--otlp", environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"})
    seconds_each(server, 300)
    server.expect_log(
        rf"traces: the collector at http://127.0.0.1:{port}/v1/traces cannot be reached: Connection refused"
    )
    server.signal(signal.SIGHUP)
    server.expect_log("Reloaded", patience=15)
    wait_until(lambda: counted(server)[1] == 300, "the worker's end", 15)
    server.expect_log(r"traces: 300 spans were dropped, because the collector did not take them")
    assert len(server.find_records("traces: ")) <= 6


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "write http://HOST:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "--otlp-endpoint"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", 'has no "="'),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "7", "from 0 to 1"),
    ],
)
def test_wrong_value_stops_the_start_and_is_named(tmp_path, variable, value, told):
    environment = {"OTEL_TRACES_SAMPLER": "traceidratio", variable: value}
    ended = run_to_end(CONTROL, "--bind", "127.0.0.1:0", "--otlp", cwd=tmp_path, environment=environment)
    assert ended.returncode == 1
    assert f"{variable}: " in ended.stderr and told in ended.stderr, ended.stderr
    assert "secret" not in ended.stderr


def test_missing_file_of_certificates_stops_the_start(tmp_path):
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "missing.pem"),
    }
    ended = run_to_end(
        "apps.control:application",
        "--bind",
        "127.0.0.1:0",
        "--otlp",
        cwd=Path(__file__).parent.parent,
        environment=environment,
    )
    assert ended.returncode != 0
    assert "missing.pem: No such file" in ended.stderr and "OTEL_EXPORTER_OTLP_CERTIFICATE" in ended.stderr
