"""Bodies that never end, bodies that each take a file, bodies for which there is no file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness.hostile.cases import EVERY_PROTOCOL, cases, few_descriptors, streams_of
from harness.hostile.trial import MIB, Attack

# A trial compares how long others wait with and without it.
pytestmark = pytest.mark.serial

# Just above --request-buffer, 64 KiB: each such body lies in a file.
SPOOLED_BYTES = 65_556
# What a user has whose limits nobody raised.
USUAL_DESCRIPTORS = 1024


def upload(name, protocol, connections, *, first, length=10_000_000, pause=0.5, streams=None) -> Attack:
    """Bodies of which `first` bytes come at once, and then a byte now and then."""
    streams = streams or streams_of(connections)
    parameters = {"target": "/consume", "length": length, "bytes": first, "pause": pause, "streams": streams}
    return Attack("upload_and_stall", protocol, connections, parameters, name)


@cases(*EVERY_PROTOCOL, short=(("h2", 2),))
def test_bodies_of_a_byte_now_and_then(trial, protocol, connections):
    trial(upload("upload byte by byte", protocol, connections, first=1))


@cases(("h1", 500), ("h2c", 1), ("h2c", 12), ("h2", 12), short=(("h2c", 12),))
def test_bodies_that_take_a_file_each(trial, protocol, connections):
    """12 connections with 100 streams each, of which every one would like a file."""
    attack = upload(
        "bodies just above --request-buffer",
        protocol,
        connections,
        first=SPOOLED_BYTES,
        length=SPOOLED_BYTES + 1000,
        pause=5,
        streams=100,
    )
    trial(attack, prefix=few_descriptors(USUAL_DESCRIPTORS))


@cases(("h1", 10), ("h2c", 10), short=(("h1", 8),))
def test_bodies_beyond_what_files_may_take(trial, protocol, connections):
    trial(upload("bodies of 40 MB", protocol, connections, first=40_000_000, length=50_000_000, streams=1))


def refused(outcome) -> list[str]:
    """What is wrong if no body was refused for want of room."""
    refusals = [outcome.tally.get(f"status {status}", 0) for status in (503, 507)]
    return [] if refusals[1] else [f"none was refused with 507, and {refusals[0]} with 503"]


@cases(("h1", 100), ("tls", 100), ("h2c", 10), short=(("h1", 60),))
def test_bodies_where_no_file_can_be_made(trial, tmp_path, protocol, connections):
    """Root may write everywhere: so that it cannot, the folder is taken away once the server has started."""
    folder = tmp_path / "uploads"
    attack = upload(
        "bodies of 4 MB, no folder",
        protocol,
        connections,
        first=3_999_000,
        length=4_000_000,
        pause=5,
        streams=10,
    )
    making = ("sh", "-c", f'mkdir {folder} && exec "$@"', "sh")
    options = ("--tmp-upload-dir", str(folder))
    trial(attack, *options, prefix=making, prepare=lambda server: folder.rmdir(), also=refused)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A folder with room for 8 MiB; only root can make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cases(("h1", 100), ("h2c", 10))
def test_bodies_that_fill_the_disk(trial, small_disk, protocol, connections):
    attack = upload(
        "bodies of 4 MB, 8 MiB of disk", protocol, connections, first=3_999_000, length=4_000_000, streams=10
    )
    trial(attack, "--tmp-upload-dir", str(small_disk), also=refused, disk_bytes_max=8 * MIB)
