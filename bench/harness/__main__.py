"""The command line of `bench/run`."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from . import environment, record, report, servers, workloads
from .load import calibrate_spins
from .process import LOAD_CORE, raise_descriptor_limit
from .run import estimate, run_workload


def comma_list(known, kind):
    """A parser of `a,b,c` that refuses names it does not know."""

    def parse(text):
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"no {kind} {', '.join(unknown)}; there are {', '.join(known)}")
        return [known[name] for name in names]

    return parse


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Measure Portico and its peers side by side on this machine."
    )
    parser.add_argument("--servers", type=comma_list(servers.BY_NAME, "server"), help="names, with commas")
    parser.add_argument(
        "--workloads", type=comma_list(workloads.BY_NAME, "workload"), help="names, with commas"
    )
    parser.add_argument("--seconds", type=positive, help="of one measurement (default 5)")
    parser.add_argument("--rounds", type=positive, help="of each workload (default 3)")
    parser.add_argument("--all-rounds", action="store_true", help="run the slow peers in every round as well")
    parser.add_argument("--quick", action="store_true", help="2 seconds, one round, into bench/runs/quick")
    parser.add_argument(
        "--portico-wheel", type=Path, help="install this wheel instead of building the checkout"
    )
    parser.add_argument("--output", type=Path, help="folder of the results (default bench/runs/DATE-MACHINE)")
    parser.add_argument("--list", action="store_true", help="list servers and workloads, and exit")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (2 if options.quick else 5)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.is_complete = not (options.servers or options.workloads or options.quick)
    options.servers = options.servers or list(servers.SERVERS)
    options.workloads = options.workloads or [w for w in workloads.WORKLOADS if w.default]
    return options


def list_everything():
    print("servers:")
    for server in servers.SERVERS:
        rounds = "every round" if server.contender else "first round only"
        print(f"  {server.name:17} {rounds}{'; ' + server.note if server.note else ''}")
    print("workloads:")
    for workload in workloads.WORKLOADS:
        print(f"  {workload.name:17} {workload.title}{'' if workload.default else ' (only when named)'}")


def prepare(options):
    """Check and install what the selected servers need; raises EnvironmentFault."""
    environment.ensure_two_cores()
    environment.ensure_wrk()
    names = {server.name for server in options.servers}
    if "floor" in names:
        environment.ensure_floor()
    if "portico" in names:
        wheel = options.portico_wheel and options.portico_wheel.resolve()
        environment.ensure_portico(wheel)
    raise_descriptor_limit()
    os.sched_setaffinity(0, {LOAD_CORE})


def main(arguments=None):
    options = parse_arguments(arguments)
    if options.list:
        list_everything()
        return 0
    # These unwind like Ctrl-C, also where a shell started us with SIGINT ignored, so every server is ended.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        prepare(options)
    except environment.EnvironmentFault as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return 1
    spins = calibrate_spins()
    seconds = estimate(options.servers, options.workloads, options)
    print(f"bench: about {seconds / 60:.0f} minutes; 1 ms of Python is {spins} turns", file=sys.stderr)
    results, started, interrupted = {}, time.monotonic(), False
    try:
        for workload in options.workloads:
            results[workload.name] = run_workload(
                workload, options.servers, options, {"BENCH_SPINS": str(spins)}
            )
            print(report.text_table(workload, results[workload.name]), flush=True)
        for line in report.logging_cost(results):
            print(f"access log, {line}")
    except KeyboardInterrupt:
        interrupted = True
        print("\nbench: interrupted; what is complete is kept", file=sys.stderr)
    if results:
        folder = record.write(results, options, spins, time.monotonic() - started, interrupted)
        print(
            f"\nbench: {time.monotonic() - started:.0f} s; results in {record.shown_path(folder)}",
            file=sys.stderr,
        )
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
