"""Clients that ask for much and take little of it, or nothing, or take it steadily and slowly."""

from __future__ import annotations

import pytest

from harness.hostile.cases import EVERY_PROTOCOL, STREAMS, cases, streams_of
from harness.hostile.trial import THREADS, Attack, Promises

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

# Every kind of response; `list` and `blocks` of sizes that no buffer of the kernel takes.
TARGETS = {
    "list of 4 MB": "/list?bytes=4000000",
    "list of 8 MiB": "/list?bytes=8388608",
    "list of 20 MiB": "/list?bytes=20971520",
    "generator with length": "/blocks?bytes=8388608&length=told",
    "generator without length": "/blocks?bytes=8388608&length=untold",
    "file": "/file?bytes=20971520",
}
FRESH_BYTES = 4_000_000
STILL = {"bytes": 0, "pause": 0}
TRICKLE = {"bytes": 1, "pause": 1}
SLOW = {"bytes": 360, "pause": 0.1}
AT_ONCE: dict[str, float] = {}
# Each has the application make, and the server store, megabytes: more of them a second are overload, whoever
# reads. `test_honest_readers_of_the_same` shows what such requests cost others when they are read at once.
ARRIVALS_A_SECOND = 40


def reader(name, protocol, connections, pattern, *targets) -> Attack:
    """Readers of this pattern, who ask for the targets in turn, or for every kind of response."""
    streams = max(1, streams_of(connections) // 10)
    parameters = {**pattern, "targets": targets or [*TARGETS.values()], "streams": streams}
    kind = "read_slowly" if pattern is not AT_ONCE else "read_at_once"
    return Attack(kind, protocol, connections, parameters, name, ARRIVALS_A_SECOND)


@cases(("h1", 100), ("tls", 100), ("h2c", 10), ("h2c", 100), ("h2", 100))
def test_honest_readers_of_the_same(trial, protocol, connections):
    """What the same requests cost others when they are read at once: this is work, not slowness."""
    attack = reader("control: read at once", protocol, connections, AT_ONCE)

    def lost(outcome) -> list[str]:
        whole = outcome.tally.get("whole", 0)
        return [f"{whole} of {connections} got all of it"] if whole < connections else []

    trial(attack, also=lost)


@cases(*EVERY_PROTOCOL, short=(("h1", 40), ("h2", 10)))
def test_readers_that_take_nothing(trial, protocol, connections):
    trial(reader("read nothing", protocol, connections, STILL))


@cases(*EVERY_PROTOCOL)
def test_readers_of_a_byte_a_second(trial, protocol, connections):
    trial(reader("read a byte a second", protocol, connections, TRICKLE))


@cases(*EVERY_PROTOCOL, short=(("tls", 40),))
def test_readers_of_a_few_kilobytes_a_second(trial, protocol, connections):
    trial(reader("read 3.6 KB/s", protocol, connections, SLOW))


@pytest.mark.hostile
@pytest.mark.parametrize("kind", TARGETS)
def test_each_kind_of_response_by_itself(trial, kind):
    trial(reader(f"read nothing: {kind}", "h1", 100, STILL, TARGETS[kind]))


@cases(("h1", 100), ("tls", 100), ("h2c", 10), short=(("h1", 60),))
def test_responses_that_are_memory_of_the_worker(trial, protocol, connections):
    """Blocks of each response's own: what is held of them is not only counted, it is there.

    The application has one more in each thread, which no server can help.
    """
    attack = reader("read nothing: fresh 4 MB", protocol, connections, STILL, f"/fresh?bytes={FRESH_BYTES}")
    trial(attack, memory_bytes_max=Promises.memory_bytes_max + THREADS * FRESH_BYTES)


@cases(("h1", 1), ("h1", 10), ("h1", 100), ("h2c", 10), short=(("h1", 20),))
def test_endless_streams_fill_no_disk(trial, protocol, connections):
    trial(reader("stand still before events", protocol, connections, STILL, "/events"))


# Windows of HTTP/2

LARGE = "/list?bytes=8388608"
GENERATED = "/blocks?bytes=8388608&length=told"


def withhold(protocol, connections, target) -> Attack:
    """Clients that widen the window of each stream by a byte now and then."""
    parameters = {"target": target, "streams": streams_of(connections), "pause": 2}
    name = f"a byte of window per stream: {'list' if target == LARGE else 'generator'}"
    return Attack("withhold_stream_windows", protocol, connections, parameters, name, ARRIVALS_A_SECOND)


@cases(*STREAMS, short=(("h2c", 2),))
def test_windows_of_a_byte_per_stream(trial, protocol, connections):
    trial(withhold(protocol, connections, LARGE))


@cases(("h2c", 2), ("h2c", 10))
def test_windows_of_a_byte_per_generated_stream(trial, protocol, connections):
    trial(withhold(protocol, connections, GENERATED))


@cases(*STREAMS)
def test_connection_window_that_is_never_widened(trial, protocol, connections):
    parameters = {"target": LARGE, "streams": streams_of(connections)}
    kind, pace = "withhold_connection_window", ARRIVALS_A_SECOND
    trial(Attack(kind, protocol, connections, parameters, arrivals_a_second=pace))


# Slow, and honest

RATES = (8_000, 16_000, 32_000)


def steady(trial, protocol, size, seconds, *options, **settings) -> None:
    """A reader of each rate and protocol, the kinds of responses in turn; each gets all of it in the end."""
    kinds = [f"/list?bytes={size}", f"/blocks?bytes={size}&length=told", f"/file?bytes={size}"]
    parameters = {"rates": RATES, "targets": kinds}
    count = len(RATES) * len(protocol.split("+"))
    attack = Attack("read_steadily", protocol, count, parameters, f"read {size / 1e6:.0f} MB steadily")

    def lost(outcome) -> list[str]:
        whole = outcome.tally.get("whole", 0)
        if whole == count:
            return []
        told = "; ".join(outcome.log_lines) or "nothing"
        return [f"{whole} of {count} steady readers got all of their response; the log says {told}"]

    trial(attack, *options, seconds=seconds, also=lost, **settings)


def test_steady_readers_outlast_a_write_timeout(trial):
    steady(trial, "h1+tls+h2c", 8_000_000, 4, "--write-timeout", "1")


@pytest.mark.hostile
@pytest.mark.timeout(600)
def test_steady_readers_of_100_mb(trial):
    """For longer than --write-timeout three times over, at the rates of slow lines; then the rest at once.

    There is room in files for all of the responses: who is the first to give way where there is not, is tried
    with those that take nothing.
    """
    limits = ("--client-memory", "64m", "--spool-total", "2g")
    steady(trial, "h1+tls+h2c+h2", 100_000_000, 100, limits=limits, disk_bytes_max=2 << 30)
