"""Attacks on static files and on the limits of routes: what slow readers, uploads, crowds of names and wrong
passwords cost others."""

from __future__ import annotations

import pytest

from harness.hostile.cases import cases, streams_of
from harness.hostile.trial import Attack

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

LARGE_BYTES = 50_000_000
# Of no password that anybody knows. One's hash has so few rounds that 200 a second are little work: what is
# tried is the line, not the hash. The other's takes as long as those that are advised.
USERS = (
    "bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"
    "ann:$2y$10$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"
)

ROUTES = """
[[route]]
path = "/s"
static = "{folder}/files"

[[route]]
path = "/admin"
static = "{folder}/files"
auth = "{folder}/users"

[[route]]
path = "/limited"
static = "{folder}/files"
limit = "5/m"
"""


@pytest.fixture
def options(tmp_path):
    """Has the server of a trial serve files, some of them to users and some within a limit."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "small").write_bytes(b"x" * 1024)
    with (files / "large").open("wb") as large:
        large.write(b"\n" * LARGE_BYTES)
    (tmp_path / "users").write_text(USERS)
    file = tmp_path / "portico.toml"
    file.write_text(ROUTES.format(folder=tmp_path))
    return ("--config", str(file))


@cases(
    *(("h1", 100), ("tls", 100), ("h2c", 10), ("h2", 10)),
    short=(("h1", 40), ("h2", 10)),
)
@pytest.mark.parametrize("pattern", [(0, 0), (360, 0.1)], ids=["nothing", "3.6 KB a second"])
def test_slow_readers_of_a_large_file(trial, options, protocol, connections, pattern):
    count, pause = pattern
    streams = max(1, streams_of(connections) // 10)
    parameters = {"targets": ["/s/large"], "bytes": count, "pause": pause, "streams": streams}
    trial(Attack("read_slowly", protocol, connections, parameters, "read a file slowly", 40), *options)


@cases(("h2c", 10), ("h2", 10), ("h2", 100), short=(("h2c", 4),))
@pytest.mark.parametrize("kind", ["withhold_connection_window", "withhold_stream_windows"])
def test_windows_that_are_withheld_from_a_file(trial, options, protocol, connections, kind):
    parameters = {"target": "/s/large", "streams": streams_of(connections), "pause": 2}
    trial(Attack(kind, protocol, connections, parameters, arrivals_a_second=40), *options)


def refused(status, least):
    """What is wrong if fewer responses than these had this status."""

    def check(outcome) -> list[str]:
        found = outcome.tally.get(f"status {status}", 0)
        return [] if found >= least else [f"{found} responses had the status {status}: {outcome.tally}"]

    return check


@cases(("h1", 100), ("tls", 100), ("h2c", 10), ("h2", 10), short=(("h1", 40), ("h2", 4)))
def test_uploads_for_a_file(trial, options, protocol, connections):
    """They are refused at their heads: nothing of the bodies is kept."""
    streams = streams_of(connections)
    parameters = {"length": 10_000_000, "bytes": 1, "pause": 0.5, "streams": streams, "target": "/s/large"}
    attack = Attack("upload_and_stall", protocol, connections, parameters, "upload to a file")
    trial(attack, *options, also=refused(405, connections), disk_bytes_max=0)


def again(name, connections, target, pause, *fields, user="") -> Attack:
    """Clients that ask again as soon as they have their response, and a pause is over."""
    parameters = {"target": target, "pause": pause, "fields": fields, "user": user}
    return Attack("ask_again", "h1", connections, parameters, name)


@cases(("h1", 400), short=(("h1", 100),))
def test_thousands_of_names_that_are_not_there(trial, options, protocol, connections):
    """Each is looked for on a disk, for nobody has asked for it before."""
    attack = again("names that are not there", connections, "/s/none-{}", 0.05)
    trial(attack, *options, also=refused(404, connections))


@cases(("h1", 400), short=(("h1", 100),))
def test_a_table_that_is_flooded_with_addresses(trial, options, protocol, connections):
    """A proxy that is believed names another client with each request: more of them than the table has."""
    fields = ("X-Forwarded-For: {address}",)
    attack = again("clients without number", connections, "/limited/small", 0.05, *fields)
    settings = ("--forwarded-allow-ips", "*", "--limit-slots", "1024")
    trial(attack, *options, *settings, also=refused(200, connections))


@cases(("h1", 2000), short=(("h1", 300),))
def test_clients_that_are_over_their_limit(trial, options, protocol, connections):
    attack = again("429 for all", connections, "/limited/small", 1)
    trial(attack, *options, also=refused(429, connections))


def wrong_passwords(connections, user) -> Attack:
    """A wrong password a second from each, which is a client of its own: one may try but a few."""
    fields = ("X-Forwarded-For: {address}",)
    return again(f"wrong passwords of {user}", connections, "/admin/small", 1, *fields, user=user)


@cases(("h1", 200), short=(("h1", 200),))
def test_two_hundred_wrong_passwords_a_second(trial, options, protocol, connections):
    attack = wrong_passwords(connections, "bob")
    trial(attack, *options, "--forwarded-allow-ips", "*", also=refused(401, connections // 2))


@pytest.mark.hostile
def test_two_hundred_wrong_passwords_with_slow_hashes(trial, options):
    """More than the thread for such work can do: those for whom there is no place get 503."""
    trial(wrong_passwords(200, "ann"), *options, "--forwarded-allow-ips", "*", also=refused(401, 5))
