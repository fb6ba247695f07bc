"""Counts the instructions that a request costs the thread which serves it, and compares them with the record.

    python bench/instructions.py [--write] [--only NAMES] [--server .venv/bin/portico]

valgrind's callgrind counts, of the same program and requests, with a fixed hash seed. Each workload runs
twice, with few and with many requests; the difference is what the requests cost, without start and end.
One connection asks, and pauses before it asks again, so that the thread always has to wait for it: else
it would depend on the machine how often it does. What is left of that is some tenths of a per cent,
upwards; the least of several tries counts. The kernel's work is not in it, nor is that of other threads.

The record, `instructions.json`, is of the profile `ci`, one compiler, one Python and one kind of
processor, by which libc chooses how it copies; it says which. More than `MARGIN` above it fails: find
out why, or write down that it is wanted (`--write`) and say why in the commit. Elsewhere the counts are
told, and not judged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.load import BROWSER_HEADERS
from harness.process import free_port

BENCH = Path(__file__).resolve().parent
RECORD = BENCH / "instructions.json"
FEW, MANY = 200, 1200
PAUSE_SECONDS = 0.003
MARGIN = 0.02
TRIES_MAX = 4
READY_SECONDS, STOP_SECONDS = 60, 30


@dataclass(frozen=True)
class Workload:
    """A request, the application that answers, and how its answer ends."""

    app: str
    end: bytes
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = "/"
    # What a file has that is served below /static.
    file: bytes = b""

    def request(self) -> bytes:
        headers = {"Host": "localhost", **self.headers}
        if self.body:
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


WORKLOADS = {
    "hello": Workload("apps:hello", b"Hello, world!"),
    "browser": Workload("apps:hello", b"Hello, world!", headers=BROWSER_HEADERS),
    "10k": Workload("apps:ten_kilobytes", b"x" * 10240),
    "echo": Workload("apps:echo", b"y" * 10240, "POST", body=b"y" * 10240),
    "stream": Workload("apps:stream", b"\r\n0\r\n\r\n"),
    "static": Workload("apps:hello", b"z" * 1024, target="/static/file", file=b"z" * 1024),
}
# A file that has just been written is not kept in memory.
SETTLED_SECONDS = 2.5


class CountError(Exception):
    """The server did not start, or did not answer."""


def connect(port: int, server: subprocess.Popen) -> socket.socket:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=READY_SECONDS)
        time.sleep(0.1)
    raise CountError("the server did not start")


def ask(client: socket.socket, workload: Workload, count: int) -> None:
    request = workload.request()
    for _ in range(count):
        time.sleep(PAUSE_SECONDS)
        client.sendall(request)
        answer = b""
        while not answer.endswith(workload.end):
            piece = client.recv(65536)
            if not piece:
                raise CountError(f"the server has closed, after {answer[:200]!r}")
            answer += piece


def count_by_thread(server: Path, workload: Workload, requests: int) -> dict[str, int]:
    """The instructions of each thread of the worker, by its number."""
    with tempfile.TemporaryDirectory(prefix="portico-instructions-") as folder:
        port = free_port()
        files: list[str] = []
        if workload.file:
            served = Path(folder, "files")
            served.mkdir()
            (served / "file").write_bytes(workload.file)
            time.sleep(SETTLED_SECONDS)
            files = ["--static", f"/static={served}"]
        command = [
            *("setarch", platform.machine(), "--addr-no-randomize"),
            *("valgrind", "--quiet", "--tool=callgrind", "--trace-children=yes", "--separate-threads=yes"),
            f"--callgrind-out-file={folder}/%p",
            *(str(server), "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "1"),
            *("--chdir", str(BENCH), "--log-level", "error", *files, workload.app),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            with connect(port, process) as client:
                ask(client, workload, requests)
            process.terminate()
            process.wait(STOP_SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return totals(Path(folder))


def totals(folder: Path) -> dict[str, int]:
    """What callgrind has written of the process with the most threads, which is the worker."""
    processes: dict[str, dict[str, int]] = {}
    for file in folder.glob("*-*"):
        process, _, thread = file.name.partition("-")
        found = re.search(r"^totals: (\d+)$", file.read_text(), re.MULTILINE)
        if found:
            processes.setdefault(process, {})[thread] = int(found[1])
    if not processes:
        raise CountError("valgrind has counted nothing")
    return max(processes.values(), key=len)


def least(server: Path, workload: Workload, enough: float | None) -> int:
    """Instructions for each request: of several tries the least, or the first that is `enough`; None: any."""
    found = count(server, workload)
    for _ in range(TRIES_MAX - 1):
        if enough is None or found <= enough:
            break
        found = min(found, count(server, workload))
    return found


def count(server: Path, workload: Workload) -> int:
    """The same of one try."""
    few = count_by_thread(server, workload, FEW)
    many = count_by_thread(server, workload, MANY)
    return round(max(many[thread] - few.get(thread, 0) for thread in many) / (MANY - FEW))


def built_with(server: Path) -> dict[str, str]:
    """What the counts depend on besides the code."""

    def said(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]

    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "rustc": said("rustc", "--version"),
        "python": said(str(server.parent / "python"), "--version"),
        "cpu": cpu[1] if cpu else platform.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Count instructions, and compare them with the record.")
    parser.add_argument("--write", action="store_true", help="write the record")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="NAMES")
    parser.add_argument("--server", type=Path, default=BENCH.parent / ".venv" / "bin" / "portico")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"counts": {}}
    built = built_with(options.server)
    others = {name: record.get(name) for name in built if record.get(name) != built[name]}
    counts: dict[str, int] = {}
    try:
        for name in options.only:
            former = record["counts"].get(name)
            # One try is enough where nothing is judged.
            enough = None if options.write or others or not former else former * (1 + MARGIN)
            counts[name] = least(options.server, WORKLOADS[name], enough)
            change = f", {counts[name] / former - 1:+.1%} of {former:,}" if former else ""
            print(f"{name}: {counts[name]:,} instructions a request{change}", flush=True)
    except (CountError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"instructions: {error}")
    if options.write:
        record = {**built, "counts": {**record["counts"], **counts}}
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        return
    if others:
        print(f"not judged: the record is of {others}, here it is {built}")
        return
    worse = [name for name in counts if counts[name] > record["counts"].get(name, 0) * (1 + MARGIN)]
    if worse:
        sys.exit(f"instructions: more than {MARGIN:.0%} above the record: {', '.join(worse)}")


if __name__ == "__main__":
    main()
