"""Runs the tests: those that stand neighbours several at once, then those marked `serial`, one at a time.

    python tests/run.py [--processes N] [--only parallel|serial] [--beside COMMAND] [pytest's arguments]

A test that fails is run once more, alone, at the end. Those that pass then are listed as unsteady: each has a
race, in the test or in the server, that is to be found. The run fails if there are more than UNSTEADY_MAX of
them, or if a test fails again.

COMMAND is run by the shell beside the first of the two, at the lowest priority; its output is shown when both
are done. So the processors have something to do while tests wait, and the tests that measure are alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.programs import FAILED_LIST, SKIPPED_LIST, advice

# Exit statuses of pytest.
PASSED, FAILED, NOTHING_COLLECTED = 0, 1, 5

# More than these are no accident of one run.
UNSTEADY_MAX = 3


class Beside:
    """A command of the shell that runs meanwhile; its processes end with the `with` block."""

    def __init__(self, command: str | None) -> None:
        self.output = tempfile.TemporaryFile()
        words = ["nice", "-n", "19", "sh", "-c", command] if command else ["true"]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, start_new_session=True
        )

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()
        self.output.close()

    def wait(self) -> int:
        """Its exit status, when it has ended and its output is shown."""
        if self.process.poll() is None:
            print("waiting for what runs beside the tests", flush=True)
        status = self.process.wait()
        self.output.seek(0)
        while block := self.output.read(65536):
            sys.stdout.buffer.write(block)
        sys.stdout.flush()
        return status


def run_pytest(*arguments: str, failed: Path) -> int:
    """The exit status of pytest; adds the tests that failed to `failed`, a line each."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env={**os.environ, FAILED_LIST: str(failed)}, check=False).returncode


def run_again(failed: Path) -> int:
    """0 if the tests in that file, a few, all pass alone; they are listed then."""
    tests = sorted(set(failed.read_text().splitlines()))
    if not 0 < len(tests) <= UNSTEADY_MAX:
        return FAILED
    print(f"running {len(tests)} failed tests once more, alone", flush=True)
    status = run_pytest(*tests, failed=failed.with_name("again"))
    if status == PASSED:
        print("Unsteady tests, each of which has a race that is to be found:", *tests, sep="\n  ")
    return status


def main() -> int:
    """The first exit status that is a failure, or 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    # Tests mostly wait for time to pass.
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)) + 1, metavar="N")
    parser.add_argument("--only", choices=("parallel", "serial"))
    parser.add_argument("--beside", metavar="COMMAND")
    options, arguments = parser.parse_known_args()
    spread = ["--numprocesses", str(options.processes), "--dist", "loadfile"]
    with tempfile.TemporaryDirectory() as folder, Beside(options.beside) as beside:
        skipped = Path(folder, "skipped")
        failed = Path(folder, "failed")
        for file in (skipped, failed):
            file.touch()
        os.environ[SKIPPED_LIST] = str(skipped)
        statuses = []
        if options.only != "serial":
            statuses.append(run_pytest("--serial", "none", *spread, *arguments, failed=failed))
        other = beside.wait()
        if options.only != "parallel":
            statuses.append(run_pytest("--serial", "only", *arguments, failed=failed))
        for line in advice(skipped.read_text().split()):
            print(line)
        if FAILED in statuses and run_again(failed) == PASSED:
            statuses = [PASSED if status == FAILED else status for status in statuses]
    failures = [status for status in statuses if status not in (PASSED, NOTHING_COLLECTED)]
    if not failures and PASSED not in statuses:
        failures = [NOTHING_COLLECTED]
    return failures[0] if failures else other


if __name__ == "__main__":
    sys.exit(main())
