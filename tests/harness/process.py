"""A process as the kernel shows it: its children, memory, descriptors, threads."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from harness.rendezvous import wait_until


class Process:
    """A living process, or one that has ended: then there is nothing to read, and `alive` says so."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.folder = Path(f"/proc/{pid}")

    def __repr__(self) -> str:
        return f"Process({self.pid})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and other.pid == self.pid

    def __hash__(self) -> int:
        return hash(self.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        stat = read_or_empty(self.folder / "stat")
        return bool(stat) and stat.rpartition(")")[2].split()[0] not in "ZX"

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """Stops it (SIGSTOP) and waits until each of its threads stands still."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: all(self.stands_still(task) for task in self.tasks()), f"{self} to stand still", 5)

    def resume(self) -> None:
        """Lets it go on."""
        self.signal(signal.SIGCONT)

    @staticmethod
    def stands_still(task: Path) -> bool:
        """Whether a thread is stopped, or gone."""
        stat = read_or_empty(task / "stat")
        return not stat or stat.rpartition(")")[2].split()[0] in "TZX"

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def has_pending(self, number: signal.Signals) -> bool:
        """Whether it was sent a signal that it has not taken yet."""
        masks = re.findall(r"^S(?:ig|hd)Pnd:\s+(\w+)$", read_or_empty(self.folder / "status"), re.MULTILINE)
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)

    def wait_end(self, patience: float = 10.0) -> None:
        """Waits until it has ended and, if it was ever to be, was reaped."""
        wait_until(lambda: not self.folder.exists(), f"process {self.pid} to end", patience)

    # Its family

    @classmethod
    def in_folder(cls, folder: Path) -> list[Process]:
        """The processes whose working directory is `folder`."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and Path(os.readlink(entry / "cwd")) == folder:
                    found.append(cls(int(entry.name)))
            except OSError:  # It has ended, or is another user's.
                continue
        return found

    def children(self) -> list[Process]:
        """The processes that it is the parent of, oldest first."""
        numbers: list[int] = []
        for task in self.tasks():
            numbers += map(int, read_or_empty(task / "children").split())
        return [Process(number) for number in sorted(numbers)]

    def tasks(self) -> list[Path]:
        """The folders of its threads."""
        try:
            return list((self.folder / "task").iterdir())
        except OSError:
            return []

    def thread_names(self) -> list[str]:
        """What its threads are called; the kernel keeps 15 characters."""
        return [name for task in self.tasks() if (name := read_or_empty(task / "comm").strip())]

    def kernel_stacks(self) -> str:
        """Where each thread waits, to explain a process that does not end."""
        return "\n".join(f"{task.name}: {read_or_empty(task / 'wchan')}" for task in self.tasks())

    # Figures

    def memory(self) -> int:
        """Bytes that it holds: proportional set size, its share of what is shared."""
        return self.kilobytes("smaps_rollup", "Pss") * 1024

    def private_memory(self) -> int:
        """Bytes that no other process has."""
        names = ("Private_Clean", "Private_Dirty")
        return sum(self.kilobytes("smaps_rollup", name) for name in names) * 1024

    def resident_memory(self) -> int:
        """Resident bytes, shared ones in full."""
        return self.kilobytes("status", "VmRSS") * 1024

    def peak_memory(self) -> int:
        """Highest resident size since `reset_peak_memory`, in bytes."""
        return self.kilobytes("status", "VmHWM") * 1024

    def reset_peak_memory(self) -> None:
        """Lets `peak_memory` count from now."""
        (self.folder / "clear_refs").write_text("5")

    def kilobytes(self, file: str, name: str) -> int:
        """The figure `name: N kB` of one of its files in /proc."""
        match = re.search(rf"^{name}:\s+(\d+) kB", (self.folder / file).read_text(), re.MULTILINE)
        assert match, f"{file} of {self.pid} has no {name}"
        return int(match[1])

    def descriptors(self) -> int:
        """How many descriptors are open."""
        return len(os.listdir(self.folder / "fd"))

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        fields = (self.folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_or_empty(path: Path) -> str:
    """A file's text; nothing where it is gone or forbidden."""
    try:
        return path.read_text()
    except OSError:
        return ""
