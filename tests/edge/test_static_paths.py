"""No spelling of a path leads out of a folder that is served, nor to what is hidden in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.http_client import request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS
from harness.static_site import ALL_PROTOCOLS, FILES, SECRET, StaticSite, let_changes_settle, write_site

APPLICATION = "apps.accel:application"

ROUTES = """
[[route]]
path = "/static"
static = "public"

[[route]]
path = "/list"
static = "public"
listing = true

[[route]]
path = "/follow"
static = "public"
symlinks = "follow"
listing = true

[[route]]
path = "/refuse"
static = "public"
symlinks = "refuse"

[[route]]
path = "/protected"
static = "public"
internal = true
"""

PREFIXES = ("/static", "/list", "/follow", "/refuse", "/protected")

# Behind a prefix. None of them is served, whatever is done with links.
TRAVERSALS = [
    "/../secret",
    "/..%2fsecret",
    "/%2e%2e/secret",
    "/%2e%2e%2fsecret",
    "/.%2e/secret",
    "/%252e%252e/secret",
    "/..%5csecret",
    "/..\\secret",
    "/%c0%ae%c0%ae/secret",
    "/%e0%80%ae%e0%80%ae/secret",
    "/%uff0e%uff0e/secret",
    "../secret",
    "..%2fsecret",
    "/..;/secret",
    "/a;x/../../secret",
    "/docs/../../secret",
    "/docs/..%2f..%2fsecret",
    "//..//secret",
    "/.../secret",
    "/a.txt%00",
    "/a.txt%00.css",
    "/%00",
    "//etc/passwd",
    "/%2fetc/passwd",
    "/%2e/.env",
    "/.env",
    "/%2eenv",
    "/deep/.git/config",
    "/docs/../deep/.git/config",
    "/deep/.git%2fconfig",
    "/.well-known/../.env",
    "/proc/self/environ",
    "ity/secret",
    "/fifo",
]

# Not served unless links are followed anywhere.
LINKS = ["/out", "/absolute", "/folder-out/secret", "/side-out.txt.br"]


@pytest.fixture(scope="module")
def site(serve_module, tmp_path_factory, authority, pair):
    """A server of a site whose folder has everything that must not be served."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    (folder / "portico.toml").write_text(ROUTES)
    let_changes_settle()
    options = ["--pythonpath", str(TESTS), *pair.options]
    server = serve_module(APPLICATION, *options, bind=StaticSite.binds(folder), cwd=folder)
    return StaticSite(server, folder, authority.certificate)


def is_foreign(body: bytes) -> bool:
    """Whether something that is outside, or hidden, is in it."""
    return SECRET in body or b"root:x:" in body or b"PATH=" in body


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_byte_of_what_is_outside_or_hidden(site, prefix):
    for path in TRAVERSALS:
        for _ in range(2):
            with site.connect() as client:
                client.send(request_bytes("GET", prefix + path))
                response = client.read_response()
            assert response.status in (302, 400, 404) or response.get("X-App"), (path, response.status)
            assert not is_foreign(response.body), path
    for path in LINKS if prefix != "/follow" else []:
        response = site.fetch(prefix + path)
        assert response.status == 404 and not is_foreign(response.body), path
    if prefix == "/follow":
        assert site.fetch(prefix + "/out").body == SECRET, "that is what follow says"
    site.server.first_record = len(site.server.records)


@pytest.mark.parametrize("protocol", ALL_PROTOCOLS)
def test_no_protocol_reads_paths_in_another_way(site, protocol):
    for path in [
        "/static/../secret",
        "/static/%2e%2e/secret",
        "/static/.env",
        "/static/..%2fsecret",
        "/static/out",
    ]:
        got = site.fetch(path, protocol=protocol)
        assert not is_foreign(got.body) and (got.status in (400, 404) or got.get("X-App")), path
    assert site.fetch("/static/./docs/../a.txt", protocol=protocol).body == FILES["a.txt"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PROPFIND"])
def test_no_method_shows_what_is_hidden(site, method):
    for path in ["/static/.env", "/static/out", "/protected/a.txt"]:
        assert not is_foreign(site.fetch(path, method).body)
        assert site.fetch(path, method).status in (204, 404, 405)


def test_targets_in_other_forms(site):
    for target in ["http://test/static/../secret", "http://test/static/%2e%2e/secret", "http://x/../secret"]:
        got = site.fetch(target)
        assert not is_foreign(got.body), target


def test_a_listing_shows_nothing_hidden(site):
    page = site.fetch("/list/deep/../assets/").body + site.fetch("/list/deep/").body
    assert b".git" not in page and b".env" not in page


def test_special_files_are_not_waited_for(site):
    for name in ("fifo",):
        assert site.fetch(f"/static/{name}").status == 404
    socket_path = site.folder / "public" / "device"
    try:
        os.mknod(socket_path, 0o20666, os.makedev(1, 5))
    except PermissionError:
        return
    assert site.fetch("/static/device").status == 404
    os.unlink(socket_path)


def test_a_huge_sparse_file_is_sent_in_parts(site):
    got = site.fetch("/static/sparse", fields=[("Range", f"bytes={(1 << 36) - 3}-")])
    assert (got.status, got.body) == (206, b"\0\0\0")
    assert site.fetch("/static/sparse", "HEAD").get("Content-Length") == str(1 << 36)
    with site.connect() as client:
        client.send(request_bytes("GET", "/static/sparse"))
        assert client.read_head().status == 200
    assert site.fetch("/ping").status == 200


# Has the name be in turn a link to something outside and a file, until it is ended. A process of its own: a
# thread would change the name only where the client lets it.
EXCHANGE = """
import os, pathlib, sys
made, name = (pathlib.Path(sys.argv[1], name) for name in ("made", "turning"))
while True:
    made.symlink_to("../secret")
    os.replace(made, name)
    made.write_text("inside")
    os.replace(made, name)
"""


def test_a_link_that_changes_under_load_shows_nothing(site):
    public = site.folder / "public"
    process = subprocess.Popen([sys.executable, "-c", EXCHANGE, str(public)])
    bodies = set()

    def ask_often():
        with site.connect() as client:
            for _ in range(3000):
                for prefix in ("/static", "/refuse"):
                    response = client.request("GET", prefix + "/turning")
                    assert response.status in (200, 404)
                    bodies.add(response.body)
        assert SECRET not in bodies
        return b"inside" in bodies and b"404 Not Found\n" in bodies

    try:
        wait_until(ask_often, "both states")
    finally:
        process.kill()
        process.wait()
        for name in ("made", "turning"):
            (public / name).unlink(missing_ok=True)
    site.server.first_record = len(site.server.records)


def test_links_that_lead_outside_are_told_once(site):
    for _ in range(3):
        site.fetch("/list/out")
    lines = [record for record in site.server.records if 'symlinks = "follow"' in str(record)]
    assert 1 <= len(lines) <= 2, lines
