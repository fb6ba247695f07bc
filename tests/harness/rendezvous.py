"""A meeting place of a test and the application it exercises: a folder both of them know.

The application `emit`s events and `hold`s at gates; the test waits for events and opens gates. So no test
has to guess how long something takes. Events are lines of one file, each appended in one write, which the
kernel keeps whole.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "TEST_RENDEZVOUS"
STEP = 0.002
PATIENCE = 20.0


class Rendezvous:
    """One folder; both sides use the same class."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.journal = self.folder / "journal"

    @classmethod
    def from_environment(cls) -> Rendezvous:
        """The meeting place of the test that started this process."""
        return cls(os.environ[VARIABLE])

    # The application's side

    def emit(self, event: str) -> None:
        """Appends an event, a single line."""
        descriptor = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, event.encode() + b"\n")
        finally:
            os.close(descriptor)

    def hold(self, gate: str, patience: float = PATIENCE) -> None:
        """Says `holding GATE` and waits until the test opens the gate."""
        self.emit(f"holding {gate}")
        wait_until((self.folder / f"gate-{gate}").exists, f"gate {gate} to open", patience)

    # The test's side

    def open(self, gate: str) -> None:
        """Lets whoever holds, or will hold, at this gate go on."""
        (self.folder / f"gate-{gate}").touch()

    def events(self) -> list[str]:
        """Everything that was emitted so far."""
        return self.journal.read_text().splitlines() if self.journal.exists() else []

    def count(self, event: str) -> int:
        """How often this very event was emitted."""
        return self.events().count(event)

    def matching(self, prefix: str) -> list[str]:
        """The events that begin so."""
        return [event for event in self.events() if event.startswith(prefix)]

    def wait_for_prefix(self, prefix: str, count: int = 1, patience: float = PATIENCE) -> None:
        """Waits until at least `count` events that begin so were emitted."""
        wait_until(lambda: len(self.matching(prefix)) >= count, f"{count} x {prefix!r}...", patience)

    def wait_for(self, event: str, count: int = 1, patience: float = PATIENCE) -> None:
        """Waits until this event was emitted at least `count` times."""
        wait_until(lambda: self.count(event) >= count, f"{count} x {event!r}", patience)


def wait_until(condition, what: str, patience: float = PATIENCE) -> None:
    """Waits until `condition()` is true; after `patience` seconds a TimeoutError says `what` did not come."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience} s in vain for {what}")
        time.sleep(STEP)


def wait_until_steady(figure, seconds: float = 0.5) -> None:
    """Waits until a figure has not grown for so long."""
    value, since = figure(), time.monotonic()
    deadline = since + 20
    while time.monotonic() - since < seconds:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if figure() > value:
            value, since = figure(), time.monotonic()
