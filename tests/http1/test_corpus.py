"""The corpus of raw requests over a socket: each is read in one way, however its bytes arrive."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.http_client import Client, request_bytes
from harness.server import TESTS, Server
from harness.sockets import wait_read

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CORPUS = TESTS / "corpus" / "http1"
TRAILING = request_bytes(target="/trailing", host="trailing")
OPTIONS = {
    "request_line_bytes_max": "--limit-request-line",
    "fields_max": "--limit-request-fields",
    "field_bytes_max": "--limit-request-field_size",
    "head_bytes_max": "--limit-request-head",
    "body_bytes_max": "--limit-request-body",
    "chunk_line_bytes_max": "--limit-chunk-line",
}
# The command line takes no smaller ones. The Rust tests play the cases that do; test_limits.py has the edges.
SMALLEST = {
    "chunk_line_bytes_max": 32,
    "field_bytes_max": 64,
    "head_bytes_max": 1024,
    "request_line_bytes_max": 64,
}
# Files of many kilobytes are about limits, which do not depend on where a line of `a`s is cut.
SINGLE_BYTES_MAX = 3000


def cases(kind: str) -> list:
    """Every file of a folder of the corpus, as parameters of a test."""
    found = [pytest.param(path, id=path.stem) for path in sorted((CORPUS / kind).glob("*.toml"))]
    assert len(found) > 100, f"{CORPUS / kind} holds {len(found)} cases"
    return found


@pytest.fixture(scope="module")
def server_for(serve_module):
    """Server with the limits that a case names; one for each set of limits."""
    servers: dict[tuple, Server] = {}

    def find(case: dict) -> Server:
        too_small = [key for key, value in case.get("limits", {}).items() if value < SMALLEST.get(key, 0)]
        if too_small:
            pytest.skip(f"{', '.join(too_small)}: the server takes no limit as small")
        options = tuple(f"{OPTIONS[key]}={value}" for key, value in sorted(case.get("limits", {}).items()))
        if options not in servers:
            servers[options] = serve_module(
                "apps.echo:application", "--threads", "2", "--http-protocols", "h1", *options
            )
        return servers[options]

    return find


def whole(data: bytes) -> Iterator[bytes]:
    """All bytes at once."""
    yield data


def single(data: bytes) -> Iterator[bytes]:
    """One byte at a time."""
    for at in range(len(data)):
        yield data[at : at + 1]


def split(data: bytes) -> Iterator[bytes]:
    """Four pieces, each sent when the server has read the one before; the same ones in every run."""
    edges = sorted(random.Random(data).choices(range(len(data) + 1), k=3))
    for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
        yield data[start:end]


def deliver(client: Client, delivery: Callable[[bytes], Iterator[bytes]], data: bytes) -> None:
    """Sends the pieces, or as many as the server takes before it closes."""
    for piece in delivery(data):
        client.send_until_refused(piece)
        if delivery is split:
            wait_read(client)


def load(path: Path) -> tuple[bytes, dict]:
    """The bytes and what must come of them."""
    return path.with_suffix(".raw").read_bytes(), tomllib.loads(path.read_text())


def deliveries(data: bytes) -> list:
    """Ways to cut these bytes."""
    return [whole, split] if len(data) > SINGLE_BYTES_MAX else [whole, single, split]


@pytest.mark.parametrize("path", cases("valid"))
def test_valid_requests_arrive_as_they_were_meant(server_for, path):
    data, case = load(path)
    requests, unfinished = case.get("requests", []), case.get("unfinished", False)
    kept = not unfinished and all(request["keep_alive"] for request in requests)
    for delivery in deliveries(data):
        with server_for(case).connect() as client:
            deliver(client, delivery, data)
            check_requests(client, requests)
            if kept:
                client.expect_in_sync()
            elif unfinished:
                client.expect_silence(0.01)
            else:
                # Pieces that come when the connection is closed are answered with RST.
                client.expect_end(reset_is_end=delivery is not whole)
    with server_for(case).connect() as client:
        if unfinished:
            return
        client.send_until_refused(data + TRAILING)
        check_requests(client, requests)
        if kept:
            assert json.loads(client.read_response().body)["target"] == "/trailing"
        else:
            client.expect_end()


@pytest.mark.parametrize("path", cases("invalid"))
def test_invalid_requests_are_refused_and_end_the_connection(server_for, path):
    data, case = load(path)
    for delivery in deliveries(data):
        check_refusal(server_for(case), delivery, data, case)
    check_refusal(server_for(case), whole, data + TRAILING, case)


def check_refusal(
    server: Server, delivery: Callable[[bytes], Iterator[bytes]], data: bytes, case: dict
) -> None:
    """The answers to the requests before the error, then the error's, then the end."""
    with server.connect() as client:
        deliver(client, delivery, data)
        check_requests(client, case.get("requests", []))
        response = client.read_response()
        assert response.status == case["error"]["status"], response
        assert response.closes
        client.expect_end()


def check_requests(client: Client, requests: list[dict]) -> None:
    """The application saw these very requests, in this order."""
    for request in requests:
        response = client.read_response(request["method"])
        assert response.status == 200, response
        told = json.loads(response.get("X-Echo") if request["method"] == "HEAD" else response.body)
        body = request["body"].encode("latin-1") if "body" in request else bytes.fromhex(request["body_hex"])
        assert told["body"].encode("latin-1") == body
        expected = (request["method"], request["target"], f"HTTP/{request['version']}")
        assert (told["method"], told["target"], told["version"]) == expected
        assert response.closes == (not request["keep_alive"])
        if "query" in request:
            assert told["environ"]["QUERY_STRING"] == request["query"]
        check_fields(told["environ"], request)


def check_fields(environ: dict[str, str], request: dict) -> None:
    """Each field stands in environ, those of one name together, and nothing else does."""
    values: dict[str, list[str]] = {}
    for name, value in request["fields"]:
        values.setdefault("HTTP_" + name.upper().replace("-", "_"), []).append(value)
    if "authority" in request:
        values["HTTP_HOST"] = [request["authority"]]
    values.pop("HTTP_TRANSFER_ENCODING", None)
    values.pop("HTTP_CONTENT_LENGTH", None)
    content_type = values.pop("HTTP_CONTENT_TYPE", [""])
    assert environ.get("CONTENT_TYPE", "") == content_type[-1]
    joined = {
        key: "; ".join(several) if key == "HTTP_COOKIE" else ",".join(several)
        for key, several in values.items()
    }
    seen = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
    assert seen == joined
