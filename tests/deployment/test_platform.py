"""The server among the system's processes: pid file, daemon, users, environment, names, exit statuses."""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.another_user import OPENED_UP, ROOT
from harness.folders import Folders
from harness.http_client import Client
from harness.packages import skip_without
from harness.ports import HOST, free_port, free_port_everywhere
from harness.process import Process, read_or_empty
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sources import program, source

# Tells what the worker is.
APP = source("platform_app")


@pytest.fixture
def folder(folders: Folders) -> Path:
    """A folder that every user may enter, with an application in it."""
    path = folders.make()
    (path / "app.py").write_text(APP)
    return path


def told(server) -> dict:
    """What the worker that answers is."""
    return json.loads(server.request().body)


# The pid file


def test_pid_file_names_the_supervisor_until_it_ends(serve, tmp_path):
    path = tmp_path / "portico.pid"
    server = serve("apps.processes:application", "--pid", str(path))
    assert path.read_text() == f"{server.pid}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    (worker,) = server.wait_workers(1)
    worker.kill()
    server.expect_log("SIGKILL")
    server.wait_workers(1)
    assert path.read_text() == f"{server.pid}\n", "a worker's end leaves it alone"
    server.stop()
    assert not path.exists()


def test_running_servers_pid_file_is_refused_stale_replaced(serve, tmp_path):
    path = tmp_path / "portico.pid"
    path.write_text("4194399\n")
    server = serve("apps.processes:application", "-p", str(path))
    assert path.read_text() == f"{server.pid}\n"
    ended = run_to_end("-p", str(path), "-b", "127.0.0.1:0", "app", cwd=tmp_path)
    assert ended.returncode == 1
    assert f"a server runs already, as process {server.pid}" in ended.stderr
    assert path.read_text() == f"{server.pid}\n"


def test_failed_start_leaves_no_pid_file(tmp_path):
    path = tmp_path / "portico.pid"
    ended = run_to_end("-p", str(path), "-b", "127.0.0.1:0", "no_such_module", cwd=tmp_path)
    assert ended.returncode == 3
    assert not path.exists()
    ended = run_to_end("-p", "/no/such/folder/x", "-b", "127.0.0.1:0", "app", cwd=tmp_path)
    assert ended.returncode == 1
    assert "/no/such/folder/x" in ended.stderr


def test_upgrade_has_two_pid_files_for_a_while(serve, tmp_path):
    path, second = tmp_path / "portico.pid", tmp_path / "portico.pid.2"
    server = serve("apps.processes:application", "--pid", str(path))
    (worker,) = server.wait_workers(1)
    with server.connect() as client:
        # Holds the old one up, so that both are seen.
        client.send(b"GET /sleep?seconds=3 HTTP/1.1\r\nHost: test\r\n\r\n")
        wait_until(lambda: server.is_busy(worker), "the call")
        server.signal(signal.SIGUSR2)
        wait_until(lambda: second.exists() and second.read_text(), "the second file")
        new = Process(int(second.read_text()))
        assert path.read_text() == f"{server.pid}\n"
        assert client.read_response().status == 200
    try:
        server.process.wait(20)
        wait_until(lambda: path.read_text() == f"{new.pid}\n", "the new one's file")
        assert not second.exists()
        assert server.request("GET", "/ping").status == 200
    finally:
        new.signal(signal.SIGTERM)
        wait_until(lambda: not new.alive, "the new one to end", 20)
    assert not path.exists()


# Daemon


@contextlib.contextmanager
def daemon(folder: Path, *options: str, **settings):
    """A daemon in `folder`: how the command ended, its supervisor, its port. It is stopped at the end."""
    port, pidfile = free_port(), folder / "daemon.pid"
    bind = ["--bind", f"{HOST}:{port}", "--pid", str(pidfile)]
    ended = run_to_end("--daemon", *bind, *options, "app", cwd=folder, **settings)
    supervisor = Process(int(read_or_empty(pidfile) or 0))
    try:
        yield ended, supervisor, port
    finally:
        if supervisor.pid:
            supervisor.signal(signal.SIGTERM)
            wait_until(lambda: not supervisor.alive, "the daemon to end", 20)


def test_daemon_serves_detached_once_the_command_returns(folder):
    log = folder / "error.log"
    with daemon(folder, "--error-logfile", str(log)) as (ended, supervisor, port):
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        with Client((HOST, port)) as client:
            told = json.loads(client.request("GET", "/").body)
        assert told["session"] not in (os.getsid(0), supervisor.pid), "it can come to no terminal"
        for process in (supervisor, Process(told["pid"])):
            assert {os.readlink(process.folder / "fd" / str(number)) for number in range(3)} == {"/dev/null"}
    assert "Listening at" in log.read_text()


def test_daemon_without_an_error_log_says_so(folder):
    with daemon(folder) as (ended, _, _):
        assert ended.returncode == 0
        assert re.fullmatch(r"portico: warning: --daemon: .*--error-logfile\)\n", ended.stderr)


def test_daemon_keeps_its_streams_if_told_to(folder):
    with (folder / "out").open("w") as out:
        with daemon(folder, "-R", program=[*with_output(folder / "out")]) as (ended, supervisor, port):
            assert ended.returncode == 0
            with Client((HOST, port)) as client:
                assert client.request("GET", "/").status == 200
            assert os.readlink(supervisor.folder / "fd" / "0") == "/dev/null"
        out.flush()
    written = (folder / "out").read_text()
    assert "Listening at" in written and "printed by the application" in written, written


def with_output(path: Path) -> list[str]:
    """The command, its output into a file."""
    return ["bash", "-c", f'exec {sys.executable} -m portico "$@" > {path} 2>&1', "bash"]


@pytest.mark.parametrize(
    ("application", "options", "status", "words"),
    [
        ("broken", (), 3, "planted"),
        ("broken", ("--error-logfile", "error.log"), 3, "planted"),
        ("broken", ("--preload",), 3, "planted"),
        ("app:missing", (), 4, "missing"),
        ("app", ("--bind", "127.0.0.1:1"), 1 if os.geteuid() else None, "127.0.0.1:1"),
        ("app", ("--pid", "/no/such/folder/x"), 1, "/no/such/folder/x"),
    ],
)
def test_daemon_that_fails_explains_itself_to_the_caller(folder, application, options, status, words):
    if status is None:
        pytest.skip("root may listen there")
    (folder / "broken.py").write_text("raise RuntimeError('planted')\n")
    bind = () if "--bind" in options else ("--bind", "127.0.0.1:0")
    ended = run_to_end("-D", *bind, *options, application, cwd=folder)
    assert ended.returncode == status, ended
    assert words in ended.stderr, ended
    assert ended.stderr.count("Traceback") == (application == "broken"), ended.stderr


def test_daemon_is_upgraded_in_the_background(folder):
    with daemon(folder, "--error-logfile", "error.log") as (_, supervisor, port):
        old = Process(supervisor.pid)
        supervisor.signal(signal.SIGUSR2)
        wait_until(lambda: not old.alive, "the old one to end", 20)
        wait_until(lambda: not (folder / "daemon.pid.2").exists(), "the file to be moved")
        supervisor.pid = int((folder / "daemon.pid").read_text())
        supervisor.folder = Path(f"/proc/{supervisor.pid}")
        with Client((HOST, port)) as client:
            assert client.request("GET", "/").status == 200


# Another user


@ROOT
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_workers_become_another_user_before_they_import_anything(folder, serve, preload):
    nobody = pwd.getpwnam("nobody")
    server = serve("app", "--user", "nobody", "--workers", "2", *preload, cwd=folder, prefix=OPENED_UP)
    worker = told(server)
    assert worker["at_import"]["uid"] == nobody.pw_uid
    assert worker["ids"] == [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3
    assert worker["groups"] == [nobody.pw_gid], "none of root's is left"
    assert worker["descriptors"] > 3, "it can read its own descriptors"
    assert os.stat(f"/proc/{server.pid}").st_uid == 0
    # The supervisor keeps what it needs for new ones.
    workers = server.wait_workers(2)
    server.signal(signal.SIGHUP)
    server.wait_replaced(workers)
    assert told(server)["ids"][0] == nobody.pw_uid
    stacks = run_to_end("stacks", str(server.pid), cwd=folder)
    assert stacks.returncode == 0, stacks


@ROOT
def test_users_groups_by_number_and_name(folder, serve):
    daemon_user, group = pwd.getpwnam("daemon"), grp.getgrnam("games")
    server = serve("app", "-u", str(daemon_user.pw_uid), "-g", "games", cwd=folder, prefix=OPENED_UP)
    worker = told(server)
    assert worker["ids"] == [daemon_user.pw_uid] * 3 + [group.gr_gid] * 3
    assert worker["groups"] == [group.gr_gid]
    server = serve("app", "-u", "daemon", "--initgroups", cwd=folder, prefix=OPENED_UP)
    assert sorted(told(server)["groups"]) == sorted(os.getgrouplist("daemon", daemon_user.pw_gid))
    # One that the machine does not know.
    server = serve("app", "-u", "54321", "-g", "54322", cwd=folder, prefix=OPENED_UP)
    assert told(server)["ids"] == [54321] * 3 + [54322] * 3


@ROOT
def test_sockets_and_log_files_are_the_users(folder, serve):
    logs = folder / "logs"
    logs.mkdir()
    options = ("-u", "nobody", "-m", "007", "--access-logfile", str(logs / "access"))
    path, error_log = folder / "socket", logs / "error"
    server = serve("app", *options, bind=f"unix:{path}", error_log=error_log, cwd=folder, prefix=OPENED_UP)
    nobody = pwd.getpwnam("nobody")
    for file in (path, logs / "access", error_log):
        assert (file.stat().st_uid, file.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid), file
    assert stat.S_IMODE(path.stat().st_mode) == 0o770
    assert told(server)["umask"] == 0o022, "the application's own is left alone"
    for name in ("access", "error"):
        (logs / name).rename(logs / f"{name}.1")
    server.signal(signal.SIGUSR1)

    def is_given() -> bool:
        return (logs / "access").exists() and (logs / "access").stat().st_uid == nobody.pw_uid

    wait_until(is_given, "the new log")
    server.request()
    wait_until((logs / "access").read_text, "a line in the new log")
    server.stop()


@ROOT
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--user", "no-such-user"), "--user: there is no user"),
        (("--group", "no-such-group"), "--group: there is no group"),
        (("--user", "54321", "--initgroups"), "--initgroups: the user has no name"),
    ],
)
def test_user_that_does_not_exist_ends_the_start(folder, options, words):
    ended = run_to_end(*options, "-b", "127.0.0.1:0", "app", cwd=folder)
    assert ended.returncode == 1
    assert words in ended.stderr and "Traceback" not in ended.stderr, ended.stderr


@ROOT
def test_user_without_privileges_cannot_become_another(folder):
    program = [*OPENED_UP, "setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-m", "portico"]
    ended = run_to_end("-u", "daemon", "-b", "127.0.0.1:0", "app", cwd=folder, program=program)
    assert ended.returncode == 1, ended
    assert "only root can become another" in ended.stderr
    # What it is already is no change.
    ended = run_to_end("-u", "65534", "--check-config", "app", cwd=folder, program=program)
    assert ended.returncode == 0, ended


# Environment, names, folders


def test_environment_of_the_application(folder, serve):
    options = ("-e", "FIRST=1,2", "--env", "SECOND=a=b", "--env", "HOME=/other")
    at_import = told(serve("app", *options, cwd=folder))["at_import"]["environ"]
    assert (at_import["FIRST"], at_import["SECOND"], at_import["HOME"]) == ("1,2", "a=b", "/other")
    assert re.fullmatch(r"portico/\S+ \(like gunicorn\)", at_import["SERVER_SOFTWARE"])


def command_name(process: Process) -> str:
    return (process.folder / "comm").read_text().strip()


def test_processes_have_names_without_any_package(folder, serve):
    server = serve("app", "--preload", cwd=folder, environment={"PYTHONPATH": str(folder)})
    server.wait_workers(1)
    names = sorted(command_name(process) for process in [server.supervisor, *server.supervisor.children()])
    assert names == ["portico: master", "portico: templ.", "portico: worker"]
    assert not server.find_records("setproctitle")
    server = serve("app", "--name", "shop", cwd=folder)
    server.expect_log("--name: .*setproctitle")


def test_processes_have_their_titles_with_the_package(folder, serve):
    (folder / "setproctitle.py").write_text(
        "import os\ndef setproctitle(title):\n    open(f'title.{os.getpid()}', 'a').write(title + '\\n')\n"
    )
    environment = {"PYTHONPATH": str(folder)}
    server = serve("app", "-n", "shop", cwd=folder, environment=environment)
    title = lambda process: (folder / f"title.{process.pid}").read_text()  # noqa: E731
    assert title(server.supervisor) == "portico: master [shop]\n"
    assert title(server.wait_workers(1)[0]) == "portico: worker [shop]\n"
    server = serve("app:application", cwd=folder, environment=environment)
    assert title(server.wait_workers(1)[0]) == "portico: worker [app:application]\n"


def test_several_servers_share_a_port_by_agreement(folder, serve):
    first = serve("app", "--reuse-port", cwd=folder)
    address = "{}:{}".format(*first.address)
    second = serve("app", "--reuse-port", bind=address, cwd=folder)
    pids = {told(first)["pid"] for _ in range(60)}
    assert pids == {server.wait_workers(1)[0].pid for server in (first, second)}
    ended = run_to_end("-b", address, "app", cwd=folder)
    assert ended.returncode == 1 and address in ended.stderr


def test_large_bodies_wait_in_the_configured_folder(folder, serve):
    uploads = folder / "uploads"
    uploads.mkdir()
    server = serve("app", "--tmp-upload-dir", "uploads", cwd=folder)
    with server.connect() as client:
        size = 300_000
        client.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        client.send(b"x" * (size - 1))
        files = lambda: [os.readlink(link) for link in (server.worker.folder / "fd").iterdir()]  # noqa: E731
        wait_until(lambda: any(file.startswith(str(uploads)) for file in files()), "a file there")
        assert list(uploads.iterdir()) == [], "it has no name"
        client.send(b"x")
        assert json.loads(client.read_response().body)["length"] == size
    ended = run_to_end("--tmp-upload-dir", "missing", "-b", "127.0.0.1:0", "app", cwd=folder)
    assert ended.returncode == 1
    assert "--tmp-upload-dir" in ended.stderr and "not a folder" in ended.stderr


# PasteDeploy

INI = """
[DEFAULT]
greeting = hello
[app:main]
paste.app_factory = factory:make
[app:other]
paste.app_factory = factory:make
word = other
"""
FACTORY = source("paste_factory")


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (("--paste", "site.ini"), b"hello"),
        (("--paster", "site.ini#other"), b"other"),
        (("--paste", "site.ini", "--paste-global", "greeting=a=b"), b"a=b"),
    ],
)
def test_application_of_a_paste_file(folder, serve, options, answer):
    skip_without("PasteDeploy")
    (folder / "site.ini").write_text(INI)
    (folder / "factory.py").write_text(FACTORY)
    assert serve(None, *options, cwd=folder).request().body == answer


def test_paste_file_that_cannot_be_served_is_told(folder):
    (folder / "site.ini").write_text(INI)
    (folder / "factory.py").write_text("raise RuntimeError('planted')\n")
    ended = run_to_end("--paste", "missing.ini", "--check-config", cwd=folder)
    assert ended.returncode == 1 and '--paste: "missing.ini" cannot be read' in ended.stderr
    if importlib.util.find_spec("paste"):
        ended = run_to_end("--paste", "site.ini", "-b", "127.0.0.1:0", cwd=folder)
        assert ended.returncode == 3 and "planted" in ended.stderr
    options = ("--paste", "site.ini", "-b", "127.0.0.1:0")
    ended = run_to_end(*options, cwd=folder, program=program("without_paste"))
    assert (ended.returncode, "Traceback" in ended.stderr) == (3, False), ended.stderr
    assert "pip install PasteDeploy" in ended.stderr


# Worker classes, exit statuses, the first lines


@pytest.mark.parametrize(
    ("options", "threads"),
    [
        ((), 4),
        (("-k", "sync"), 1),
        (("-k", "gthread", "--threads", "3"), 3),
        (("-k", "gevent", "--worker-connections", "6"), 6),
    ],
)
def test_worker_class_says_how_many_threads(folder, serve, options, threads):
    server = serve("app", *options, cwd=folder)
    assert told(server)["threads"] == threads
    server.expect_log(rf"= at most {threads} concurrent")
    if "gevent" in options:
        server.expect_log("not by greenlets")
    assert bool(server.find_records("not by greenlets")) == ("gevent" in options)


def test_foreign_worker_class_is_refused_by_name():
    for name in ("uvicorn.workers.UvicornWorker", "meinheld.gmeinheld.MeinheldWorker"):
        ended = run_to_end("-k", name, "app", cwd=Path("/"))
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1 and name in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--check-config", "app"), 0),
        (("--check-config", "app:missing"), 1),
        (("--check-config", "no_such_module"), 1),
        (("app:missing",), 4),
        (("app:AT_IMPORT",), 4),
        (("no_such_module",), 3),
        (("broken",), 3),
        (("--preload", "broken"), 3),
        (("--threads", "x", "app"), 2),
        ((), 1),
    ],
)
def test_exit_statuses_are_gunicorns(folder, arguments, status):
    (folder / "broken.py").write_text("raise RuntimeError('planted')\n")
    if not arguments:
        (folder / "app.py").unlink()
    ended = run_to_end("-b", "127.0.0.1:0", *arguments, cwd=folder)
    assert ended.returncode == status, ended


def test_first_lines_tell_the_number_of_concurrent_requests(folder, serve):
    server = serve("app", "--workers", "2", "--threads", "3", cwd=folder)
    server.expect_log(
        r"2 workers \(as asked for; there (is|are) \d+ CPUs?\) x 3 threads = at most 6 concurrent requests, "
        r"so at most 6 database connections per pool"
    )
    server = serve("app", "--workers", "auto", "--threads", "1", cwd=folder)
    server.expect_log(r"(\d+) workers? \((one )?for [^)]*CPUs?\) x 1 thread = at most \1 concurrent")


def test_procfile_with_a_port(folder, serve):
    port = free_port_everywhere()
    server = serve("app", bind=None, cwd=folder, environment={"PORT": str(port), "WEB_CONCURRENCY": "2"})
    server.wait_workers(1)
    assert f"http://0.0.0.0:{port}" in server.log_text
    with Client(("127.0.0.1", port)) as client:
        assert client.request("GET", "/").status == 200


# gevent


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_application_patched_by_gevent_runs_in_greenlets(serve, preload):
    skip_without("gevent")
    server = serve("apps.patched", "-k", "gevent", "--worker-connections", "6", *preload)
    server.wait_workers(1)
    with ThreadPoolExecutor(6) as clients:
        asked = [clients.submit(lambda: server.request().body.decode().split()) for _ in range(30)]
        answers = [future.result() for future in asked]
    names = {name for name, _, _ in answers}
    assert len(names) > 1 and names <= {f"portico-{number}" for number in range(1, 7)}
    assert {int(native) for _, native, _ in answers} == {server.worker.pid}, "all in the main thread"
    greenlets = {name: [] for name in names}
    for name, _, calls in answers:
        greenlets[name].append(int(calls))
    for calls in greenlets.values():
        assert sorted(calls) == list(range(1, len(calls) + 1)), "what a greenlet keeps lasts"
    server.stop()


@pytest.mark.parametrize(("system", "refused"), [("linux", False), ("macos", True), ("windows", True)])
def test_other_systems_are_refused_in_one_sentence(tmp_path, system, refused):
    """What ends `pip install` there is the build script of the crate below all that ask the kernel."""
    if not shutil.which("rustc"):
        pytest.skip("rustc is not installed")
    source = TESTS.parent / "crates" / "portico-os" / "build.rs"
    script = tmp_path / "build-script"
    compiled = ["rustc", "--edition", "2024", "--crate-name", "build_script", "-o", str(script), str(source)]
    subprocess.run(compiled, check=True, timeout=60)
    environment = {"CARGO_CFG_TARGET_OS": system}
    ran = subprocess.run([script], check=True, env=environment, capture_output=True, text=True, timeout=10)
    errors = [line for line in ran.stdout.splitlines() if line.startswith("cargo::error=")]
    assert len(errors) == refused
    assert all("Portico runs on Linux only" in error and system in error for error in errors)
