"""Applications that compute: Portico beside its peers, in short turns, with 1 to 16 threads.

    bench/.venv/bin/python bench/compute.py [--rounds 6] [--workloads NAMES] [--threads 1,2,4,16]
                                            [--cores one,two] [--servers NAMES] [--output FOLDER]
                                            [--portico-wheel FILE]

The environment is the one that `bench/run` makes; besides, it takes wrk. The servers of a workload run at
once and wait; wrk loads one after the other for a second, in another order in each round, so that what the
machine does meanwhile meets all of them alike. With `one` core the servers have core 1 and wrk core 0, as in
`bench/run`; with `two` everybody may run everywhere, as users have it, and what threads do to each other
shows.

What is told: CPU time of the process tree for each request, with its ratio to the best peer's of the same
round (median, and the largest of the rounds); requests/s; and how often all threads together have let their
processor go to wait, for each request.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import environment, servers
from harness.load import calibrate_spins, run_client, wrk_figures
from harness.process import LOAD_CORE, SERVER_CORE, Server, free_port, raise_descriptor_limit
from harness.record import describe_machine, version

CONNECTIONS = 64
BASE = "portico"
# By name: the application, the path.
WORKLOADS = {
    "flask": ("flask_page:application", "/"),
    "django": ("django_page:application", "/"),
    "django-json": ("django_page:application", "/item"),
    "200us": ("apps:compute_200us", "/"),
    "500us": ("apps:compute_500us", "/"),
    "1ms": ("apps:compute_1ms", "/"),
    "2ms": ("apps:compute_2ms", "/"),
    "compute-wait": ("apps:compute_and_wait", "/"),
    "sleep": ("apps:sleep_10ms", "/"),
}
CORES = {
    "one": {"servers": (SERVER_CORE,), "load": (LOAD_CORE,)},
    "two": {"servers": (LOAD_CORE, SERVER_CORE), "load": (LOAD_CORE, SERVER_CORE)},
}


@dataclass
class Turn:
    """What a second's load has shown."""

    microseconds: float  # of CPU for each request
    rate: float
    switches: float  # voluntary, for each request
    p99: float
    failed: int


def play(server: Server, path: str, cores: tuple[int, ...]) -> Turn:
    cpu, switches = server.cpu_nanoseconds(), server.voluntary_switches()
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d1s", "--latency", "-s", "lua/report.lua"]
    figures = wrk_figures(run_client([*command, f"http://127.0.0.1:{server.port}{path}"], 1, cores))
    requests = figures["requests"]
    return Turn(
        microseconds=(server.cpu_nanoseconds() - cpu) / 1000 / requests,
        rate=requests * 1e6 / figures["microseconds"],
        switches=(server.voluntary_switches() - switches) / requests,
        p99=figures["p99"] / 1e6,
        failed=int(sum(figures[key] for key in ("status", "connect", "read", "write", "timeout"))),
    )


def measure(names, workload, threads, cores, rounds, variables) -> dict[str, list[Turn]]:
    """The turns of each server, one for each round."""
    application, path = WORKLOADS[workload]
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portico-compute-")))
        running = {}
        for name in names:
            launch = servers.Launch(application, threads, free_port(), connections=CONNECTIONS)
            server = Server(
                servers.BY_NAME[name].command(launch),
                launch.port,
                environment=variables,
                errors=folder / f"{name}.err",
                cores=CORES[cores]["servers"],
            )
            running[name] = stack.enter_context(server)
        for server in running.values():
            play(server, path, CORES[cores]["load"])
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turns[name].append(play(running[name], path, CORES[cores]["load"]))
    return turns


def ratios(turns: dict[str, list[Turn]], name: str) -> list[float]:
    """CPU of this server over that of the best of the others, in each round."""
    best = [min(turns[other][number].microseconds for other in turns if other != name)
            for number in range(len(turns[name]))]  # fmt: skip
    return [turn.microseconds / other for turn, other in zip(turns[name], best, strict=True)]


def median(turns: list[Turn], key: str) -> float:
    return statistics.median(getattr(turn, key) for turn in turns)


def row(workload: str, threads: int, cores: str, name: str, turns: dict[str, list[Turn]]) -> str:
    mine = turns[name]
    ratio = "-"
    if name == BASE and len(turns) > 1:
        each = ratios(turns, name)
        ratio = f"{statistics.median(each):.3f}, {max(each):.3f} at most"
    cells = [
        *(workload, str(threads), cores, name, f"{median(mine, 'microseconds'):.1f}", ratio),
        *(f"{median(mine, 'rate'):,.0f}", f"{median(mine, 'switches'):.3f}"),
        *(f"{median(mine, 'p99') * 1000:.1f}", str(sum(turn.failed for turn in mine))),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    names = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(description="Measure servers where applications compute.")
    parser.add_argument("--rounds", type=int, default=6, help="a second for each server")
    parser.add_argument("--workloads", type=names, default=list(WORKLOADS), metavar="NAMES")
    parser.add_argument("--threads", type=names, default=["1", "2", "4", "16"], metavar="NUMBERS")
    parser.add_argument("--cores", type=names, default=list(CORES), metavar="one,two")
    parser.add_argument("--servers", type=names, default=[BASE, "bjoern", "granian"], metavar="NAMES")
    parser.add_argument("--output", type=Path, help="folder for summary.md and raw.json")
    parser.add_argument("--portico-wheel", type=Path, help="install this wheel, do not build the checkout")
    options = parser.parse_args()
    environment.ensure_portico(options.portico_wheel and options.portico_wheel.resolve())
    raise_descriptor_limit()
    variables = {"BENCH_SPINS": str(calibrate_spins())}
    machine = describe_machine()
    programs = {name: version(servers.BY_NAME[name].distribution) for name in options.servers}
    lines = [
        *("# Summary", ""),
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}",
        ", ".join(f"{name} {number}" for name, number in programs.items()) + f", {machine['wrk']}",
        *(
            "",
            f"{CONNECTIONS} connections, {options.rounds} rounds of a second; the ratio is to the best peer.",
            "",
        ),
        "| workload | threads | cores | server | CPU us each | ratio | requests/s | switches each | p99 ms "
        "| failed |",
        "|---|---:|---|---|---:|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    raw = []
    for workload in options.workloads:
        for threads in map(int, options.threads):
            for cores in options.cores:
                turns = measure(options.servers, workload, threads, cores, options.rounds, variables)
                rows = [row(workload, threads, cores, name, turns) for name in options.servers]
                print("\n".join(rows), flush=True)
                lines += rows
                played = {name: [vars(turn) for turn in each] for name, each in turns.items()}
                raw.append({"workload": workload, "threads": threads, "cores": cores, "turns": played})
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "summary.md").write_text("\n".join(lines) + "\n")
        document = {"machine": machine, "versions": programs, "measured": raw}
        (options.output / "raw.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
