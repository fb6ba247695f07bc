"""wsgi.input against io.BytesIO: random reads of random bodies, however a body is kept and comes."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.http_client import request_bytes
from harness.wsgi_inputs import read_like_a_file

APPLICATION = "apps.inputs:application"

# Blocks of the server's: reads ahead of 64 KiB, a memory limit for spooled bodies that is smaller still.
KEPT = {
    "memory": ["--request-buffer", "1m"],
    "file": ["--request-buffer", "4k"],
    "streamed": ["--stream-request-body=always"],
}

# A failing example may be long: its body is what it is about.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

# Lines shorter and longer than what is read ahead at once.
pieces = st.tuples(st.sampled_from([b"\n", b"x", b"a line\n", b"\r\n", b"\x00\xff"]), st.integers(0, 40_000))
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(pieces, max_size=5).map(
        lambda parts: b"".join(piece * times for piece, times in parts)[:200_000]
    ),
)
sizes = st.one_of(st.none(), st.integers(-2, 20), st.integers(0, 150_000))
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline"])),
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), sizes),
        st.tuples(st.just("next")),
        st.tuples(st.just("iterate"), st.integers(0, 5)),
    ),
    max_size=12,
)


@pytest.fixture(scope="module", params=KEPT)
def keeper(request, serve_module):
    """A server for each way in which a body is kept."""
    return serve_module(APPLICATION, "--threads", "2", *KEPT[request.param])


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces, cut at these places."""
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in itertools.pairwise(places)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=bodies,
    operations=operations,
    cuts=st.lists(st.integers(0, 200_000), max_size=6),
    in_chunks=st.booleans(),
)
def test_reads_like_bytes_io(keeper, body, operations, cuts, in_chunks):
    operations = [*operations, ("read",)]
    framing = ("Transfer-Encoding", "chunked") if in_chunks else ("Content-Length", str(len(body)))
    with keeper.connect() as client:
        client.send(request_bytes("POST", "/operations", [("X-Operations", json.dumps(operations)), framing]))
        for piece in split(body, cuts):
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece) if in_chunks else piece)
        if in_chunks:
            client.send(b"0\r\n\r\n")
        response = client.read_response()
        assert response.status == 200, response
        assert json.loads(response.body) == read_like_a_file(body, operations)
        client.expect_in_sync()
