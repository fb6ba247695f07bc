"""What hooks and loggers see of a request and its answer, and how accesses come to the logger."""

from __future__ import annotations

import datetime
import queue
import threading
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

# Access records that may wait for the logger; beyond it they are counted and dropped.
WAITING_MAX = 10_000

# How long the end of a worker waits for records that its logger has not taken.
CLOSE_SECONDS = 2.0


class Request:
    """gunicorn's `req`."""

    def __init__(
        self, method: str, uri: str, version: tuple[int, int], fields: list[tuple[str, str]]
    ) -> None:
        self.method = method
        self.uri = uri
        self.path, _, rest = uri.partition("?")
        self.query, _, self.fragment = rest.partition("#")
        self.version = version
        self.headers = [(name.upper(), value) for name, value in fields]
        self.trailers: list[tuple[str, str]] = []
        self.scheme = "http"
        self.body: Any = None
        self.peer_addr: Any = None
        self.remote_addr: Any = None
        self.proxy_protocol_info: Any = None
        self.req_number = 1

    def look_at(self, environ: dict[str, Any]) -> None:
        """Takes from environ what gunicorn's request has."""
        self.scheme = environ.get("wsgi.url_scheme", "http")
        self.body = environ.get("wsgi.input")
        port = environ.get("REMOTE_PORT", "")
        self.peer_addr = self.remote_addr = (
            environ.get("REMOTE_ADDR", ""),
            int(port) if port.isdecimal() else 0,
        )

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"


class Response:
    """gunicorn's `resp`, as it was when the request ended."""

    def __init__(self, status: str, headers: list[tuple[str, str]], sent: int, began: bool) -> None:
        self.status = status
        self.status_code = int(status[:3]) if status[:3].isdigit() else None
        self.headers = headers
        self.sent = sent
        self.headers_sent = began
        self.version = "portico"
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.response_length = int(lengths[0]) if lengths and lengths[0].isdigit() else None
        self.chunked = self.response_length is None
        self.must_close = False


Access = tuple[Response, Request, dict[str, Any], float]


def access_without_call(
    method: str | None,
    uri: str | None,
    version: tuple[int, int] | None,
    fields: str,
    address: tuple[str, int] | None,
    status: int,
    sent: int,
    seconds: float,
) -> Access:
    """What is logged of a request that the application has not answered; `-` for what is not known."""
    pairs = [(name, value) for name, _, value in (line.partition(": ") for line in fields.split("\r\n")[:-1])]
    request = Request(method or "-", uri or "-", version or (1, 1), pairs)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": unquote(request.path, "latin-1"),
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": "HTTP/{}.{}".format(*version) if version else "-",
    }
    for name, value in pairs:
        if "_" not in name:
            key = "HTTP_" + name.upper().replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ else value
    if address:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address[0], str(address[1])
    request.look_at(environ)
    try:
        line = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        line = str(status)
    return Response(line, [], sent, True), request, environ, seconds


class AccessQueue:
    """Brings accesses to a logger of Python, in a thread of its own: no request waits for it."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.dropped = 0
        self.thread = threading.Thread(target=self.run, name="portico-access", daemon=True)
        self.thread.start()

    def put(self, response: Response, request: Request, environ: dict[str, Any], seconds: float) -> None:
        """Takes what may be logged: whatever else environ holds is to live no longer than its request."""
        if self.waiting.qsize() >= WAITING_MAX:
            self.dropped += 1
            return
        kept = {name: value for name, value in environ.items() if isinstance(value, (str, int, float, tuple))}
        request.body = None
        self.waiting.put((response, request, kept, datetime.timedelta(seconds=seconds)))

    def run(self) -> None:
        """Logs until the end."""
        while True:
            item = self.waiting.get()
            if item is None:
                return
            try:
                self.log.access(*item)
                if self.dropped and self.waiting.empty():
                    dropped, self.dropped = self.dropped, 0
                    self.log.warning("The access log has lost %d lines: its logger is too slow", dropped)
            except Exception:
                self.log.exception("Exception in the access log")

    def close(self) -> None:
        """Waits until all is logged, but not long."""
        self.waiting.put(None)
        self.thread.join(CLOSE_SECONDS)
