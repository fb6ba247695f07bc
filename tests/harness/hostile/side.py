"""The test's end of the processes of `__main__.py`: attackers, and other clients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

TESTS = Path(__file__).resolve().parent.parent.parent
END_SECONDS = 10.0


class Side:
    """One process that plays a part; it ends with the `with` block."""

    def __init__(self, part: str, **spec: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.hostile", json.dumps({"part": part, **spec})],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self.read() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def tell(self, command: str) -> Any:
        """Gives a command and waits until it is done; what is said to it."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """The next line that the process says."""
        line = self.process.stdout.readline()
        assert line, f"the process of {self.process.args[-1]} has ended; its error is above"
        return json.loads(line)
