"""A site of static files for tests, with what must not be served beside it, and clients of every protocol."""

from __future__ import annotations

import gzip
import os
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from hyperframe.frame import SettingsFrame

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import Client, request_bytes
from harness.server import Server

# A file that was changed within this time is read for each request.
RACY_SECONDS = 2.0
# What was seen of a file counts for so long.
FRESH_SECONDS = 1.0

# Larger than what is kept in memory, and than sockets take at once.
LARGE = bytes(range(256)) * 12_000
SECRET = b"outside of every folder"
TEXT = b"body { color: red }\n" * 200
SIDE = b"plain " * 200

# The content of files that are served, by name.
FILES = {
    "index.html": b"<p>index",
    "a.txt": b"0123456789",
    "empty.txt": b"",
    "a b\u00e9.txt": b"spaces and accents",
    "app.css": TEXT,
    "docs/index.html": b"<p>docs",
    "assets/app.1234.js": b"js",
    "deep/er/x.json": b"{}",
    "noext": b"bytes",
    ".well-known/security.txt": b"Contact: x",
    "large.bin": LARGE,
    "side.txt": SIDE,
    "old.txt": SIDE,
    "side-out.txt": SIDE,
}

ALL_PROTOCOLS = ("http1", "tls", "http2", "http2-tls", *PROTOCOLS)

FieldList = Sequence[tuple[str, str]]


def write_site(folder: Path) -> Path:
    """Writes `public` and `more` below `folder`, and secrets beside and hidden in them."""
    public = folder / "public"
    for name in ("docs", "assets", "deep/er", "deep/.git", ".well-known", "empty"):
        (public / name).mkdir(parents=True)
    (folder / "more").mkdir()
    (folder / "more" / "second.txt").write_text("second")
    (folder / "secret").write_bytes(SECRET)
    (folder / "publicity").mkdir()
    (folder / "publicity" / "secret").write_bytes(SECRET)
    for name, content in FILES.items():
        (public / name).write_bytes(content)
    for name in (".env", "deep/.git/config"):
        (public / name).write_bytes(SECRET)
    (public / "side.txt.gz").write_bytes(gzip.compress(SIDE))
    (public / "old.txt.gz").write_bytes(gzip.compress(b"an older content"))
    then = time.time() - 3600
    os.utime(public / "old.txt.gz", (then, then))
    (public / "side-out.txt.br").symlink_to("../secret")
    (public / "out").symlink_to("../secret")
    (public / "folder-out").symlink_to("..")
    (public / "absolute").symlink_to(folder / "secret")
    (public / "in.txt").symlink_to("a.txt")
    os.mkfifo(public / "fifo")
    with (public / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 36)
    return folder


def let_changes_settle() -> None:
    """Waits until what was written cannot change any more without being noticed, so that it is kept."""
    time.sleep(RACY_SECONDS)


@dataclass
class Fetched:
    """A response, whatever carried it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of each field of this name."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the only field of this name."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


class StaticSite:
    """A server of a site, and how it is asked by every protocol."""

    def __init__(self, server: Server, folder: Path, authority: Path | None = None) -> None:
        self.server, self.folder, self.authority = server, folder, authority

    @staticmethod
    def binds(folder: Path) -> list[str]:
        """Where such a server listens: without TLS, with it, and for gateways."""
        gateways = [f"{protocol}://unix:{folder}/{protocol}.sock" for protocol in PROTOCOLS]
        return ["http://127.0.0.1:0", "https://127.0.0.1:0", *gateways]

    def connect(self, secure: bool = False) -> Client:
        """A connection for HTTP/1."""
        client = Client(self.server.addresses[1 if secure else 0])
        if secure:
            context = self.context(["http/1.1"])
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        return client

    def context(self, protocols: list[str]) -> ssl.SSLContext:
        """What a client of these protocols speaks TLS with."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols(protocols)
        return context

    def fetch(
        self, target: str, method: str = "GET", fields: FieldList = (), protocol: str = "http1"
    ) -> Fetched:
        """One request on a connection of its own."""
        match protocol:
            case "http1" | "tls":
                with self.connect(secure=protocol == "tls") as client:
                    client.send(request_bytes(method, target, fields))
                    response = client.read_response(method)
                return Fetched(response.status, response.fields, response.body)
            case "http2" | "http2-tls":
                secure = protocol == "http2-tls"
                with Http2Client(
                    self.server.addresses[1 if secure else 0],
                    settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30},
                    tls=self.context(["h2"]) if secure else None,
                ) as http2:
                    http2.update_window(0, 1 << 30)
                    lower = [(name.lower(), value) for name, value in fields]
                    answer = http2.request(target, method, lower)
                assert answer.status is not None and answer.reset is None
                return Fetched(answer.status, answer.fields, answer.body)
            case _:
                told = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in fields}
                # As gateways say it: decoded.
                told["PATH_INFO"] = unquote_to_bytes(target.partition("?")[0]).decode("latin-1")
                address = f"{self.folder}/{protocol}.sock"
                given = ask(address, protocol, variables(target, method, **told))
                return Fetched(given.status, given.fields, given.body)
