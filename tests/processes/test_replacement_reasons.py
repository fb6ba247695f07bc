"""When a worker has served long enough. Without a supervisor it can only say so."""

from __future__ import annotations

import pytest

from harness.sources import program

TOLD = r"\[WARNING\] this process should be replaced, and has no supervisor to do it: "


@pytest.mark.parametrize(
    "setting, reason",
    [
        ("max_requests=5", r"it has served 5 requests"),
        ("max_lifetime=1", r"it has lived for 1 s"),
        ("worker_max_rss=16M", r"it has \d+ MiB of memory"),
    ],
)
def test_reason_is_logged_once_and_requests_continue(serve, setting, reason):
    server = serve(None, setting, "max_requests_jitter=0", program=program("serve_heavy"))
    for _ in range(5):
        assert server.request("GET", "/ping").status == 200
    server.expect_log(TOLD + reason, patience=8)
    assert server.request("GET", "/ping").status == 200
    assert len(server.find_records(TOLD)) == 1
