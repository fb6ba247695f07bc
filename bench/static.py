"""What static files cost: Portico beside nginx, granian and Caddy, in short turns.

    bench/.venv/bin/python bench/static.py [--rounds 8] [--seconds 1] [--only NAMES] [--servers NAMES]
                                           [--output FOLDER] [--portico-wheel FILE]

The environment is the one that `bench/run` makes; besides, it takes wrk, h2load, nginx and openssl, and Caddy
where that is installed. All servers run at once on core 1, with one process each, and wait; the client, on
core 0, loads one after the other for a second, in another order in each round. So what the machine does
meanwhile meets all of them alike. What is told is CPU time of the process tree, for each request or, of large
files, for each megabyte; and for each turn its ratio to nginx in the same round.

nginx has open_file_cache and sendfile, which is the quickest that it can be set to. The bare loop (floor.c)
parses nothing and sends the same 160 bytes for everything.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import environment
from harness.load import LoadError, run_client, wrk_figures
from harness.process import Server, free_port
from harness.record import describe_machine, output, short_readme, version
from harness.servers import BIN, FLOOR

METHOD = (
    "Made by `make bench-static`. All servers run side by side on core 1; the client, on core 0, loads one "
    "after the other for a second. summary.md has the medians, raw.json every sample."
)
CONNECTIONS = 64
STREAMS = 32
KB, MB, GB = 1 << 10, 1 << 20, 1 << 30
SIZES = {"1k": KB, "10k": 10 * KB, "100k": 100 * KB, "1m": MB, "1g": GB}
# A file that has just been written is not kept in memory.
SETTLED_SECONDS = 2.5
NGINX = """\
user {user};
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/octet-stream;
    keepalive_requests 1000000000;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate {folder}/pem;
    ssl_certificate_key {folder}/key;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{secure} ssl http2;
        location / {{ root {folder}/files; }}
    }}
}}
"""
CADDY = """\
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{plain}, https://127.0.0.1:{secure} {{
    tls {folder}/pem {folder}/key
    root * {folder}/files
    file_server
}}
"""


@dataclass(frozen=True)
class Place:
    """Where one server listens: its folder has `files`, a certificate and a key."""

    folder: Path
    plain: int
    secure: int


def portico(place: Place) -> list[str]:
    return [
        *(str(BIN / "portico"), "--workers", "1", "--threads", "4", "--log-level", "warning"),
        *("--bind", f"http://127.0.0.1:{place.plain}", "--bind", f"https://127.0.0.1:{place.secure}"),
        *("--certfile", str(place.folder / "pem"), "--keyfile", str(place.folder / "key")),
        *("--static", f"/={place.folder / 'files'}", "apps:hello"),
    ]


def nginx(place: Place) -> list[str]:
    home = place.folder / "nginx"
    home.mkdir()
    text = NGINX.format(user=getpass.getuser(), **vars(place))
    (home / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"]


def granian(place: Place) -> list[str]:
    return [
        *(str(BIN / "granian"), "--host", "127.0.0.1", "--port", str(place.plain), "--interface", "wsgi"),
        *("--no-ws", "--workers", "1", "--runtime-threads", "1", "--no-access-log", "--log-level", "warning"),
        *("--static-path-route", "/static", "--static-path-mount", str(place.folder / "files"), "apps:hello"),
    ]


def caddy(place: Place) -> list[str]:
    (place.folder / "Caddyfile").write_text(CADDY.format(**vars(place)))
    return ["caddy", "run", "--config", str(place.folder / "Caddyfile"), "--adapter", "caddyfile"]


def floor(place: Place) -> list[str]:
    return [str(FLOOR), str(place.plain)]


SERVERS: dict[str, Callable[[Place], list[str]]] = {
    "nginx": nginx,
    "portico": portico,
    "granian": granian,
    "caddy": caddy,
    "floor": floor,
}
FIRST = "nginx"


@dataclass(frozen=True)
class Work:
    """What is asked for, and how."""

    title: str
    file: str
    # Of what the CPU time is told: a request, or a megabyte.
    unit: str = "request"
    secure: bool = False
    http2: bool = False
    unmodified: bool = False
    servers: tuple[str, ...] = ("nginx", "portico", "granian", "caddy")
    connections: int = CONNECTIONS


TLS_SERVERS = ("nginx", "portico", "caddy")
WORKLOADS = {
    "1k": Work("1 KB", "1k", servers=(*SERVERS,)),
    "304": Work("304 for 1 KB", "1k", unmodified=True, servers=("nginx", "portico", "caddy", "floor")),
    "10k": Work("10 KB", "10k"),
    "100k": Work("100 KB", "100k"),
    "1m": Work("1 MB", "1m", unit="MB", connections=16),
    "1g": Work("1 GB", "1g", unit="MB", connections=2),
    "tls-1k": Work("1 KB over HTTPS", "1k", secure=True, servers=TLS_SERVERS),
    "tls-10k": Work("10 KB over HTTPS", "10k", secure=True, servers=TLS_SERVERS),
    "tls-1m": Work("1 MB over HTTPS", "1m", unit="MB", secure=True, servers=TLS_SERVERS, connections=16),
    "h2-1k": Work("1 KB over HTTP/2 and TLS", "1k", secure=True, http2=True, servers=TLS_SERVERS),
    "h2-10k": Work("10 KB over HTTP/2 and TLS", "10k", secure=True, http2=True, servers=TLS_SERVERS),
}


class FileServer(Server):
    """A server and its place."""

    def __init__(self, name: str, place: Place) -> None:
        self.name, self.place = name, place
        super().__init__(SERVERS[name](place), place.plain, errors=place.folder / "errors")

    def wait_until_ready(self) -> None:
        self.port = self.place.plain
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.fetch("1k").status == 200:
                    return
            time.sleep(0.05)
        raise LoadError(f"{self.name} does not serve: {self.last_output()}")

    def fetch(self, file: str):
        prefix = "/static" if self.name == "granian" else ""
        return urllib.request.urlopen(f"http://127.0.0.1:{self.place.plain}{prefix}/{file}", timeout=20)

    def url(self, work: Work) -> str:
        prefix = "/static" if self.name == "granian" else ""
        scheme, port = ("https", self.place.secure) if work.secure else ("http", self.place.plain)
        return f"{scheme}://127.0.0.1:{port}{prefix}/{work.file}"


def turn(server: FileServer, work: Work, seconds: int) -> float:
    """Microseconds of CPU for each request, or megabyte, in so many seconds of load."""
    fields = []
    if work.unmodified and server.name != "floor":
        fields = ["-H", f"If-None-Match: {server.fetch(work.file).headers['ETag']}"]
    before = server.cpu_nanoseconds()
    if work.http2:
        command = ["h2load", "-t1", "-c4", f"-m{STREAMS}", "-D", str(seconds), server.url(work)]
        said = run_client(command, seconds)
        found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
        if not found or int(found[2]) + int(found[3]) or "Application protocol: h2" not in said:
            raise LoadError(f"h2load said: {said[-600:]}")
        done = float(found[1])
    else:
        command = ["wrk", "-t1", f"-c{work.connections}", f"-d{seconds}s", "--timeout", "20", *fields]
        figures = wrk_figures(run_client([*command, "-s", "lua/report.lua", server.url(work)], seconds))
        if figures["status"] or figures["connect"]:
            raise LoadError(f"{server.name}, {work.title}: {figures}")
        done = figures["requests"] if work.unit == "request" else figures["bytes"] / MB
    return (server.cpu_nanoseconds() - before) / 1000 / done


def make_place(folder: Path, files: Path) -> Place:
    """A folder with a certificate, beside the same files."""
    folder.mkdir()
    (folder / "files").symlink_to(files)
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        str(folder / "key"),
    ]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, *subject, "-out", str(folder / "pem")]
    subprocess.run(command, check=True, capture_output=True)
    return Place(folder, free_port(), free_port())


def write_files(folder: Path, names: set[str]) -> None:
    """Files of random bytes: nothing is gained by compressing them."""
    folder.mkdir()
    for name in names:
        with (folder / name).open("wb") as file:
            for _ in range(max(1, SIZES[name] // MB)):
                file.write(random.randbytes(min(SIZES[name], MB)))
    for path in folder.iterdir():
        path.read_bytes() if path.stat().st_size <= MB else subprocess.run(
            ["cat", str(path)], check=True, stdout=subprocess.DEVNULL
        )
    time.sleep(SETTLED_SECONDS)


def measure(
    names: list[str], works: list[str], rounds: int, seconds: int
) -> dict[str, dict[str, list[float]]]:
    """By workload and server, what each round has cost."""
    costs: dict[str, dict[str, list[float]]] = {key: {} for key in works}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-static-")))
        write_files(folder / "files", {"1k", *(WORKLOADS[key].file for key in works)})
        servers = {}
        for name in names:
            server = FileServer(name, make_place(folder / name, folder / "files"))
            servers[name] = stack.enter_context(server)
        for key in works:
            work = WORKLOADS[key]
            taking_part = [name for name in work.servers if name in servers]
            for name in taking_part:
                turn(servers[name], work, 1)
            for number in range(rounds):
                first = number % len(taking_part)
                for name in taking_part[first:] + taking_part[:first]:
                    costs[key].setdefault(name, []).append(turn(servers[name], work, seconds))
            print("\n".join(table(work, costs[key])), flush=True)
    return costs


def table(work: Work, costs: dict[str, list[float]]) -> list[str]:
    """One workload's, in Markdown."""
    lines = [f"## {work.title}", "", f"| server | CPU us a {work.unit} | spread | ratio to nginx |"]
    lines += ["|---|---:|---:|---:|"]
    for name, own in costs.items():
        ratios = [mine / theirs for mine, theirs in zip(own, costs.get(FIRST, own), strict=True)]
        spread = f"{min(own):.2f} to {max(own):.2f}"
        lines.append(
            f"| {name} | {statistics.median(own):.2f} | {spread} | {statistics.median(ratios):.2f} |"
        )
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what static files cost.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1, help="of one measurement")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="NAMES")
    parser.add_argument(
        "--servers", type=lambda text: text.split(","), default=list(SERVERS), metavar="NAMES"
    )
    parser.add_argument("--output", type=Path, help="folder for README.md, summary.md and raw.json")
    parser.add_argument("--portico-wheel", type=Path, help="install this wheel, do not build the checkout")
    options = parser.parse_args()
    environment.ensure_portico(options.portico_wheel and options.portico_wheel.resolve())
    environment.ensure_floor()
    names = [name for name in options.servers if name != "caddy" or shutil.which("caddy")]
    costs = measure(names, options.only, options.rounds, options.seconds)
    machine = describe_machine()
    programs = {
        "nginx": output("nginx", "-v"),
        "h2load": output("h2load", "--version"),
        "wrk": machine["wrk"],
    }
    programs |= {name: version(name) for name in ("portico", "granian") if name in names}
    lines = ["# Summary", "", f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"]
    lines += [", ".join(f"{name} {number}" for name, number in programs.items()), ""]
    for key in options.only:
        lines += table(WORKLOADS[key], costs[key])
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "summary.md").write_text("\n".join(lines).rstrip() + "\n")
        document = {"machine": machine, "versions": programs, "workloads": costs}
        (options.output / "raw.json").write_text(json.dumps(document, indent=1) + "\n")
        (options.output / "README.md").write_text(short_readme(document, METHOD))


if __name__ == "__main__":
    os.umask(0o022)
    main()
