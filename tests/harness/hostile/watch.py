"""What the worker holds while it is attacked: memory, files without a name, descriptors, threads in calls."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.process import Process
from harness.scoreboard import Scoreboard

if TYPE_CHECKING:
    from typing import Self

INTERVAL_SECONDS = 0.1
# Files in memory, whatever they are called: they weigh on the memory of the container, not on its disk.
MEMORY_FILES = ("/memfd:", "/dev/shm/")

# How it shows in /proc that there is no worker any more: no files, or files without figures.
WORKER_ENDED = (OSError, AssertionError)


@dataclass
class Holding:
    """What the worker holds at one moment, in bytes and numbers."""

    memory: int
    disk: int
    descriptors: int
    busy_threads: int


def unlinked_files(worker: Process) -> dict[tuple[int, int], tuple[int, bool]]:
    """Bytes of each unlinked file that the worker has open, and whether it lies in memory.

    By device and inode: a file that is open twice is there once.
    """
    files = {}
    for name in os.listdir(worker.folder / "fd"):
        path = worker.folder / "fd" / name
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink:
                continue
            in_memory = os.readlink(path).startswith(MEMORY_FILES)
        except OSError:
            continue
        # Not what a file system sets aside beyond the end, nor holes.
        files[status.st_dev, status.st_ino] = min(status.st_size, status.st_blocks * 512), in_memory
    return files


def holding(worker: Process, board: Scoreboard) -> Holding:
    """Anonymous memory and files in memory; unlinked files elsewhere; descriptors; threads in calls.

    Not PSS: to compute it the kernel stops the worker's page faults, many times a second.
    """
    memory, disk = worker.kilobytes("status", "RssAnon") * 1024, 0
    # Files grow until they are emptied. What is there in two looks was there between them, all at once; a
    # single look would add a file that has been emptied since to the one that took its room.
    before, after = unlinked_files(worker), unlinked_files(worker)
    for file in before.keys() & after.keys():
        size, in_memory = min(before[file], after[file])
        memory += size * in_memory
        disk += size * (not in_memory)
    descriptors = len(os.listdir(worker.folder / "fd"))
    return Holding(memory, disk, descriptors, board.busy_threads(worker.pid))


@dataclass
class Watch:
    """Looks again and again while its `with` block lasts."""

    worker: Process
    board: Scoreboard
    seen: list[Holding] = field(default_factory=list)
    failure: Exception | None = None

    def __enter__(self) -> Self:
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Looks no more."""
        self.stopping.set()
        self.thread.join()

    def run(self) -> None:
        """Looks until told to stop, or until there is no worker."""
        try:
            while not self.stopping.is_set():
                begun = time.monotonic()
                self.seen.append(holding(self.worker, self.board))
                self.stopping.wait(max(INTERVAL_SECONDS, 5 * (time.monotonic() - begun)))
        except WORKER_ENDED as failure:
            self.failure = failure

    def most(self, figure: str) -> int:
        """The highest value of a figure."""
        return max(getattr(each, figure) for each in self.seen)

    def typical(self, figure: str) -> int:
        """The median of a figure: what it is most of the time."""
        return sorted(getattr(each, figure) for each in self.seen)[len(self.seen) // 2]
