"""The supervisor's scoreboard, read from outside: the state of each worker at this very moment.

For what must hold at every moment (never fewer ready workers than asked for) nothing else is quick enough.
The layout is that of crates/portico-supervisor/src/scoreboard.rs; one that does not fit is told.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

MAGIC = int.from_bytes(b"portico\x01", "little")
SUPERVISOR_WORDS, SLOT_WORDS, WAIT_BUCKETS, THREAD_WORDS = 32, 24, 32, 48
STATES = ("empty", "starting", "ready", "retiring")
# Indices, in the order of the enums there.
SLOTS, THREADS, SUPERVISOR_PID = 1, 2, 3
PID, STATE, BUSY_THREADS = 0, 1, 7


class Scoreboard:
    """That of a supervisor."""

    def __init__(self, pid: int) -> None:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            # The process may close it meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if "/memfd:portico-scoreboard" in os.readlink(path):
                    break
        else:
            raise FileNotFoundError(f"process {pid} has no scoreboard")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise FileNotFoundError(f"process {pid} is about to make its scoreboard")
            self.words = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).cast("Q")
        if self.words[0] == 0:
            raise FileNotFoundError(f"process {pid} is about to make its scoreboard")
        assert self.words[0] == MAGIC, "the scoreboard has another layout"
        self.slot_words = SLOT_WORDS + WAIT_BUCKETS + self.words[THREADS] * THREAD_WORDS
        assert len(self.words) == SUPERVISOR_WORDS + self.words[SLOTS] * self.slot_words

    def slot(self, number: int, field: int) -> int:
        """A number of a slot."""
        return self.words[SUPERVISOR_WORDS + number * self.slot_words + field]

    def occupied(self) -> list[int]:
        """The slots that have a worker."""
        return [number for number in range(self.words[SLOTS]) if self.slot(number, STATE)]

    def states(self) -> dict[int, str]:
        """The state of each worker, by process id."""
        return {self.slot(number, PID): STATES[self.slot(number, STATE)] for number in self.occupied()}

    def busy_threads(self, pid: int) -> int:
        """How many threads of a worker are in a call."""
        return sum(
            self.slot(number, BUSY_THREADS) for number in self.occupied() if self.slot(number, PID) == pid
        )

    def ready(self) -> int:
        """How many workers are ready at one moment: the states are read until they are twice the same.

        Of two slots that change between two looks, the later would count and the earlier not.
        """
        states, before = self.slot_states(), []
        while states != before:
            states, before = self.slot_states(), states
        return states.count(STATES.index("ready"))

    def slot_states(self) -> list[int]:
        """The state of each slot, one after the other."""
        return [self.slot(number, STATE) for number in range(self.words[SLOTS])]
