"""What an access log costs: a server without one beside the same server with one, in short turns.

    bench/.venv/bin/python bench/log_cost.py [--starts 6] [--rounds 12] [--only NAMES] [--output FOLDER]
                                             [--portico-wheel FILE]

The environment is the one that `bench/run` makes; besides, it takes wrk. All servers of a start run at once
on core 1, with one process and four threads each, and wait; wrk, on core 0, loads one after the other for a
second, in another order in each round. So what the machine does meanwhile meets all of them alike, and a few
per cent can be told, which whole runs one after the other cannot. Each is started several times: how a
process happens to lie in memory makes a difference of its own. After each turn the log is emptied: a file
that grows by gigabytes has the kernel take memory that was never used, and a virtual machine pays its host
for that, several times what the writing costs.

What is told is CPU time of the process tree, the log's own thread included, and for each turn its ratio to
the turn without a log of the same round: the median of all, and the medians of the starts from the least to
the greatest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from harness import environment
from harness.load import run_client, wrk_figures
from harness.process import Server, free_port
from harness.record import describe_machine, short_readme, version
from harness.servers import BIN, shown

APPLICATION = "apps:hello"
METHOD = (
    "Made by `make bench-log`. All servers of a start run side by side on core 1; wrk, on core 0, loads one "
    "after the other for a second. summary.md has the medians, raw.json every sample."
)
CONNECTIONS = 64
THREADS = 4
# A log is on disk within this time.
WRITTEN_SECONDS = 0.1
PORTICO = (str(BIN / "portico"), "--workers", "1", "--threads", str(THREADS), "--log-level", "warning")
GUNICORN = (
    *(str(BIN / "gunicorn"), "--worker-class", "gthread", "--workers", "1", "--threads", str(THREADS)),
    *("--keep-alive", "75", "--log-level", "warning", "--no-control-socket"),
)
# By name: the command, and the name of the one without a log.
VARIANTS: dict[str, tuple[tuple[str, ...], str]] = {
    "off": (PORTICO, "off"),
    "combined": ((*PORTICO, "--access-logformat", "combined"), "off"),
    "json": ((*PORTICO, "--access-logformat", "json"), "off"),
    "logfmt": ((*PORTICO, "--access-logformat", "logfmt"), "off"),
    "gunicorn off": (GUNICORN, "gunicorn off"),
    "gunicorn": (GUNICORN, "gunicorn off"),
}


def log_of(name: str, folder: Path) -> Path:
    return folder / f"{name}.log"


def command(name: str, folder: Path, port: int) -> list[str]:
    words, without = VARIANTS[name]
    log = [] if name == without else ["--access-logfile", str(log_of(name, folder))]
    return [*words, *log, "--bind", f"127.0.0.1:{port}", APPLICATION]


def turn(server: Server, log: Path) -> float:
    """Microseconds of CPU for each request in a second's load. Empties `log`, if there is one."""
    before = server.cpu_nanoseconds()
    url = f"http://127.0.0.1:{server.port}/"
    said = run_client(["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "-s", "lua/report.lua", url], 1)
    time.sleep(WRITTEN_SECONDS)
    cost = (server.cpu_nanoseconds() - before) / 1000 / wrk_figures(said)["requests"]
    if log.exists():
        os.truncate(log, 0)
    return cost


def measure_start(names: list[str], rounds: int) -> dict[str, list[float]]:
    """Of one start of each server: what each round has cost."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-log-")))
        servers = {}
        for name in names:
            port = free_port()
            server = Server(command(name, folder, port), port, errors=folder / f"{name}.err")
            servers[name] = stack.enter_context(server)
        for name, server in servers.items():
            turn(server, log_of(name, folder))
        costs: dict[str, list[float]] = {name: [] for name in names}
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                costs[name].append(turn(servers[name], log_of(name, folder)))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what an access log costs.")
    parser.add_argument("--starts", type=int, default=6, help="of each server")
    parser.add_argument("--rounds", type=int, default=12, help="of each start; a second for each server")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(VARIANTS), metavar="NAMES")
    parser.add_argument("--output", type=Path, help="folder for README.md, summary.md and raw.json")
    parser.add_argument("--portico-wheel", type=Path, help="install this wheel, do not build the checkout")
    options = parser.parse_args()
    environment.ensure_portico(options.portico_wheel and options.portico_wheel.resolve())
    starts = []
    for number in range(options.starts):
        starts.append(measure_start(options.only, options.rounds))
        print(f"start {number + 1} of {options.starts} is measured", flush=True)
    machine = describe_machine()
    programs = {name: version(name) for name in ("portico", "gunicorn")} | {"wrk": machine["wrk"]}
    lines = [
        *("# Summary", ""),
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}",
        *(", ".join(f"{name} {number}" for name, number in programs.items()), ""),
        f"{options.starts} starts of {options.rounds} rounds; CPU of each request, and its ratio to that",
        *("without a log in the same round.", ""),
        *("| server | CPU us each | ratio | of the starts |", "|---|---:|---:|---:|"),
    ]
    for name in options.only:
        without = VARIANTS[name][1]
        ratios = [
            [cost / base for cost, base in zip(start[name], start[without], strict=True)] for start in starts
        ]
        medians = sorted(statistics.median(each) for each in ratios)
        ratio = statistics.median(ratio for each in ratios for ratio in each)
        cost = statistics.median(cost for start in starts for cost in start[name])
        lines.append(f"| {name} | {cost:.2f} | {ratio:.3f} | {medians[0]:.3f} to {medians[-1]:.3f} |")
    print("\n".join(lines))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "summary.md").write_text("\n".join(lines) + "\n")
        commands = {name: shown(command(name, Path("FOLDER"), 0)) for name in options.only}
        document = {"machine": machine, "versions": programs, "commands": commands, "microseconds": starts}
        (options.output / "raw.json").write_text(json.dumps(document, indent=1) + "\n")
        (options.output / "README.md").write_text(short_readme(document, METHOD))


if __name__ == "__main__":
    main()
