"""Each promise can be seen to be broken: a trial that finds nothing has looked."""

from __future__ import annotations

import dataclasses

import pytest

from harness.hostile.trial import MIB, Attack, Others, Outcome, Promises, broken_promises

CALM = Others(sent=200, seconds=[0.001] * 200, told="")
SLOW = Others(sent=200, seconds=[0.06] * 200, told="")
PROMISES = Promises(p99_margin_seconds=0.01)
KEPT = Outcome(
    attack=Attack("say_nothing", "h1", 1),
    without=CALM,
    under=CALM,
    memory=PROMISES.memory_bytes_max,
    disk=PROMISES.disk_bytes_max,
    descriptors=20,
    threads_held=0,
    log_lines=["[WARNING] a line"] * PROMISES.log_lines_max,
    tally={"connected": 1},
    left=None,
    worker_alive=True,
)

BROKEN = {
    "an unanswered request": ({"under": Others(200, [0.001] * 199, "")}, "199 of 200 requests"),
    "no request at all": ({"under": Others(0, [], "")}, "0 of 0 requests"),
    "slow responses": (
        {"under": Others(200, [0.001] * 197 + [0.012] * 3, "")},
        "was 12.0 ms, without the attack 1.0",
    ),
    "no baseline": ({"without": Others(200, [], "")}, "says nothing"),
    "a busy machine": ({"without": SLOW, "under": SLOW}, "nobody attacked had a p99 of 60.0 ms"),
    "memory": ({"memory": PROMISES.memory_bytes_max + MIB}, "97 MiB of memory, not 96"),
    "disk": ({"disk": PROMISES.disk_bytes_max + MIB}, "257 MiB of files, not 256"),
    "a flood of lines": ({"log_lines": ["[ERROR] a line"] * (PROMISES.log_lines_max + 1)}, "41 records"),
    "a panic": ({"log_lines": ["thread 'main' panicked at"]}, "failed within the server"),
    "what is not released": ({"left": "3 MiB"}, "there were 3 MiB"),
    "the worker's end": ({"worker_alive": False}, "did not survive"),
    "attackers that stay away": ({"tally": {}}, "no attacker connected"),
}


def test_promises_are_kept_at_the_limit():
    assert broken_promises(KEPT, PROMISES) == []
    slower = Others(200, [0.001] * 197 + [0.0109] * 3, "")
    assert broken_promises(dataclasses.replace(KEPT, under=slower), PROMISES) == []


@pytest.mark.parametrize("what", BROKEN)
def test_each_broken_promise_is_told(what):
    changes, sentence = BROKEN[what]
    broken = broken_promises(dataclasses.replace(KEPT, **changes), PROMISES)
    assert len(broken) == 1 and sentence in broken[0], broken
