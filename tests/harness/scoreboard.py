"""The supervisor's scoreboard, read from outside: the state of each worker at this very moment.

For what must hold at every moment (never fewer ready workers than asked for) nothing else is quick enough.
The layout is that of crates/portico-supervisor/src/scoreboard.rs; one that does not fit is told. The metrics
in it are those of crates/portico-metrics/src/table.rs.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from pathlib import Path

MAGIC = int.from_bytes(b"portico\x04", "little")
SUPERVISOR_FIELDS, SLOT_FIELDS, CONCURRENCY_WORDS = 32, 16, 128
STATES = ("empty", "starting", "ready", "retiring")
# Indices, in the order of the enums there.
METRIC_WORDS, GAUGE_WORDS, SLOTS, THREADS, SUPERVISOR_PID = 2, 3, 4, 5, 6
LIMIT_WORDS, LIMITS_FROM, THREAD_WORDS = 11, 17, 18
PID, STATE = 0, 1
# Of a thread's record: the number of its call, its state, when the call began, the length of its target, that
# itself, the number of the call to be cancelled, the time of its calls, its waits for the interpreter.
SEQUENCE, THREAD_STATE, THREAD_BEGUN, TARGET_BYTES, TARGET, CANCEL = 0, 1, 2, 12, 15, 47
THREAD_BUSY, THREAD_WAITS = 48, (49, 50)
# A call that runs counts up to so long ago.
CLOCK_LAG_NANOS = 1_000_000_000
# Of the metrics, which begin with the gauge portico_threads_told: idle, busy, lost.
BUSY_THREADS = SLOT_FIELDS + 1


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
        self.path = path
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise FileNotFoundError(f"process {pid} is about to make its scoreboard")
            self.words = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)).cast("Q")
        if self.words[0] == 0:
            raise FileNotFoundError(f"process {pid} is about to make its scoreboard")
        assert self.words[0] == MAGIC, "the scoreboard has another layout"
        self.slots_from = self.words[LIMITS_FROM] + self.words[LIMIT_WORDS]
        self.threads_from = SLOT_FIELDS + self.words[METRIC_WORDS] + CONCURRENCY_WORDS
        self.slot_words = self.threads_from + self.words[THREADS] * self.words[THREAD_WORDS]
        assert len(self.words) >= self.slots_from + self.words[SLOTS] * self.slot_words

    def slot(self, number: int, field: int) -> int:
        """A number of a slot."""
        return self.words[self.slots_from + number * self.slot_words + field]

    def totals(self) -> list[int]:
        """Every number that never falls: all metrics of each process but its gauges, and threads' totals."""
        first = self.slots_from + SLOT_FIELDS
        blocks = [first + number * self.slot_words for number in range(self.words[SLOTS])]
        begin, end = self.words[GAUGE_WORDS], self.words[METRIC_WORDS]
        found = []
        for block in [SUPERVISOR_FIELDS, *blocks]:
            found += self.words[block + begin : block + end].tolist()
        for record in self.records():
            found += [self.words[record + word] for word in THREAD_WAITS]
            found.append(self.busy_nanos(record))
        return found

    def records(self) -> list[int]:
        """Where each thread's record begins."""
        slots, threads = range(self.words[SLOTS]), range(self.words[THREADS])
        return [self.thread(slot, index) for slot in slots for index in threads]

    def busy_nanos(self, record: int) -> int:
        """The time of all calls of a thread, also of the one that runs."""
        while True:
            now = time.monotonic_ns()
            word, begun = self.words[record + THREAD_BUSY], self.words[record + THREAD_BEGUN]
            if not word & 1:
                return word >> 1
            if word == self.words[record + THREAD_BUSY]:
                return (word >> 1) + max(0, now - CLOCK_LAG_NANOS - begun)

    def spoil(self, number: int) -> None:
        """Fills the metrics of a slot with ones, as a worker could that has gone wrong."""
        first = self.slots_from + number * self.slot_words + SLOT_FIELDS
        words = range(first, first + self.words[METRIC_WORDS])
        with open(self.path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[words.start * 8 : words.stop * 8] = b"\xff" * (8 * len(words))

    def thread(self, slot: int, index: int) -> int:
        """Where the record of a thread begins."""
        record = self.threads_from + index * self.words[THREAD_WORDS]
        return self.slots_from + slot * self.slot_words + record

    def sequence(self, slot: int, index: int) -> int:
        """The sequence number of a thread's present call, or its last one; odd while that is written down."""
        return self.words[self.thread(slot, index) + SEQUENCE]

    def running(self, slot: int, index: int) -> tuple[int, str]:
        """The sequence number of a thread's call with its target; an empty one if there is no such call."""
        record = self.thread(slot, index)
        sequence = self.words[record + SEQUENCE]
        length = self.words[record + TARGET_BYTES]
        text = self.words[record + TARGET : record + CANCEL].tobytes()[:length].decode("latin-1")
        runs = sequence % 2 == 0 and self.words[record + THREAD_STATE] == 1
        same = sequence == self.words[record + SEQUENCE]
        return (sequence, text) if runs and same else (sequence, "")

    def ask_cancel(self, slot: int, index: int, sequence: int) -> None:
        """Asks for a call to be cancelled, as `portico cancel` does, whether it runs or not."""
        word = self.thread(slot, index) + CANCEL
        with open(self.path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[word * 8 : word * 8 + 8] = sequence.to_bytes(8, "little")

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
