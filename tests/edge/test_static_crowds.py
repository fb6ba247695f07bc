"""Clients that ask for many files which are not in memory, and others that ask for one."""

from __future__ import annotations

import contextlib

import pytest

from harness.guards import one
from harness.http2_client import Http2Client
from harness.server import TESTS
from harness.static_site import FILES, let_changes_settle, write_site

# Of no password that anybody knows. One guess takes the thread for blocking work the better part of a second,
# whatever the machine: meanwhile files that are not in memory wait in its line.
SLOW_USER = "bob:$2y$14$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"
GUESS = b"GET /admin HTTP/1.1\r\nHost: test\r\nAuthorization: Basic Ym9iOng=\r\n\r\n"

ROUTES = """
[[route]]
path = "/s"
static = "public"

[[route]]
path = "/admin"
auth = "users"
"""

# As many as there may be streams by default, on so many connections that it is more than the line has places.
STREAMS, CONNECTIONS = 100, 12
JOBS_MAX = 1024


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.0.1"], ids=["other address", "same address"])
def test_asking_for_many_files_takes_no_place(serve, tmp_path, source):
    """The line for blocking work is full of one client's requests; another's are served next."""
    write_site(tmp_path)
    (tmp_path / "users").write_text(SLOW_USER)
    (tmp_path / "portico.toml").write_text(ROUTES)
    let_changes_settle()
    server = serve("apps.accel:application", "--pythonpath", str(TESTS), cwd=tmp_path)
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(Http2Client(server.address, timeout=30, source=source))
            for _ in range(CONNECTIONS)
        ]
        guess = stack.enter_context(server.connect(timeout=30))
        guess.send(GUESS)
        streams = [
            (client, client.open(f"/s/none-{number}-{place}"))
            for number, client in enumerate(crowd)
            for place in range(STREAMS)
        ]
        # The last ones find no place, before anything of theirs has been looked for.
        client, last = streams[-1]
        assert client.answer(last).status == 503
        names = [name for name in FILES if name.isascii() and " " not in name][:6]
        assert [one(server, f"/s/{name}").body for name in names] == [FILES[name] for name in names]
        assert guess.read_response().status == 401
        statuses = [client.answer(stream).status for client, stream in streams]
    refused = statuses.count(503)
    assert set(statuses) == {404, 503}
    # Those for which there was no place, one for each file; fewer where some were served before all had come.
    assert 0 < refused <= len(streams) - JOBS_MAX + len(names), refused
    server.expect_log("too much")
