"""Requests that are ended as soon as they are made: by the client, or by the server that it provokes."""

from __future__ import annotations

import pytest

from harness.hostile.cases import cases
from harness.hostile.trial import Attack

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

# Each request holds a thread for so long, and nothing can end that; 900 of them hold eight threads for 0.6 s.
TARGET, COUNT = "/work?seconds=0.005", 900
AT_ONCE, IN_WAVES = 1, 50


@cases(("h2c", 1), ("h2c", 10), ("h2", 1), short=(("h2c", 1),))
@pytest.mark.parametrize(
    ("kind", "wave"),
    [
        ("make_you_reset", IN_WAVES),
        ("reset_rapidly", IN_WAVES),
        pytest.param("reset_rapidly", AT_ONCE, marks=pytest.mark.hostile),
    ],
    ids=["by the server", "by the client", "at once"],
)
def test_requests_that_are_reset(trial, kind, wave, protocol, connections):
    parameters = {"target": TARGET, "count": COUNT, "wave": wave, "pause": 0.005 if wave > 1 else 0}
    trial(Attack(kind, protocol, connections, parameters, f"{kind.replace('_', ' ')}, {wave} at a time"))
