"""The same files served by nginx: the same status and bytes, and validators where RFC 9110 decides."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.http_client import Client, request_bytes
from harness.ports import HOST, free_port
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.server import TESTS
from harness.static_site import FILES, StaticSite, let_changes_settle, write_site

APPLICATION = "apps.accel:application"

CONFIGURATION = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
{user}
events {{ worker_connections 64; }}
http {{
    access_log off;
    types {{ text/css css; text/plain txt; text/html html; application/json json; text/javascript js; }}
    default_type application/octet-stream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    disable_symlinks if_not_owner;
    server {{
        listen {host}:{port};
        location /s/ {{ alias {folder}/public/; gzip_static on; gzip_vary on; }}
    }}
}}
"""


@dataclass
class Nginx:
    """A running nginx."""

    port: int

    def fetch(self, target, method="GET", fields=()):
        """The response to one request."""
        with Client((HOST, self.port)) as client:
            client.send(request_bytes(method, target, fields))
            return client.read_response(method)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site that both may read."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    let_changes_settle()
    return folder


@pytest.fixture(scope="module")
def nginx(folder):
    """nginx with that site."""
    program, port = installed("nginx"), free_port()
    home = folder / "nginx"
    home.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    text = CONFIGURATION.format(host=HOST, port=port, folder=folder, user=user)
    (home / "nginx.conf").write_text(text)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, "-p", str(home), "-c", "nginx.conf"], stdout=log, stderr=log)

    def listens():
        assert process.poll() is None, Path(home, "log").read_text()
        try:
            Client((HOST, port)).socket.close()
        except ConnectionRefusedError:
            return False
        return True

    try:
        wait_until(listens, "nginx to listen")
        yield Nginx(port)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def site(serve_module, folder):
    """Portico with that site."""
    options = ["--static", "/s=public", "--pythonpath", str(TESTS)]
    return StaticSite(serve_module(APPLICATION, *options, cwd=folder), folder)


# Target, method, fields. What differs is listed below, with the reason.
REQUESTS = [
    *((f"/s/{name}", "GET", ()) for name in FILES if " " not in name),
    ("/s/a.txt", "HEAD", ()),
    ("/s/none", "GET", ()),
    ("/s/docs/", "GET", ()),
    ("/s/a.txt", "GET", (("Range", "bytes=2-4"),)),
    ("/s/a.txt", "GET", (("Range", "bytes=-3"),)),
    ("/s/a.txt", "GET", (("Range", "bytes=5-"),)),
    ("/s/a.txt", "GET", (("Range", "bytes=10-"),)),
    ("/s/a.txt", "GET", (("Range", "bytes=0-1,4-5"),)),
    ("/s/a.txt", "GET", (("Range", "lines=1-2"),)),
    ("/s/large.bin", "GET", (("Range", "bytes=1000-2999999"),)),
    ("/s/a.txt", "GET", (("If-None-Match", '"other"'),)),
    ("/s/a.txt", "GET", (("If-None-Match", "*"),)),
    ("/s/a.txt", "GET", (("If-Match", '"other"'),)),
    ("/s/a.txt", "GET", (("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),)),
    ("/s/a.txt", "GET", (("If-Range", '"other"'), ("Range", "bytes=0-1"))),
    ("/s/side.txt", "GET", (("Accept-Encoding", "gzip"),)),
    ("/s/side.txt", "GET", (("Accept-Encoding", "gzip;q=0"),)),
    ("/s/a.txt", "PUT", ()),
]


@pytest.mark.parametrize(("target", "method", "fields"), REQUESTS, ids=str)
def test_the_same(site, nginx, target, method, fields):
    ours, theirs = site.fetch(target, method, fields), nginx.fetch(target, method, fields)
    assert ours.status == theirs.status
    if ours.status not in (200, 206):
        return
    several = "multipart" in (ours.get("Content-Type") or "")
    if several:
        # The boundary is each server's own.
        ours.body, theirs.body = (
            body.replace(got.get("Content-Type").partition("boundary=")[2].encode(), b"")
            for got, body in ((ours, ours.body), (theirs, theirs.body))
        )
        assert ours.body.replace(b"; charset=utf-8", b"") == theirs.body
        return
    assert ours.body == theirs.body
    for name in ("Content-Length", "Content-Range", "Last-Modified", "Content-Encoding", "Accept-Ranges"):
        if name == "Accept-Ranges" and (ours.status == 206 or ours.get("Content-Encoding")):
            continue  # nginx leaves it out of 206; of sidecars it takes no ranges.
        if name == "Last-Modified" and ours.get("Content-Encoding"):
            continue  # nginx has the sidecar's, Portico the file's own: it is the same resource.
        assert ours.get(name) == theirs.get(name), name


EARLY = "Thu, 01 Jan 1970 00:00:00 GMT"

DIFFERENCES = {
    # What nginx says, what Portico says, and why.
    ("/s/docs", ()): (
        301,
        302,
        "a folder may become a file tomorrow; a permanent redirect stays in browsers",
    ),
    ("/s/.env", ()): (200, 404, "hidden names are secrets far more often than files for clients"),
    ("/s/out", ()): (200, 404, "a link that leads out of the folder"),
    ("/s/%2e%2e/secret", ()): (404, 400, "what was sent has another route than what is meant"),
    ("/s/a.txt", (("If-None-Match", "*"), ("If-Modified-Since", EARLY))): (
        200,
        304,
        "where there are tags, dates count for nothing (RFC 9110, section 13.2.2)",
    ),
}


@pytest.mark.parametrize("asked", DIFFERENCES, ids=str)
def test_what_differs(site, nginx, asked):
    target, fields = asked
    of_nginx, of_portico, _why = DIFFERENCES[asked]
    assert nginx.fetch(target, "GET", fields).status == of_nginx
    assert site.fetch(target, "GET", fields).status == of_portico
