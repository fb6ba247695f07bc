"""Containers that allow next to nothing: read-only root, an unknown user, no HOME, no temporary folder."""

from __future__ import annotations

import os
import signal
import time

import pytest

from harness.process import Process

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for mounts and another user")

# A mount namespace of its own, in which everything is read-only, /tmp, /var/tmp and /dev/shm too; then a user
# that nobody knows. All that he may is read what the tests' Python is made of, wherever it is.
LOCK_DOWN = r"""
set -e
mount --make-rprivate /
for folder in / /tmp /var/tmp /dev/shm /run; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
capabilities=-all,+dac_read_search
exec setpriv --reuid 54321 --regid 54321 --clear-groups --no-new-privs \
    --inh-caps=$capabilities --ambient-caps=$capabilities --bounding-set=$capabilities -- "$@"
"""

NOTHING = {"HOME": None, "USER": None, "LOGNAME": None, "TMPDIR": None, "XDG_RUNTIME_DIR": None, "LANG": None}


LOCKED = {"prefix": ("unshare", "--mount", "bash", "-c", LOCK_DOWN, "bash"), "environment": NOTHING}


@ROOT
@pytest.mark.parametrize(
    "options",
    [(), ("--preload",), ("-k", "gthread", "-e", "A=b", "-m", "022", "--reuse-port", "--user", "54321")],
)
def test_everything_works_with_nothing_to_write_to(serve, tmp_path, options):
    (tmp_path / "app.py").write_text(
        "import os\n"
        "def application(environ, start_response):\n"
        "    answer = str(os.getpid()).encode()\n"
        "    start_response('200 OK', [('Content-Length', str(len(answer)))])\n"
        "    return [answer]\n"
    )
    server = serve("app", "--workers", "2", *options, cwd=tmp_path, **LOCKED)
    status = (server.supervisor.folder / "status").read_text()
    assert "Uid:\t54321\t54321" in status, "the test locks down what it says"
    workers = server.wait_workers(2)
    assert {int(server.request().body) for _ in range(40)} == {worker.pid for worker in workers}
    os.kill(workers[0].pid, signal.SIGKILL)
    server.expect_log("SIGKILL")
    workers = server.wait_workers(2)
    server.signal(signal.SIGHUP)
    server.wait_replaced(workers)
    assert server.request("POST", "/", body=b"x" * 10_000).status == 200
    server.stop()
    assert not server.find_records("WARNING"), server.log_text


@ROOT
def test_large_body_without_a_folder_stays_in_memory(serve):
    server = serve("apps.echo:application", **LOCKED)
    with server.connect() as client:
        assert client.request("POST", "/", body=b"x" * 200_000).status == 200
    server.expect_log("WARNING.*TMPDIR")


def test_no_unrequested_file_or_port_is_opened(serve, tmp_path):
    server = serve("apps.processes:application", "--workers", "2", "--preload")
    server.wait_workers(2)
    server.answering_pids(10)
    for process in [server.supervisor, *server.supervisor.children()]:
        targets = [os.readlink(link) for link in (process.folder / "fd").iterdir()]
        files = [target for target in targets if target.startswith("/") and not target.startswith("/memfd:")]
        files = [file for file in files if not os.path.isdir(file)]  # Folders are no place to write to.
        assert set(files) <= {"/dev/null", "/dev/urandom"}, files
    assert len(listening(server.supervisor)) == 1
    assert sorted(path.name for path in server.rendezvous.folder.iterdir()) == []


def listening(process: Process) -> list[str]:
    """Ports and named sockets that a process listens on."""
    inodes = set()
    for link in (process.folder / "fd").iterdir():
        target = os.readlink(link)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for name, state, column in (("tcp", "0A", 9), ("tcp6", "0A", 9)):
        for line in (process.folder / "net" / name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[column] in inodes:
                found.append(fields[1])
    return found


def test_log_that_nobody_reads_kills_no_worker(serve):
    """Standard error is a pipe that is full: whoever collects logs is stopped."""
    reader, writer = os.pipe()
    server = serve.start(
        "apps.processes:application",
        "--workers",
        "2",
        "--access-logfile",
        "-",
        stdout=writer,
        bind="127.0.0.1:0",
    ).wait_ready()
    os.close(writer)
    workers = server.wait_workers(2)
    before = time.monotonic()
    with server.connect() as client:
        for _ in range(3000):
            assert client.request("GET", "/ping").status == 200
    assert time.monotonic() - before < 30
    assert server.wait_workers(2) == workers
    server.stop()
    os.close(reader)


def test_started_programs_inherit_no_descriptors(serve, tmp_path):
    (tmp_path / "app.py").write_text(
        "import subprocess, sys\nfrom apps.routes import plain\n"
        'LIST = \'import os; print([os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")'
        ' if os.path.islink(f"/proc/self/fd/{n}")])\'\n'
        "def application(environ, start_response):\n"
        "    command = [sys.executable, '-c', LIST]\n"
        "    return plain(start_response, subprocess.check_output(command, close_fds=False, text=True))\n"
    )
    server = serve("app", "--workers", "2", cwd=tmp_path)
    server.wait_workers(2)
    told = server.request().body.decode()
    assert "socket:" not in told and "memfd" not in told and "eventpoll" not in told, told
