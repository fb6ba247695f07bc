"""One server process tree: start, wait until it answers, read its CPU time and memory, end it by pid."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

SERVER_CORE = 1
LOAD_CORE = 0
DESCRIPTORS = 20000
READY_SECONDS = 20.0
STOP_SECONDS = 3.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
BENCH = Path(__file__).resolve().parent.parent


class StartError(Exception):
    """A server did not start or did not answer; the message carries the end of its output."""


def raise_descriptor_limit():
    """Raise the soft limit of open files to at most `DESCRIPTORS`, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def free_port():
    """A TCP port that was free a moment ago on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pin_and_die_with_parent(*cores):
    """For `preexec_fn`: run on these cores and get SIGKILL if the harness itself is killed."""
    os.sched_setaffinity(0, cores)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stat_fields(pid):
    """The fields of /proc/PID/stat after the command, whose text may contain spaces; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def tree(root):
    """The pids of a process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


class Server:
    """A running server; a context manager that ends every process of its tree."""

    def __init__(
        self, command, port, *, environment=None, stdout=subprocess.DEVNULL, errors=None, cores=(SERVER_CORE,)
    ):
        self.command, self.port, self.errors_path = command, port, errors
        self.known = set()
        with contextlib.ExitStack() as stack:
            stderr = stack.enter_context(open(errors, "wb")) if errors else subprocess.DEVNULL
            if isinstance(stdout, (str, Path)):
                stdout = stack.enter_context(open(stdout, "wb"))
            self.process = subprocess.Popen(
                command,
                cwd=BENCH,
                env={**os.environ, "PYTHONPATH": str(BENCH), "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=lambda: pin_and_die_with_parent(*cores),  # noqa: PLW1509
            )

    def __enter__(self):
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info):
        self.stop()

    def wait_until_ready(self):
        """Return once a GET is answered; raise StartError if the process ends or `READY_SECONDS` pass."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise StartError(f"exited with status {self.process.returncode}: {self.last_output()}")
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=2) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                    if client.recv(65536).startswith(b"HTTP/1.1 200"):
                        return
            time.sleep(0.02)
        raise StartError(f"no answer within {READY_SECONDS:.0f} s: {self.last_output()}")

    def last_output(self):
        """The last lines of the server's standard error."""
        try:
            return Path(self.errors_path).read_text(errors="replace")[-800:].strip()
        except (OSError, TypeError):
            return ""

    def pids(self):
        """Every living process of the tree; remembers them for `stop`."""
        pids = tree(self.process.pid)
        self.known.update(pids)
        return pids

    def is_alive(self):
        return self.process.poll() is None

    def cpu_seconds(self):
        """User plus system time of the tree, with that of children already reaped."""
        ticks = 0
        for pid in self.pids():
            if fields := stat_fields(pid):
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / CLOCK_TICKS

    def cpu_nanoseconds(self):
        """What the threads of the tree have used that still live, by the scheduler's own count."""
        return sum(int(text.split()[0]) for text in self._of_threads("schedstat"))

    def voluntary_switches(self):
        """How often the threads of the tree that still live have let a processor go to wait."""
        lines = (line for text in self._of_threads("status") for line in text.splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    def _of_threads(self, name):
        for pid in self.pids():
            for file in Path(f"/proc/{pid}/task").glob(f"*/{name}"):
                with contextlib.suppress(OSError):
                    yield file.read_text()

    def memory(self, key="Pss"):
        """Bytes of `key` in smaps_rollup, summed over the tree."""
        return sum(self._status_bytes(pid, "smaps_rollup", key) for pid in self.pids())

    def reset_peak_memory(self):
        """Let VmHWM start anew from the present resident set (proc(5), clear_refs)."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_memory(self):
        """Bytes of the largest resident set since `reset_peak_memory`, summed over the tree."""
        return sum(self._status_bytes(pid, "status", "VmHWM") for pid in self.pids())

    @staticmethod
    def _status_bytes(pid, file, key):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def sockets(self):
        """How many sockets the tree holds open."""
        found = set()
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for entry in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(entry.path)
                        if target.startswith("socket:"):
                            found.add(target)
        return len(found)

    def waiting_in_kernel(self):
        """Connections that the kernel completed and the server has not accepted yet."""
        wanted = f":{self.port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(wanted):
                return int(fields[4].partition(":")[2], 16)
        return 0

    def stop(self):
        """SIGTERM to the root; whatever of the tree is left after `STOP_SECONDS` gets SIGKILL."""
        self.pids()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        for pid in self.known:
            fields = stat_fields(pid)
            # The session id says that the pid is still ours and was not given to another process.
            if fields and int(fields[3]) == self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
