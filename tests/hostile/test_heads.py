"""Heads that come slowly, heads that are large, heads that are small on the wire and large in memory."""

from __future__ import annotations

import pytest

from harness.hostile.cases import EVERY_PROTOCOL, cases
from harness.hostile.trial import MIB, Attack

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

# 64 KiB is the most that a head may have, 100 the most fields of it.
FIELDS, FIELD_BYTES = 98, 650
# Of the list's 64 KiB, 32 of them for each field (RFC 9113, section 10.5.1).
INDICES = 15


@cases(*EVERY_PROTOCOL, ("h1", 1000), short=(("tls", 100),))
def test_heads_that_come_byte_by_byte(trial, protocol, connections):
    trial(Attack("send_head_slowly", protocol, connections, {"pause": 0.2}, "head byte by byte"))


@cases(("h1", 100), ("h1", 2000), ("tls", 500), ("h2c", 1000), short=(("h1", 1400),))
def test_heads_near_every_limit(trial, protocol, connections):
    parameters = {"fields": FIELDS, "bytes": FIELD_BYTES}
    attack = Attack("hold_large_head", protocol, connections, parameters, "64 KB of head, not its end")
    trial(attack, limits=("--client-memory", "32m"), memory_bytes_max=64 * MIB)


@cases(("h2c", 1), ("h2c", 10), ("h2c", 100), ("h2", 20), short=(("h2c", 20),))
def test_indices_that_stand_for_kilobytes(trial, protocol, connections):
    parameters = {"times": INDICES, "streams": 100}
    trial(Attack("expand_headers", protocol, connections, parameters, "HPACK: a byte for 4 KB"))
