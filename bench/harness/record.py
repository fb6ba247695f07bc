"""Writes a run: README.md (machine, versions, command lines), summary.md, raw.json and chart.svg."""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time

from . import chart, report, workloads
from .environment import BENCH, ROOT

CHART = BENCH / "chart.svg"


def write(results, options, spins, elapsed, interrupted):
    """Write the folder of a run and return its path. Only a complete run replaces the README's chart."""
    machine = describe_machine()
    folder = options.output or default_folder(options, machine)
    folder.mkdir(parents=True, exist_ok=True)
    line = f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}"
    (folder / "README.md").write_text(readme(results, options, spins, elapsed, interrupted, machine))
    (folder / "summary.md").write_text(report.summary(results, line))
    (folder / "raw.json").write_text(raw(results, options, spins, machine))
    drawing = chart.draw(results, line)
    if drawing:
        (folder / "chart.svg").write_text(drawing)
        if options.is_complete and not interrupted:
            CHART.write_text(drawing)
    return folder


def default_folder(options, machine):
    if options.quick:
        return BENCH / "runs" / "quick"
    slug = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-")
    return BENCH / "runs" / f"{time.strftime('%Y-%m-%d')}-{slug}-{machine['cores']}-cores"


def shown_path(path):
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def describe_machine():
    with open("/proc/cpuinfo") as lines:
        models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        model = next(models, "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wrk": output("wrk", "-v").partition("[")[0].strip(),
        "compiler": output("cc", "--version"),
        "commit": output("git", "-C", str(BENCH), "describe", "--always", "--dirty"),
    }


def output(*command):
    """The first line that a program prints, or "unknown"."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return next(iter((done.stdout or done.stderr).splitlines()), "unknown").strip()


def version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions(options):
    """{name: version} of every server of this run and of the frameworks."""
    found = {s.name: version(s.distribution) for s in options.servers if s.distribution}
    return {**found, "flask": version("flask"), "django": version("django")}


def readme(results, options, spins, elapsed, interrupted, machine):
    state = "interrupted" if interrupted else f"{elapsed / 60:.0f} minutes"
    lines = [
        f"# Benchmark run of {time.strftime('%Y-%m-%d %H:%M')}",
        "",
        f"{options.rounds} rounds of {options.seconds} s, {state}. Server on core 1, load generator on "
        "core 0, order of the servers rotated each round. The tables (summary.md) show medians over the "
        "rounds, raw.json has every sample. The slow peers run in the first round only, for 3 s at most.",
        "",
        "* CPU us/request: user and system time of the server's process tree over the run (/proc/PID/stat), "
        "divided by the requests that the generator saw answered",
        "* errors: answers other than 2xx and 3xx, socket errors, timeouts, and 1 if body bytes are missing",
        "* kept: how many of the connections, all open at once, are answered and stay open",
        "* PSS: proportional set size of the process tree, right after the load",
        f"* 1 ms of Python is {spins} turns of a loop, calibrated at the start of this run",
        "",
        "## Machine",
        "",
        *(f"* {name}: {value}" for name, value in machine.items()),
        "",
        "## Versions",
        "",
        *(f"* {name} {number}" for name, number in versions(options).items()),
        "",
        "## Settings that could not be equal",
        "",
        *(f"* {server.name}: {server.note}" for server in options.servers if server.note),
        "",
        "## Command lines",
        "",
    ]
    for name, cells in results.items():
        lines += [f"### {workloads.BY_NAME[name].title}", "", "```"]
        lines += [f"{cell.command}" for cell in cells.values()]
        lines += ["```", ""]
    return "\n".join(lines)


def short_readme(document, method):
    """README.md of a run whose raw.json has machine, versions and commands: wire.py's, log_cost.py's."""
    commands = document.get("commands") or {
        f"{workload}, {name}": cell["command"]
        for workload, cells in document["workloads"].items()
        for name, cell in cells.items()
    }
    return "\n".join([
        *("# Benchmark run", "", method, ""),
        *("## Machine", "", *(f"* {name}: {value}" for name, value in document["machine"].items()), ""),
        *("## Versions", "", *(f"* {name}: {value}" for name, value in document["versions"].items()), ""),
        *("## Command lines", "", *(f"* {name}: `{command}`" for name, command in commands.items()), ""),
    ])  # fmt: skip


def raw(results, options, spins, machine):
    """Every sample, as JSON."""
    document = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "versions": versions(options),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "spins": spins,
        "workloads": {
            name: {
                server: {"command": cell.command, "cannot": cell.cannot, "samples": cell.samples}
                for server, cell in cells.items()
            }
            for name, cells in results.items()
        },
    }
    return json.dumps(document, indent=1) + "\n"
