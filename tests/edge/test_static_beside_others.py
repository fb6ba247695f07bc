"""The same files served by nginx and Caddy: the same status, bytes and, by RFC 9110, validators."""

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

NGINX = """
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

CADDY = """
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind {host}
    handle_path /s/* {{
        root * {folder}/public
        file_server {{
            precompressed gzip
        }}
    }}
}}
"""

# Each with its configuration, the name of the file for that, and how it is run with it.
PEERS = {
    "nginx": (NGINX, "nginx.conf", ("-p", "{home}", "-c", "nginx.conf")),
    "caddy": (CADDY, "Caddyfile", ("run", "--config", "{home}/Caddyfile", "--adapter", "caddyfile")),
}


@dataclass
class Peer:
    """Another server of the same files."""

    name: str
    port: int

    def fetch(self, target, method="GET", fields=()):
        """The response to one request."""
        with Client((HOST, self.port)) as client:
            client.send(request_bytes(method, target, fields))
            return client.read_response(method)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site that all may read."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    let_changes_settle()
    return folder


@pytest.fixture(scope="module", params=PEERS)
def peer(request, folder):
    """Another server with that site."""
    configuration, file, arguments = PEERS[request.param]
    program, port = installed(request.param), free_port()
    home = folder / request.param
    home.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (home / file).write_text(configuration.format(host=HOST, port=port, folder=folder, user=user))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, *(word.format(home=home) for word in arguments)],
            env=os.environ | {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)},
            stdout=log,
            stderr=log,
        )

    def listens():
        assert process.poll() is None, Path(home, "log").read_text()
        try:
            Client((HOST, port)).socket.close()
        except ConnectionRefusedError:
            return False
        return True

    try:
        wait_until(listens, f"{request.param} to listen")
        yield Peer(request.param, port)
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
    ("/s/large.bin", "GET", (("Range", "bytes=1000-2999999"),)),
    ("/s/a.txt", "GET", (("If-None-Match", '"other"'),)),
    ("/s/a.txt", "GET", (("If-None-Match", "*"),)),
    ("/s/a.txt", "GET", (("If-Match", '"other"'),)),
    ("/s/a.txt", "GET", (("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),)),
    ("/s/a.txt", "GET", (("If-Range", '"other"'), ("Range", "bytes=0-1"))),
    ("/s/side.txt", "GET", (("Accept-Encoding", "gzip"),)),
    ("/s/side.txt", "GET", (("Accept-Encoding", "gzip;q=0"),)),
]


def parts(response):
    """The parts of a multipart response, each with its fields in some order, but for the charset of text."""
    boundary = response.get("Content-Type").partition("boundary=")[2].encode()
    divided = response.body.replace(b"; charset=utf-8", b"").split(b"--" + boundary)
    # Before the first boundary there may be a line end or not (RFC 2046, section 5.1.1).
    assert divided[0].strip() == b"" and divided[-1] == b"--\r\n"
    heads = [part.partition(b"\r\n\r\n") for part in divided[1:-1]]
    return [(sorted(head.split(b"\r\n")), body) for head, _, body in heads]


@pytest.mark.parametrize(("target", "method", "fields"), REQUESTS, ids=str)
def test_the_same(site, peer, target, method, fields):
    ours, theirs = site.fetch(target, method, fields), peer.fetch(target, method, fields)
    assert ours.status == theirs.status
    if ours.status not in (200, 206):
        return
    if "multipart" in (ours.get("Content-Type") or ""):
        assert parts(ours) == parts(theirs)
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
    # What nginx responds, what Caddy, what Portico, and why.
    ("/s/docs", "GET", ()): (
        (301, 308, 302),
        "a folder may become a file tomorrow; a permanent redirect stays in browsers",
    ),
    ("/s/.env", "GET", ()): (
        (200, 200, 404),
        "hidden names are secrets far more often than files for clients",
    ),
    ("/s/out", "GET", ()): ((200, 200, 404), "a link that leads out of the folder"),
    ("/s/%2e%2e/secret", "GET", ()): (
        (404, 200, 400),
        "what was sent has another route than what is meant; of Caddy it is an empty response, for no site",
    ),
    ("/s/a.txt", "GET", (("If-None-Match", "*"), ("If-Modified-Since", EARLY))): (
        (200, 304, 304),
        "where there are tags, dates count for nothing (RFC 9110, section 13.2.2)",
    ),
    ("/s/a.txt", "GET", (("Range", "lines=1-2"),)): (
        (200, 416, 200),
        "a range unit that is not known is ignored (RFC 9110, section 14.2)",
    ),
    ("/s/a.txt", "PUT", ()): ((405, 200, 405), "a file takes no PUT (RFC 9110, section 15.5.6)"),
}


@pytest.mark.parametrize("asked", DIFFERENCES, ids=str)
def test_what_differs(site, peer, asked):
    target, method, fields = asked
    (of_nginx, of_caddy, of_portico), _why = DIFFERENCES[asked]
    assert peer.fetch(target, method, fields).status == {"nginx": of_nginx, "caddy": of_caddy}[peer.name]
    assert site.fetch(target, method, fields).status == of_portico
