"""Silent clients at the limit of descriptors: they give way to those that were served."""

from __future__ import annotations

import contextlib

import pytest

from harness.hostile.cases import cases, few_descriptors
from harness.hostile.trial import Attack

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

DESCRIPTORS, KEPT = 256, 20


@cases(("h1", 400), ("tls", 400), short=(("h1", 400),))
def test_kept_clients_outlast_silent_ones(trial, protocol, connections):
    with contextlib.ExitStack() as stack:
        kept = []

        def keep(server) -> None:
            kept[:] = [stack.enter_context(server.connect()) for _ in range(KEPT)]
            for client in kept:
                client.expect_in_sync()

        def lost(outcome) -> list[str]:
            survivors = sum(survives(client) for client in kept)
            return [f"{survivors} of {KEPT} kept clients survived"] if survivors < KEPT else []

        attack = Attack("say_nothing", protocol, connections, name="silent, at the descriptors' limit")
        trial(attack, prefix=few_descriptors(DESCRIPTORS), prepare=keep, also=lost)


def survives(client) -> bool:
    """Whether a kept connection still serves."""
    with contextlib.suppress(OSError, AssertionError):
        client.expect_in_sync()
        return True
    return False
