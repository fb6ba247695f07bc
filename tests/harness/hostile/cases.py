"""Which trials there are: protocol and connections of each, in the long form or in the short one."""

from __future__ import annotations

import pytest

Case = tuple[str, int]

COUNTS = (1, 10, 100)
# One connection in TLS shows nothing that ten do not.
EVERY_PROTOCOL: tuple[Case, ...] = (
    *(("h1", count) for count in COUNTS),
    *(("tls", count) for count in COUNTS[1:]),
    *(("h2c", count) for count in COUNTS),
    *(("h2", count) for count in COUNTS[1:]),
)
STREAMS: tuple[Case, ...] = (*(("h2c", count) for count in COUNTS), *(("h2", count) for count in COUNTS[1:]))


def cases(*long: Case, short: tuple[Case, ...] = ()) -> pytest.MarkDecorator:
    """Parametrizes `protocol` and `connections`."""
    parameters = [pytest.param(*case, id="-".join(map(str, case))) for case in short]
    parameters += [
        pytest.param(*case, id="-".join(map(str, ("long", *case))), marks=pytest.mark.hostile)
        for case in long
    ]
    return pytest.mark.parametrize(("protocol", "connections"), parameters)


def streams_of(connections: int) -> int:
    """Streams of each connection: as many as there may be, or, of many connections, fewer.

    So that the requests fit into the server's queue: more of them are overload, not what is tried here.
    """
    return 100 if connections <= 10 else 10


def few_descriptors(count: int) -> tuple[str, ...]:
    """What starts a server that may open so many."""
    return ("sh", "-c", f'ulimit -n {count} && exec "$@"', "sh")
