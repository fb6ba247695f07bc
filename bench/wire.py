"""What TLS, HTTP/2 and the gateways' protocols cost: Portico beside gunicorn, granian and uWSGI.

    bench/.venv/bin/python bench/wire.py [--seconds 3] [--rounds 3] [--only NAMES] [--output FOLDER]
                                         [--portico-wheel FILE]

The environment is the one that `bench/run` makes; besides, it takes h2load, nginx, openssl and wrk. Servers
run on core 1, with one process and four threads each; clients, and nginx, on core 0. The servers of a
workload take turns in each round. What is told is CPU time of the server's process tree, the median over the
rounds; of what comes through nginx, that of the server behind it.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import environment
from harness.load import LoadError, run_client, wrk_figures
from harness.process import LOAD_CORE, Server, StartError, free_port, pin_and_die_with_parent
from harness.record import describe_machine, output, short_readme, version
from harness.servers import BIN, shown

APPLICATION = "apps:hello"
METHOD = (
    "Made by `make bench-wire`. Servers on core 1, clients and nginx on core 0; the servers of a workload "
    "take turns in each round. summary.md has the medians over the rounds, raw.json every sample."
)
CONNECTIONS = 64
STREAMS = 32
THREADS = 4
KEYS = {
    "p256": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "rsa": ("rsa:2048",),
}
NGINX = """\
user {user};
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream backend {{ server unix:{socket}; {keep} }}
    server {{ listen 127.0.0.1:{port}; location / {{ {passing} }} }}
}}
"""


@dataclass(frozen=True)
class Place:
    """Where one server runs, and with what."""

    folder: Path
    port: int

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def pair(self, kind: str) -> tuple[str, str]:
        """The files of a certificate for 127.0.0.1 and of its key."""
        certificate, key = self.folder / f"{kind}.pem", self.folder / f"{kind}.key"
        if not key.exists():
            command = ["openssl", "req", "-x509", "-newkey", *KEYS[kind], "-nodes", "-subj", "/CN=127.0.0.1"]
            command += ["-days", "2", "-out", str(certificate), "-keyout", str(key)]
            subprocess.run(command, check=True, capture_output=True)
        return str(certificate), str(key)


def portico(bind: str, kind: str | None = None) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        tls: list[str] = []
        if kind:
            certificate, key = place.pair(kind)
            tls = ["--certfile", certificate, "--keyfile", key]
        address = bind.format(port=place.port, socket=place.socket)
        return [
            *(str(BIN / "portico"), "--bind", address, "--workers", "1", "--threads", str(THREADS)),
            *("--log-level", "warning", *tls, APPLICATION),
        ]

    return command


def granian(kind: str, http: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        certificate, key = place.pair(kind)
        return [
            *(str(BIN / "granian"), "--host", "127.0.0.1", "--port", str(place.port), "--interface", "wsgi"),
            *("--http", http, "--no-ws", "--workers", "1", "--runtime-threads", "1", "--no-access-log"),
            *("--blocking-threads", str(THREADS), "--log-level", "warning"),
            *("--ssl-certificate", certificate, "--ssl-keyfile", key, APPLICATION),
        ]

    return command


def gunicorn(kind: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        certificate, key = place.pair(kind)
        return [
            *(str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{place.port}", "--workers", "1"),
            *("--worker-class", "gthread", "--threads", str(THREADS), "--keep-alive", "75"),
            *("--log-level", "warning", "--no-control-socket"),
            *("--certfile", certificate, "--keyfile", key, APPLICATION),
        ]

    return command


def uwsgi(place: Place) -> list[str]:
    return [
        *(str(BIN / "uwsgi"), "--socket", str(place.socket), "--processes", "1", "--threads", str(THREADS)),
        *("--single-interpreter", "--home", str(BIN.parent), "--pythonpath", ".", "--module", APPLICATION),
        *("--need-app", "--die-on-term", "--disable-logging", "--listen", "128"),
    ]


def wrk(port: int, seconds: int, scheme: str) -> int:
    """The requests answered; every other answer than 200 is an error."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", "lua/report.lua"]
    figures = wrk_figures(run_client([*command, f"{scheme}://127.0.0.1:{port}/"], seconds))
    failed = sum(figures[key] for key in ("status", "connect", "read", "write", "timeout"))
    if failed:
        raise LoadError(f"{failed:.0f} of wrk's requests failed")
    return int(figures["requests"])


def over_http(port: int, seconds: int) -> int:
    return wrk(port, seconds, "http")


def over_https(port: int, seconds: int) -> int:
    return wrk(port, seconds, "https")


def handshakes(port: int, seconds: int) -> int:
    """Connections, each with a full handshake, one after the other."""
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-time", str(seconds)]
    said = run_client(command, seconds)
    found = re.search(r"(\d+) connections in \d+ real seconds", said)
    if not found:
        raise LoadError(f"openssl s_time said: {said[-300:]}")
    return int(found[1])


def streams(port: int, seconds: int) -> int:
    """Requests of HTTP/2, so many at once on each of four connections."""
    command = ["h2load", "-t1", "-c4", f"-m{STREAMS}", "-D", str(seconds), f"https://127.0.0.1:{port}/"]
    said = run_client(command, seconds)
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    if not found or int(found[2]) + int(found[3]) or "Application protocol: h2" not in said:
        raise LoadError(f"h2load said: {said[-600:]}")
    return int(found[1])


@dataclass(frozen=True)
class Player:
    """A server, the client that loads it and counts what is answered, and how nginx stands before it."""

    command: Callable[[Place], list[str]]
    load: Callable[[int, int], int]
    passing: str | None = None
    keep: str = ""


def behind_nginx(command: Callable[[Place], list[str]], kind: str) -> Player:
    return Player(command, over_http, f"include {{params}}/{kind}_params; {kind}_pass backend;")


def kept_by_nginx(command: Callable[[Place], list[str]], passing: str) -> Player:
    return Player(command, over_http, passing, "keepalive 64;")


TLS = "https://127.0.0.1:{port}"
# By name: the title, and who takes part.
WORKLOADS: dict[str, tuple[str, dict[str, Player]]] = {
    "https": (
        f"Hello over HTTPS, {CONNECTIONS} connections kept",
        {
            "portico without TLS": Player(portico("127.0.0.1:{port}"), over_http),
            "portico": Player(portico(TLS, "p256"), over_https),
            "granian": Player(granian("p256", "1"), over_https),
            "gunicorn gthread": Player(gunicorn("p256"), over_https),
        },
    ),
    "http2": (
        f"Hello over HTTP/2 and TLS, 4 connections, {STREAMS} streams at once on each",
        {
            "portico": Player(portico(TLS, "p256"), streams),
            "granian": Player(granian("p256", "auto"), streams),
        },
    ),
    **{
        f"handshakes-{kind}": (
            f"Full handshakes of TLS 1.3 with {title}",
            {
                "portico": Player(portico(TLS, kind), handshakes),
                "granian": Player(granian(kind, "1"), handshakes),
                "gunicorn gthread": Player(gunicorn(kind), handshakes),
            },
        )
        for kind, title in (("p256", "ECDSA P-256"), ("rsa", "RSA 2048"))
    },
    "gateways": (
        f"Hello from behind nginx, over a UNIX socket, {CONNECTIONS} connections to nginx",
        {
            "uwsgi, by uwsgi_pass": behind_nginx(uwsgi, "uwsgi"),
            "portico, by uwsgi_pass": behind_nginx(portico("uwsgi://unix:{socket}"), "uwsgi"),
            "portico, by scgi_pass": behind_nginx(portico("scgi://unix:{socket}"), "scgi"),
            "portico, by fastcgi_pass": behind_nginx(portico("fastcgi://unix:{socket}"), "fastcgi"),
            "portico, by fastcgi_pass, kept": kept_by_nginx(
                portico("fastcgi://unix:{socket}"),
                "include {params}/fastcgi_params; fastcgi_keep_conn on; fastcgi_pass backend;",
            ),
            "portico, by proxy_pass, kept": kept_by_nginx(
                portico("unix:{socket}"),
                "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://backend;",
            ),
        },
    ),
}
READY_SECONDS = 20.0
WARM_UP_SECONDS = 1


class Wired(Server):
    """A server of whatever protocol: ready once it takes connections."""

    def __init__(self, command: list[str], place: Place, errors: Path) -> None:
        self.place = place
        super().__init__(command, place.port, errors=errors)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartError(f"exited with status {self.process.returncode}: {self.last_output()}")
            for family, address in (
                (socket.AF_UNIX, str(self.place.socket)),
                (socket.AF_INET, ("127.0.0.1", self.port)),
            ):
                with socket.socket(family) as probe:
                    if probe.connect_ex(address) == 0:
                        time.sleep(0.5)  # Some listen before they have imported.
                        return
            time.sleep(0.05)
        raise StartError(f"takes no connection: {self.last_output()}")


class Nginx:
    """nginx before a server; a context manager."""

    def __init__(self, place: Place, player: Player) -> None:
        self.port = free_port()
        folder = place.folder / "nginx"
        folder.mkdir(exist_ok=True)
        passing = (player.passing or "").format(params="/etc/nginx")
        text = NGINX.format(
            user=getpass.getuser(), socket=place.socket, keep=player.keep, port=self.port, passing=passing
        )
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(
            ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"],
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: pin_and_die_with_parent(LOAD_CORE),  # noqa: PLW1509
        )

    def __enter__(self) -> Nginx:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        self.__exit__()
        raise StartError("nginx takes no connection")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)


def sample(player: Player, seconds: int) -> tuple[float, list[str]]:
    """Microseconds of CPU for each answer, and the server's command."""
    with tempfile.TemporaryDirectory(prefix="portico-wire-") as folder:
        place = Place(Path(folder), free_port())
        command = player.command(place)
        with Wired(command, place, Path(folder) / "errors") as server:
            if player.passing:
                with Nginx(place, player) as nginx:
                    cost = load(player, server, nginx.port, seconds)
            else:
                cost = load(player, server, place.port, seconds)
        return cost, [word.replace(folder, "FOLDER") for word in command]


def load(player: Player, server: Server, port: int, seconds: int) -> float:
    player.load(port, WARM_UP_SECONDS)
    before = server.cpu_seconds()
    answered = player.load(port, seconds)
    return (server.cpu_seconds() - before) * 1e6 / answered


def table(title: str, samples: dict[str, list[float]]) -> list[str]:
    """One workload's, in Markdown. The ratio is to its first server."""
    lines = [f"## {title}", "", "| server | CPU us each | a CPU second | spread | ratio |"]
    lines += ["|---|---:|---:|---:|---:|"]
    first = statistics.median(next(iter(samples.values())))
    for name, costs in samples.items():
        cost = statistics.median(costs)
        spread = f"{min(costs):.1f} to {max(costs):.1f}"
        lines.append(f"| {name} | {cost:.2f} | {1e6 / cost:,.0f} | {spread} | {cost / first:.2f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure TLS, HTTP/2 and the gateways' protocols.")
    parser.add_argument("--seconds", type=int, default=3, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="NAMES")
    parser.add_argument("--output", type=Path, help="folder for README.md, summary.md and raw.json")
    parser.add_argument("--portico-wheel", type=Path, help="install this wheel, do not build the checkout")
    options = parser.parse_args()
    environment.ensure_portico(options.portico_wheel and options.portico_wheel.resolve())
    lines, raw = ["# Summary", ""], {}
    machine = describe_machine()
    lines += [f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}"]
    programs = {"nginx": output("nginx", "-v"), "h2load": output("h2load", "--version")}
    programs |= {"openssl": output("openssl", "version"), "wrk": machine["wrk"]}
    programs |= {name: version(name) for name in ("portico", "granian", "gunicorn", "pyuwsgi")}
    lines += [", ".join(f"{name} {number}" for name, number in programs.items()), ""]
    lines += [
        f"{options.rounds} rounds of {options.seconds} s each; medians, and ratios to the first line.",
        "",
    ]
    for key in options.only:
        title, players = WORKLOADS[key]
        samples: dict[str, list[float]] = {name: [] for name in players}
        commands = {}
        for turn in range(options.rounds):
            names = list(samples)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                try:
                    cost, commands[name] = sample(players[name], options.seconds)
                except (LoadError, StartError, subprocess.TimeoutExpired) as error:
                    print(f"{key}, {name}: {error}", file=sys.stderr)
                    continue
                samples[name].append(cost)
        told = {name: costs for name, costs in samples.items() if costs}
        lines += table(title, told) if told else []
        raw[key] = {
            name: {"command": shown(commands[name]), "microseconds": costs} for name, costs in told.items()
        }
        print("\n".join(lines[-len(told) - 5 :]), flush=True)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "summary.md").write_text("\n".join(lines).rstrip() + "\n")
        document = {"machine": machine, "versions": programs, "workloads": raw}
        (options.output / "raw.json").write_text(json.dumps(document, indent=1) + "\n")
        (options.output / "README.md").write_text(short_readme(document, METHOD))


if __name__ == "__main__":
    main()
