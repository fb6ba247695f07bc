"""What watches applications, seen from its end: a server that keeps what their agents send to it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.rendezvous import wait_until


class Handler(BaseHTTPRequestHandler):
    """Keeps each body and answers `{}`."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        coding = self.headers.get("Content-Encoding")
        if coding == "gzip":
            body = gzip.decompress(body)
        elif coding == "br":
            import brotli  # Whoever sends this has found the package; not every interpreter has it.

            body = brotli.decompress(body)
        self.server.received.append((self.path, body))
        self.server.fields.append(self.headers)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class HttpServer(ThreadingHTTPServer):
    """The server; clients may leave whenever they like."""

    daemon_threads = True
    received: list[tuple[str, bytes]]
    fields: list

    def handle_error(self, *_: object) -> None:
        """A process that ends closes its connections."""


class Collector:
    """A server on a thread of its own, and what it was sent."""

    def __init__(self) -> None:
        self.server = HttpServer(("127.0.0.1", 0), Handler)
        self.received = self.server.received = []
        # The header fields of each.
        self.fields = self.server.fields = []
        self.port: int = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Collector:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, path: str) -> list[bytes]:
        """What was sent to a path so far."""
        return [body for to, body in list(self.received) if to == path]

    def wait_for(self, found, count: int, what: str) -> list:
        """Waits until `found()` has so many."""
        wait_until(lambda: len(found()) >= count, f"{count} {what}", 10)
        return found()

    # Formats

    def traces(self) -> list:
        """The messages with spans that were sent so far."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies("/v1/traces")]

    def spans(self, scope_name: str | None = None) -> list:
        """The requests that OpenTelemetry tells of, or what has this name: spans of kind server."""
        from opentelemetry.proto.trace.v1.trace_pb2 import Span

        resources = [resource for message in self.traces() for resource in message.resource_spans]
        scopes = [scope for resource in resources for scope in resource.scope_spans]
        spans = [span for each in scopes if scope_name in (None, each.scope.name) for span in each.spans]
        return [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]

    def own_spans(self, count: int) -> list:
        """Waits for so many spans of Portico's own."""
        return self.wait_for(lambda: self.spans("portico"), count, "spans of Portico's")

    def datadog_spans(self) -> list[dict]:
        """The first span of each trace that Datadog's tracer tells of."""
        import msgpack

        sent = [msgpack.unpackb(body) for body in self.bodies("/v0.4/traces")]
        return [trace[0] for traces in sent for trace in traces]

    def sentry_items(self, kind: str) -> list[dict]:
        """The items of this type of Sentry's envelopes."""
        items = (item for body in self.bodies("/api/1/envelope/") for item in envelope(body))
        return [json.loads(payload) for header, payload in items if header["type"] == kind]


def envelope(body: bytes) -> Iterator[tuple[dict, bytes]]:
    """The items of one of Sentry's envelopes."""
    rest = body.partition(b"\n")[2]
    while rest:
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        length = header.get("length", rest.find(b"\n") if b"\n" in rest else len(rest))
        yield header, rest[:length]
        rest = rest[length:].removeprefix(b"\n")


def attributes(span) -> dict[str, object]:
    """The attributes of one of OpenTelemetry's spans."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
