"""Files that change while they are served: what was announced is sent, or the response is cut."""

from __future__ import annotations

import os
import time

import pytest

from harness.http_client import FramingError, request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS
from harness.static_site import FRESH_SECONDS, LARGE, StaticSite, let_changes_settle

APPLICATION = "apps.accel:application"

# More than both ends of a connection take in before anybody reads.
CONTENT = LARGE * 8


@pytest.fixture
def site(serve, tmp_path):
    """A server whose folder `public` a test writes."""
    public = tmp_path / "public"
    public.mkdir()
    options = ["--static", "/s=public", "--pythonpath", str(TESTS)]
    return StaticSite(serve(APPLICATION, *options, cwd=tmp_path), tmp_path)


def write(site, name, content):
    """Writes a file of the site."""
    path = site.folder / "public" / name
    path.write_bytes(content)
    return path


def sent_while(site, change):
    """What comes of a large file that is changed when a part of it has come; whether it came whole."""
    with site.connect() as client:
        client.send(request_bytes("GET", "/s/large"))
        head = client.read_head()
        assert (head.status, head.get("Content-Length")) == (200, str(len(CONTENT)))
        received = client.read_exactly(100_000)
        change()
        try:
            received += client.read_exactly(len(CONTENT) - len(received))
        except (FramingError, AssertionError, ConnectionError):
            return received, False
    return received, True


def test_a_growing_file_keeps_its_announced_length(site):
    path = write(site, "large", CONTENT)

    def grow():
        with path.open("ab") as file:
            file.write(b"more")

    received, is_whole = sent_while(site, grow)
    assert is_whole and received == CONTENT
    assert site.fetch("/s/large").body == CONTENT + b"more"


def test_a_replaced_file_is_sent_as_it_was(site):
    path = write(site, "large", CONTENT)

    def replace():
        other = write(site, "other", bytes(len(CONTENT)))
        os.replace(other, path)

    received, is_whole = sent_while(site, replace)
    assert is_whole and received == CONTENT
    assert site.fetch("/s/large").body == bytes(len(CONTENT))


def test_a_truncated_file_ends_the_connection(site):
    path = write(site, "large", CONTENT)
    received, is_whole = sent_while(site, lambda: os.truncate(path, 200_000))
    assert not is_whole and CONTENT.startswith(received)
    assert site.fetch("/s/large").body == CONTENT[:200_000]
    assert site.fetch("/ping").status == 200


def test_changes_are_seen_within_a_second(site):
    path = write(site, "a.txt", b"one")
    let_changes_settle()
    first = site.fetch("/s/a.txt")
    assert first.body == b"one"
    # Of the same length, and its time set back.
    times = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    time.sleep(FRESH_SECONDS)
    second = site.fetch("/s/a.txt", fields=[("If-None-Match", first.get("ETag"))])
    assert (second.status, second.body) == (200, b"two")
    assert second.get("ETag") != first.get("ETag")
    path.unlink()
    wait_until(lambda: site.fetch("/s/a.txt").status == 404, "its end")
    write(site, "a.txt", b"three")
    assert site.fetch("/s/a.txt").body == b"three", "what is not there is asked for each time"


def test_a_young_file_is_never_stale(site):
    for number in range(30):
        content = b"%03d" % number
        write(site, "young", content)
        got = site.fetch("/s/young")
        assert got.body == content


def test_a_sidecar_that_comes_and_goes_is_seen(site):
    write(site, "a.txt", b"plain " * 50)
    let_changes_settle()
    asked = [("Accept-Encoding", "gzip")]
    assert site.fetch("/s/a.txt", fields=asked).get("Content-Encoding") is None
    side = write(site, "a.txt.gz", b"packed")
    wait_until(lambda: site.fetch("/s/a.txt", fields=asked).body == b"packed", "the sidecar")
    side.unlink()
    wait_until(lambda: site.fetch("/s/a.txt", fields=asked).body == b"plain " * 50, "its end")


def test_the_folder_is_switched_and_made_anew(serve, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    current = tmp_path / "current"
    current.symlink_to("one")
    let_changes_settle()
    options = ["--static", "/s=current", "--pythonpath", str(TESTS)]
    site = StaticSite(serve(APPLICATION, *options, cwd=tmp_path), tmp_path)
    assert site.fetch("/s/x").body == b"one"
    made = tmp_path / "made"
    made.symlink_to("two")
    os.replace(made, current)
    wait_until(lambda: site.fetch("/s/x").body == b"two", "the other folder")
    (tmp_path / "two").rename(tmp_path / "gone")
    wait_until(lambda: site.fetch("/s/x").status == 404, "no folder")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "x").write_text("again")
    wait_until(lambda: site.fetch("/s/x").body == b"again", "the folder made anew")


def test_constant_times_do_not_hide_changes(site):
    """As in images whose files all have the first second of 1970: the tag is of the content."""
    path = write(site, "a.txt", b"one")
    os.utime(path, (1, 1))
    let_changes_settle()
    first = site.fetch("/s/a.txt")
    assert first.get("Last-Modified") is None and first.get("ETag")
    path.write_bytes(b"two")
    os.utime(path, (1, 1))
    time.sleep(FRESH_SECONDS)
    second = site.fetch("/s/a.txt", fields=[("If-None-Match", first.get("ETag"))])
    assert (second.status, second.body) == (200, b"two")


def test_files_are_served_without_a_cache(serve, tmp_path):
    (tmp_path / "x").write_text("x")
    options = ["--static", f"/s={tmp_path}", "--static-cache", "0", "--pythonpath", str(TESTS)]
    site = StaticSite(serve(APPLICATION, *options), tmp_path)
    for _ in range(3):
        assert site.fetch("/s/x").body == b"x"
