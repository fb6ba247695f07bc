"""Runs the cells of a benchmark: one server under one workload, in rounds, one after the other."""

import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from . import servers
from .load import LoadError
from .process import Server, StartError, free_port
from .servers import without_paths

LOG_LINES_SHARE_MIN = 0.99
PEER_SECONDS_MAX = 3  # of the slow peers: what they show is plain sooner


@dataclass
class Cell:
    """All samples of one server under one workload, and why it could not do it, if it could not."""

    samples: list[dict] = field(default_factory=list)
    cannot: str | None = None
    command: str = ""

    def median(self, key):
        """The median over the rounds, of a text the last; None where nothing was measured."""
        values = [sample[key] for sample in self.samples if sample.get(key) is not None]
        if values and isinstance(values[-1], str):
            return values[-1]
        return statistics.median(values) if values else None

    def spread(self, key):
        """(largest - smallest) / median over the rounds; None with fewer than two."""
        values = [sample[key] for sample in self.samples if sample.get(key) is not None]
        middle = statistics.median(values) if len(values) > 1 else 0
        return (max(values) - min(values)) / middle if middle else None


def takes_part(server, workload):
    if workload.players is not None:
        return server.name in workload.players
    return server.name != "floor" or workload.floor


def rounds_of(server, workload, options):
    """How many rounds this server runs this workload."""
    rounds = options.rounds if server.contender or options.all_rounds else 1
    return min(rounds, workload.rounds_max or rounds)


def seconds_of(server, workload, options):
    """How long one sample is measured; `workload.phases` says how often that time passes in it."""
    if server.contender or options.all_rounds or workload.rounds_max:
        return options.seconds
    return min(options.seconds, PEER_SECONDS_MAX)


def estimate(selected_servers, selected_workloads, options):
    """Seconds that the whole run should take."""
    return sum(
        rounds_of(server, workload, options)
        * (workload.phases * seconds_of(server, workload, options) + workload.overhead_seconds)
        for workload in selected_workloads
        for server in selected_servers
        if takes_part(server, workload)
    )


def run_workload(workload, selected, options, environment, progress=sys.stderr):
    """Measure every server under one workload; returns {server name: Cell} in the servers' order."""
    players = [server for server in selected if takes_part(server, workload)]
    cells = {server.name: Cell() for server in players}
    for round_number in range(options.rounds):
        shift = round_number % max(1, len(players))
        for server in players[shift:] + players[:shift]:
            cell = cells[server.name]
            if cell.cannot or round_number >= rounds_of(server, workload, options):
                continue
            print(f"  {workload.name} round {round_number + 1}: {server.name}    ", end="\r", file=progress)
            measure_cell(cell, server, workload, seconds_of(server, workload, options), environment)
    print(" " * 78, end="\r", file=progress)
    return cells


def measure_cell(cell, server, workload, seconds, environment):
    """One sample, or the reason why there is none. A server's failure never ends the run."""
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as directory:
        log = Path(directory) / "access.log" if workload.access_log else None
        launch = servers.Launch(
            workload.app,
            workload.threads,
            free_port(),
            log,
            workload.connections,
            workload.workers,
            (workload.players or {}).get(server.name, ()),
        )
        command = server.command(launch)
        cell.command = servers.shown(command).replace(directory, "LOGS").replace(str(launch.port), "PORT")
        stdout = {"stdout": log} if log and server.logs_to_stdout else {}
        try:
            with Server(
                command,
                launch.port,
                environment={**environment, **server.environment},
                errors=Path(directory) / "errors.log",
                **stdout,
            ) as running:
                sample = workload.measure(running, workload, seconds)
                if not running.is_alive():
                    cell.cannot = without_paths(f"the server died under load: {running.last_output()[-200:]}")
        except (StartError, LoadError) as error:
            cell.cannot = without_paths(str(error))
            return
        except (OSError, ValueError) as error:
            cell.cannot = f"{type(error).__name__}: {error}"
            return
        cell.samples.append(sample)
        cell.cannot = cell.cannot or reason_it_cannot(sample, workload, log)


def reason_it_cannot(sample, workload, log):
    """What the measurement itself says against calling this a result; None if it is one."""
    if sample.get("requests") == 0:
        return "no request was answered"
    if workload.rate_min and sample["rate"] < workload.rate_min:
        return f"{sample['rate']:,.0f} requests/s: it runs them one after the other"
    if log:
        lines = log.read_bytes().count(b"\n") if log.exists() else 0
        if lines < LOG_LINES_SHARE_MIN * sample["requests"]:
            return f"its log has {lines:,} lines for {sample['requests']:,} requests"
    if sample.get("reason"):
        return sample["reason"]
    if "during_p99" in sample and sample["during_p99"] is None:
        return "answers nobody else meanwhile"
    if "held" in sample and sample["held"] < workload.connections / 2:
        return f"holds {sample['held']:,} of {workload.connections:,}"
    if "held" in sample and sample["p50"] is None:
        return f"holds {sample['held']:,}, and answers no new request meanwhile"
    return None
