"""Root's supervisor with workers of another user: nothing that this user can do makes it root.

The other user is nobody, who owns the application's folder; what nobody would do the test does in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.another_user import OPENED_UP, ROOT, ROOTS
from harness.certificates import Authority
from harness.folders import Folders
from harness.process import Process, read_or_empty
from harness.rendezvous import wait_until
from harness.scoreboard import PID, SUPERVISOR_PID, Scoreboard
from harness.server import TESTS, run_to_end
from harness.sources import program, source

pytestmark = ROOT

NOBODY = pwd.getpwnam("nobody")

APP = source("privileges_app")

# What a module, a configuration file or a hook of nobody's does, wherever it is run: it says as whom.
WITNESS = """
import os as _os
_fd = _os.open({witness!r}, _os.O_WRONLY | _os.O_APPEND)
_os.write(_fd, ({name!r} + f" {{_os.geteuid()}}\\n").encode())
_os.close(_fd)
"""

# The command, which has its own folder first on sys.path; `python -m` has the current one.
PORTICO = [str(Path(sys.executable).with_name("portico"))]


class Site:
    """A folder of nobody's with an application, in one that root alone can change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "site"
        self.folder.mkdir()
        self.witness = root / "witness"
        self.witness.touch()
        self.witness.chmod(0o666)
        self.write("app.py", APP)
        os.chown(self.folder, NOBODY.pw_uid, NOBODY.pw_gid)

    def write(self, name: str, text: str, uid: int = NOBODY.pw_uid) -> Path:
        """Writes a file of nobody's, or of another user's."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        os.chown(path, uid, -1)
        return path

    def plant(self, name: str, more: str = "") -> Path:
        """A file of nobody's that tells as whom it is run."""
        return self.write(name, WITNESS.format(witness=str(self.witness), name=name) + more)

    def run_as(self) -> set[int]:
        """As whom such files have been run."""
        return {int(line.split()[-1]) for line in self.witness.read_text().splitlines()}

    def victim(self) -> Path:
        """A file of root's that nobody may not touch."""
        path = self.root / "victim"
        path.write_text("root's\n")
        path.chmod(0o600)
        return path


def is_untouched(victim: Path) -> bool:
    """Whether it is as it was made."""
    found = victim.stat()
    return (victim.read_text(), found.st_uid, stat.S_IMODE(found.st_mode)) == ("root's\n", 0, 0o600)


@pytest.fixture
def site(folders: Folders) -> Site:
    """The application's folder, in one that root alone can change."""
    return Site(folders.make(ROOTS))


@pytest.fixture
def start(serve, site):
    """Starts a server with nobody's workers in their folder."""

    def started(*options: str, application: str | None = "app", **settings):
        settings = {"cwd": site.folder, "prefix": OPENED_UP, "program": PORTICO} | settings
        return serve(application, "--user", "nobody", *options, **settings)

    return started


def reload(server) -> None:
    """HUP, to its end; there is one worker."""
    workers = server.wait_workers(1)
    server.signal(signal.SIGHUP)
    server.wait_replaced(workers)


@contextlib.contextmanager
def upgraded(server, pidfile: Path):
    """USR2, to its end; the new one is stopped."""
    server.signal(signal.SIGUSR2)
    wait_until(lambda: server.process.poll() is not None, "the old one to end", 20)
    wait_until(lambda: read_or_empty(pidfile) not in ("", f"{server.pid}\n"), "the new one's pid file")
    new = Process(int(pidfile.read_text()))
    try:
        yield
    finally:
        new.signal(signal.SIGTERM)
        wait_until(lambda: not new.alive, "the new one to end", 20)


def answers_as(server) -> int:
    """As whom the application runs."""
    return json.loads(server.request().body)["uid"]


# (a) Imports

AUDIT = source("audit_site")


class Audit:
    """What processes of root's import and open, by the audit events of Python."""

    def __init__(self, root: Path) -> None:
        self.hooks = root / "hooks"
        self.hooks.mkdir()
        (self.hooks / "sitecustomize.py").write_text(AUDIT)
        self.log = root / "audit"
        self.log.touch()
        self.path = os.pathsep.join([str(self.hooks), str(TESTS)])

    @property
    def environment(self) -> dict[str, str]:
        """Has a server audited."""
        return {"PYTHONPATH": self.path, "TEST_AUDIT": str(self.log)}

    def events(self) -> list[str]:
        """Those since the extension module has been there: before, it is Python that imports."""
        lines = self.log.read_text().splitlines()
        begun = next(number for number, line in enumerate(lines) if " import portico._portico " in line)
        return lines[begun + 1 :]


# Names that the server or Python looked for as root, when nobody's folder came first; and more that it might.
PLANTED = ["ast", "base64", "code", "copy", "grp", "inspect", "json", "linecache", "logging", "pwd", "random"]
PLANTED += ["setproctitle", "socket", "string", "tokenize"]


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_root_imports_nothing_of_nobodys_and_nothing_later(start, site, options):
    audit = Audit(site.root)
    audit.path += os.pathsep + str(site.folder)  # Named there too, it comes before Python's own.
    for name in PLANTED:
        site.plant(f"{name}.py", f"raise ImportError('planted {name}')\n")
    server = start("--name", "shop", *options, environment=audit.environment)
    server.wait_workers(1)
    assert server.expect_log("root imports nothing from .*/site any more")
    assert not [event for event in audit.events() if str(site.folder) in event]
    # From now on nothing is imported, whatever happens.
    served = len(audit.events())
    reload(server)
    server.signal(signal.SIGUSR1)
    (worker,) = server.wait_workers(1)
    worker.kill()
    server.expect_log("SIGKILL")
    reload(server)
    site.write("app.py", "1 / 0\n")
    server.signal(signal.SIGHUP)
    server.expect_log("ZeroDivisionError")
    server.expect_log("the old code keeps serving")
    site.plant("gunicorn.conf.py")
    server.signal(signal.SIGHUP)
    server.expect_log("reload failed.*root does not read it")
    (site.folder / "gunicorn.conf.py").unlink()
    site.write("app.py", APP)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    after = audit.events()[served:]
    assert not [event for event in after if " import " in event], after
    assert not [event for event in after if str(site.folder) in event], after
    assert site.run_as() <= {NOBODY.pw_uid}
    assert answers_as(server) == NOBODY.pw_uid


def test_unprivileged_supervisor_leaves_the_folder_off_its_path(serve, site):
    audit = Audit(site.root)
    server = serve("app", cwd=site.folder, environment=audit.environment)
    own = lambda: [event for event in audit.events() if event.startswith(f"{server.pid} ")]  # noqa: E731
    served = len(own())
    assert served, "the test sees what it says"
    reload(server)
    server.signal(signal.SIGUSR1)
    server.wait_workers(1)[0].kill()
    server.expect_log("SIGKILL")
    reload(server)
    assert not [event for event in own()[served:] if " import " in event]
    assert not [event for event in own() if str(site.folder) in event]


def test_the_application_has_the_path_that_it_had(start, site):
    site.write(
        "app.py",
        """
        import json, sys
        def application(environ, start_response):
            body = json.dumps(sys.path).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        """,
    )
    (site.folder / "more").mkdir()
    options = ("--pythonpath", "more,/elsewhere")
    environment = {"PYTHONPATH": f"{site.folder}/first:{TESTS}:{site.folder}/last"}
    paths = []
    for user, served_by in [("root", PORTICO), ("nobody", PORTICO), ("root", None), ("nobody", None)]:
        settings = {"program": served_by} if served_by else {"program": [sys.executable, "-m", "portico"]}
        server = start("--user", user, *options, environment=environment, **settings)
        paths.append(json.loads(server.request().body))
        server.stop()
    assert paths[0] == paths[1] and paths[2] == paths[3]
    assert paths[0][:3] == [f"{site.folder}/more", "/elsewhere", str(site.folder)]


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="before Python 3.11 nothing has python -m leave it out"
)
def test_upgrade_of_python_m_ignores_nobodys_folder(start, site):
    server = start("--pid", str(site.root / "pid"), program=[sys.executable, "-m", "portico"])
    server.expect_log("python -m portico looks for .* in .*/site first, as root.*python -P -m portico")
    for name in ("portico", "runpy", "pkgutil", "sysconfig"):
        site.plant(f"{name}.py", "raise ImportError\n")
    with upgraded(server, site.root / "pid"):
        assert answers_as(server) == NOBODY.pw_uid
        assert site.run_as() == set(), "not by the workers either, which have what they need"
        assert len(server.find_records("python -m portico looks for")) == 1, "the new one does not"


def test_a_check_imports_the_application_as_its_user(site):
    site.plant("app.py", APP)
    # Imported as root, for the logger's class.
    for name in ("inspect", "logging"):
        site.plant(f"{name}.py", f"raise ImportError('planted {name}')\n")
    options = ("--user", "nobody", "--logger-class", "portico.compat.gunicorn.glogging.Logger", "app")
    settings = {"cwd": site.folder, "program": [*OPENED_UP, *PORTICO]}
    for command in (("check",), ("--check-config",)):
        ended = run_to_end(*command, *options, environment={"PYTHONPATH": str(site.folder)}, **settings)
        assert ended.returncode == 0, ended
    assert site.witness.read_text().split() == ["app.py", str(NOBODY.pw_uid)] * 2


# (b) Configuration

TOML = "threads = 2\n"


def plant_configuration(site: Site, name: str) -> None:
    """Puts a configuration file into nobody's folder."""
    match name:
        case "gunicorn.conf.py":
            site.plant(name)
        case "portico.toml":
            site.write(name, TOML)
        case "pyproject.toml":
            site.write(name, f"[tool.portico]\n{TOML}")
        case "root's, linked":
            (site.folder / "gunicorn.conf.py").symlink_to(site.plant("../mine.py"))
            os.chown(site.root / "mine.py", 0, 0)


CONFIGURATIONS = ["gunicorn.conf.py", "portico.toml", "pyproject.toml", "root's, linked"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration_from_nobody_is_ignored_at_a_reload(start, site, name):
    server = start("--threads", "3")
    (worker,) = server.wait_workers(1)
    plant_configuration(site, name)
    server.signal(signal.SIGHUP)
    record = server.expect_log("reload failed; the old configuration and code keep serving")
    assert f"since {site.folder} belongs to user {NOBODY.pw_uid}" in record
    assert "chown root" in record and "--config" in record, "it says what to do"
    assert server.wait_workers(1) == [worker] and site.run_as() == set()
    for path in site.folder.glob("*.[tc]o*"):
        path.unlink()
    for path in site.folder.glob("gunicorn*"):
        path.unlink()
    # A project's file has nothing to do with the server.
    site.write("pyproject.toml", "[project]\nname = 'shop'\n")
    reload(server)
    # Where the checkout itself can be written by others, that is told.
    warnings = [
        record for record in server.find_records("WARNING") if "root imports nothing from" not in record
    ]
    assert not warnings, server.log_text


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nor_at_the_start(site, name):
    plant_configuration(site, name)
    started = {"cwd": site.folder, "program": [*OPENED_UP, *PORTICO]}
    for options, environment in ((("-u", "nobody"), {}), ((), {"PORTICO_USER": str(NOBODY.pw_uid)})):
        ended = run_to_end(*options, "-b", "127.0.0.1:0", "app", environment=environment, **started)
        assert ended.returncode == 1
        assert f"root does not read it for a server of --user, since {site.folder}" in ended.stderr, ended
    assert site.run_as() == set()


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "portico.toml"])
def test_file_naming_the_user_must_belong_to_root(site, name):
    site.write(name, "user = 'nobody'\n")
    ended = run_to_end("-b", "127.0.0.1:0", "app", cwd=site.folder, program=[*OPENED_UP, *PORTICO])
    assert ended.returncode == 1
    assert "root does not read it for a server of --user" in ended.stderr, ended


def test_what_root_alone_can_write_is_read(start, site):
    folder = site.root / "etc"
    folder.mkdir()
    (folder / "sizes.py").write_text("THREADS = 2\n")
    (folder / "gunicorn.conf.py").write_text(
        "from sizes import THREADS\nimport os\nthreads = THREADS\n"
        "def when_ready(server):\n    server.log.warning('ready as %d', os.geteuid())\n"
    )
    (folder / "portico.toml").write_text("threads = 2\n")
    server = start("--chdir", str(site.folder), cwd=folder)
    server.expect_log("gunicorn.conf.py is the configuration file, and portico.toml counts for nothing")
    server.expect_log("ready as 0")
    server.expect_log("with 2 threads")
    reload(server)
    (folder / "gunicorn.conf.py").unlink()
    (site.root / "link").symlink_to(folder / "portico.toml")
    server = start("-c", "link", cwd=site.root, application=f"{site.folder}/app.py")
    server.expect_log("with 2 threads")
    assert answers_as(server) == NOBODY.pw_uid


def test_roots_file_with_a_user_imports_only_roots(serve, site):
    conf = site.root / "gunicorn.conf.py"
    conf.write_text("import colorsys\nuser = 'nobody'\n")
    site.plant("colorsys.py")
    settings = {"cwd": site.folder, "prefix": OPENED_UP, "program": PORTICO}
    server = serve("app", "-c", str(conf), **settings)
    assert answers_as(server) == NOBODY.pw_uid and site.run_as() == set()
    # Where that is not seen before it is run, it is refused then.
    conf.write_text("import colorsys\nglobals()['user'] = 'nobody'\n")
    program = [*OPENED_UP, *PORTICO]
    ended = run_to_end("-c", str(conf), "-b", "127.0.0.1:0", "app", cwd=site.folder, program=program)
    assert ended.returncode == 1 and "say --user on the command line" in ended.stderr, ended
    conf.write_text("import not_to_be_found\n")
    ended = run_to_end("-u", "nobody", "-c", str(conf), "app", cwd=site.folder, program=program)
    assert f"Root imports nothing from {site.folder}, since" in ended.stderr, ended


@pytest.mark.parametrize("option", ["--log-config", "--log-config-json"])
def test_a_configuration_of_logging_is_code_as_well(site, option):
    path = site.write("logging.cfg", "")
    options = ("-u", "nobody", option, "logging.cfg", "-b", "127.0.0.1:0", "app")
    ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO])
    assert ended.returncode == 1, ended
    assert f"{option}: logging.cfg: root does not read it" in ended.stderr and "leave it out" in ended.stderr
    assert path.exists()


def test_read_only_volume_counts_as_roots(start, site):
    """As Kubernetes mounts a ConfigMap: its folder is everybody's by its mode, and nobody can write there."""
    volume = site.root / "volume"
    volume.mkdir()
    (volume / "portico.toml").write_text("threads = 2\n")
    volume.chmod(0o777)
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    mounted = (*OPENED_UP, "bash", "-c", mount, str(volume))
    server = start("-c", str(volume / "portico.toml"), prefix=mounted)
    server.expect_log("with 2 threads")
    options = ("-u", "nobody", "-c", str(volume / "portico.toml"), "app")
    ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO])
    assert ended.returncode == 1 and "volume can be written by everybody" in ended.stderr, ended


def test_root_serving_as_root_reads_any_file(serve, site):
    """As in many containers: there is nobody to be protected from."""
    site.write("sizes.py", "THREADS = 2\n")
    site.write("gunicorn.conf.py", "from sizes import THREADS\nthreads = THREADS\n")
    server = serve("app", cwd=site.folder, program=PORTICO)
    server.expect_log("with 2 threads")
    assert answers_as(server) == 0
    reload(server)
    assert not server.find_records("WARNING|root"), server.log_text


# (c) Logs


@pytest.fixture
def logs(site):
    """A folder of nobody's for logs, as /var/log/app often is."""
    folder = site.root / "logs"
    folder.mkdir()
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    return folder


def start_logging(start, logs: Path, *options: str, **settings):
    """A server that logs there."""
    options = ("--access-logfile", str(logs / "access"), *options)
    return start(*options, error_log=logs / "error", **settings)


def rotate(logs: Path) -> None:
    """As nobody may do as well: moves the logs away."""
    for name in ("access", "error"):
        (logs / name).rename(logs / f"{name}.1")


def is_nobodys(path: Path) -> bool:
    """Whether it is there and has been given to nobody."""
    return path.exists() and owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid)


def refusals(log: Path) -> int:
    """How many files have been refused, as the log says."""
    return log.read_text().count("again failed: root does not write it")


def owner(path: Path) -> tuple[int, int]:
    """Its user and its group."""
    return path.stat().st_uid, path.stat().st_gid


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_reopened_logs_follow_no_link_and_give_nothing(start, site, logs, options):
    server = start_logging(start, logs, *options)
    server.wait_workers(1)
    assert {owner(logs / name) for name in ("access", "error")} == {(NOBODY.pw_uid, NOBODY.pw_gid)}
    victim = site.victim()
    for count, put in enumerate((os.symlink, os.link), 1):
        rotate(logs)
        for name in ("access", "error"):
            put(victim, logs / name)
        server.signal(signal.SIGUSR1)
        wait_until(lambda count=count: refusals(logs / "error.1") == 2 * count, "both to be refused")
        assert server.request().status == 200
        wait_until(lambda: "GET / " in read_or_empty(logs / "access.1"), "a line in the former log")
        assert is_untouched(victim)
        for name in ("access", "error"):
            (logs / name).unlink()
            (logs / f"{name}.1").rename(logs / name)
    rotate(logs)
    # What was made meanwhile stays whose it is.
    (logs / "access").touch()
    server.signal(signal.SIGUSR1)
    wait_until(lambda: is_nobodys(logs / "error"), "the new log")
    # The worker has the new access log at another moment.
    wait_until(
        lambda: server.request().status == 200 and "GET / " in read_or_empty(logs / "access"),
        "a line in the new log",
    )
    assert owner(logs / "access") == (0, 0)
    reload(server)
    assert server.request().status == 200
    server.signal(signal.SIGUSR1)
    (worker,) = server.wait_workers(1)
    worker.signal(signal.SIGTERM)
    wait_until(
        lambda: f"[{worker.pid}] [INFO] Handling signal: term" in (logs / "error").read_text(), "its line"
    )
    assert "refused" not in (logs / "error").read_text()


def test_workers_write_to_logs_they_could_not_open(start, site):
    """They have them from the supervisor, at the start and when they are opened again."""
    logs = site.root / "roots-logs"
    logs.mkdir(mode=0o700)
    for name in ("access", "error"):
        (logs / name).touch(mode=0o600)
    server = start_logging(start, logs)
    for number in range(2):
        (worker,) = server.wait_workers(1)
        assert server.request("GET", f"/{number}").status == 200
        line = f"GET /{number} "
        wait_until(lambda line=line: line in read_or_empty(logs / "access"), "a line in the log")
        worker.signal(signal.SIGUSR2)
        told = f"[{worker.pid}] [INFO] Stacks of all threads"
        wait_until(lambda told=told: told in (logs / "error").read_text(), "its stacks")
        rotate(logs)
        server.signal(signal.SIGUSR1)
        wait_until((logs / "access").exists, "the new log")
    assert "ERROR" not in (logs / "error.1").read_text()


@pytest.mark.parametrize("name", ["access", "error"])
def test_pipe_in_place_of_a_log_delays_nobody(start, site, logs, name):
    server = start_logging(start, logs)
    (logs / name).rename(logs / f"{name}.1")
    os.mkfifo(logs / name)
    os.chown(logs / name, NOBODY.pw_uid, -1)
    told = logs / ("error.1" if name == "error" else "error")
    server.expected.append(re.compile("again failed"))
    server.signal(signal.SIGUSR1)
    wait_until(
        lambda: f"{name} log {logs / name} again failed: it is a pipe that" in told.read_text(), "the one"
    )
    assert server.request().status == 200
    # It could be opened, and take no more than a pipe holds.
    reader = os.open(logs / name, os.O_RDWR)
    server.signal(signal.SIGUSR1)
    wait_until(lambda: "root does not write it: it is a pipe, and" in told.read_text(), "the other")
    assert server.request().status == 200
    os.close(reader)
    (logs / name).unlink()
    server.signal(signal.SIGUSR1)
    wait_until((logs / name).exists, "the new log")
    server.stop()
    for target in (logs, site.root):
        path = target / "pipe"
        os.mkfifo(path)
        option = "--error-logfile" if name == "error" else "--access-logfile"
        options = ("-u", "nobody", option, str(path), "-b", "127.0.0.1:0", "app")
        ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO])
        assert ended.returncode == 1, ended
        assert re.search(
            rf"opening the {name} log {path} failed: it is a pipe that nobody reads", ended.stderr
        )


def test_handlers_files_are_opened_like_the_servers(start, site, logs):
    config = site.root / "logging.json"
    handler = {"class": "logging.FileHandler", "filename": str(logs / "python")}
    loggers = {
        name: {"handlers": ["file"], "level": "INFO"} for name in ("gunicorn.error", "gunicorn.access")
    }
    settings = {"version": 1, "handlers": {"file": handler}, "root": {"handlers": []}, "loggers": loggers}
    config.write_text(json.dumps(settings))
    server = start(
        "--log-config-json", str(config), bind=f"unix:{site.root}/socket", error_log=logs / "python"
    )
    assert owner(logs / "python") == (NOBODY.pw_uid, NOBODY.pw_gid)
    victim = site.victim()
    (logs / "python").rename(logs / "python.1")
    (logs / "python").symlink_to(victim)
    server.signal(signal.SIGUSR1)
    wait_until(lambda: "opening a log file again failed" in (logs / "python.1").read_text(), "the refusal")
    assert is_untouched(victim)
    (logs / "python").unlink()
    server.signal(signal.SIGUSR1)
    wait_until(lambda: is_nobodys(logs / "python"), "the new log")
    reload(server)
    assert "Booting worker" in (logs / "python").read_text()
    assert is_untouched(victim)


# (d) UNIX sockets


def test_replaced_socket_file_is_not_given_away(start, site):
    path = site.folder / "socket"
    server = start("--socket-mode", "660", "--pid", str(site.root / "pid"), bind=f"unix:{path}")
    assert owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid) and stat.S_IMODE(path.stat().st_mode) == 0o660
    victim = site.victim()
    moved = path.rename(site.folder / "moved")
    for count, put in enumerate((os.symlink, os.link), 1):
        put(victim, path)
        server.signal(signal.SIGUSR2)
        server.expect_log("cannot listen on .*something else is at the path of the socket", count, 20)
        server.expect_log("upgrade failed", count, 20)
        reload(server)
        server.expect_log("cannot be given to the workers' user: something else", count)
        assert is_untouched(victim)
        path.unlink()
    moved.rename(path)
    with upgraded(server, site.root / "pid"):
        assert answers_as(server) == NOBODY.pw_uid
        assert owner(path) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert not path.exists()


# (e) The pid file


def test_pid_file_is_written_under_no_predictable_name(start, site):
    conf = site.root / "portico.toml"
    conf.write_text("")
    server = start("-c", str(conf))
    server.wait_workers(1)
    victim = site.victim()
    # By a reload the supervisor writes into a folder of nobody's, who knows its process id.
    for name in (f"shop.pid.{server.pid}", "shop.pid", "shop.pid.tmp"):
        (site.folder / name).symlink_to(victim)
    conf.write_text(f'pidfile = "{site.folder}/shop.pid"\n')
    reload(server)
    path = site.folder / "shop.pid"
    assert not path.is_symlink() and path.read_text() == f"{server.pid}\n"
    assert is_untouched(victim)
    # Nor does it leave the folder by a link.
    (site.folder / "run").symlink_to(site.root)
    conf.write_text(f'pidfile = "{site.folder}/run/shop.pid"\n')
    server.signal(signal.SIGHUP)
    server.expect_log("reload failed.*a symbolic link is on its path")
    assert not (site.root / "shop.pid").exists()
    server.stop()
    assert not path.exists() and is_untouched(victim)


# (f) Stacks


@contextlib.contextmanager
def file_of_roots(path: Path):
    """A file of root's at this path."""
    path.write_text("root's\n")
    path.chmod(0o644)
    try:
        yield path
    finally:
        path.unlink()


# In a namespace of mounts every user can have any file under any name; here the test has put it there.
LURE = """
import os, time
os.dup2(os.open({name!r}, os.O_RDONLY), 0)  # The lowest number is looked at first.
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_stacks_are_read_and_emptied_in_reserved_room(start, site, preload):
    with file_of_roots(Path("/memfd:portico-stacks-0 (deleted)")) as lure:
        text = LURE.format(name=str(lure))
        site.write("app.py", text + APP)
        site.write("hangs.py", text + "while True: time.sleep(0.05)\n")
        server = start(*preload)
        (worker,) = server.wait_workers(1)
        assert os.readlink(worker.folder / "fd" / "0") == str(lure), "the test does what it says"
        worker.signal(signal.SIGSTOP)  # Its faulthandler is asked, for it does not tell by itself.
        stacks(server.pid, site)
        worker.signal(signal.SIGCONT)
        assert lure.read_text() == "root's\n"
        ended = stacks(server.pid, site)
        assert ended.returncode == 0 and "MainThread" in ended.stdout, ended
        # The supervisor asks by itself.
        options = ("-u", "nobody", *preload, "--boot-timeout", "2", "-b", "127.0.0.1:0", "hangs")
        ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO])
        assert re.search("Stacks of the (worker in slot 0|template)", ended.stderr), ended
        assert 'hangs.py", line' in ended.stderr, ended
        assert lure.read_text() == "root's\n"


def stacks(pid: int, site: Site) -> subprocess.CompletedProcess[str]:
    """`portico stacks`, by root."""
    return run_to_end("stacks", str(pid), cwd=site.root, program=PORTICO)


def test_forged_scoreboard_sends_signals_to_nobody_else(start, site):
    """As `portico stacks` and `portico reload` would, which root calls."""
    numbers = [str(int(number)) for number in (signal.SIGRTMIN + 6, signal.SIGHUP, signal.SIGUSR2)]
    victim = subprocess.Popen([*program("ends_at_signals"), *numbers], stdout=subprocess.PIPE)
    try:
        assert victim.stdout.readline() == b"ready\n"
        server = start()
        worker = server.worker
        pid_of_slot = Scoreboard(server.pid).slots_from + PID
        write_word(worker.pid, pid_of_slot, victim.pid)
        worker.signal(signal.SIGSTOP)
        ended = stacks(server.pid, site)
        assert ended.returncode == 1 and "Its stacks could not be had" in ended.stdout, ended
        worker.signal(signal.SIGCONT)
        write_word(worker.pid, pid_of_slot, worker.pid)
        for of_worker in (False, True):
            write_word(server.worker.pid, SUPERVISOR_PID, victim.pid)
            pid = server.worker.pid if of_worker else server.pid
            ended = run_to_end("reload", str(pid), cwd=site.root, program=PORTICO)
            assert (ended.returncode, ended.stdout) == (0, "Reloaded\n"), ended
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.communicate()


def write_word(pid: int, index: int, value: int) -> None:
    """Writes a number of the scoreboard, as a worker may. Nothing of it stays open here."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        if "/memfd:portico-scoreboard" in os.readlink(path):
            break
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, value.to_bytes(8, "little"), 8 * index)
    os.close(descriptor)


# (g) Process ids

# What runs in each new process says that it is another one, to whoever listens, and goes no further.
IMPERSONATING = """
import os, socket, struct, time
VICTIM = {victim}
def pretend():
    for number in os.listdir("/proc/self/fd"):
        try:
            line = socket.socket(fileno=os.dup(int(number)))
            if line.type == socket.SOCK_SEQPACKET:
                line.send(b"s" + struct.pack("<I", VICTIM))
        except OSError:
            continue
    time.sleep(8)
os.register_at_fork(after_in_child=pretend)
"""


def test_reported_process_id_is_not_believed(site):
    victim = subprocess.Popen(["sleep", "60"])
    try:
        site.write("app.py", IMPERSONATING.format(victim=victim.pid) + APP)
        options = ("-u", "nobody", "--preload", "--boot-timeout", "2", "-b", "127.0.0.1:0", "app")
        ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO])
        assert ended.returncode != 0
        assert "is not ready after 2 s" in ended.stderr, ended
        assert f"pid: {victim.pid}" not in ended.stderr, ended
        assert victim.poll() is None, "it was killed in a worker's place"
    finally:
        victim.kill()
        victim.wait()


# Certificates and keys


def test_nobodys_key_is_read_only_if_private(start, site, tmp_path):
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("localhost")
    certificate, key = site.root / "cert.pem", site.folder / "key.pem"
    shutil.copy(pair.certificate, certificate)
    secret = site.root / "secret.pem"
    shutil.copy(pair.key, secret)
    secret.chmod(0o600)
    key.symlink_to(secret)
    options = ("--certfile", str(certificate), "--keyfile", str(key))
    ended = run_to_end(
        "-u", "nobody", *options, "-b", "127.0.0.1:0", "app", cwd=site.folder, program=[*OPENED_UP, *PORTICO]
    )
    assert ended.returncode == 1 and "root does not read it for --user" in ended.stderr, ended
    key.unlink()
    shutil.copy(pair.key, key)
    os.chown(key, NOBODY.pw_uid, -1)
    server = start(*options)
    key.unlink()
    key.symlink_to(secret)
    server.expect_log("root does not read it for --user.*the former certificates stay")


# What workers have and start


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_workers_have_nothing_open_that_is_roots(start, site, logs, options):
    more = ("--pid", str(site.root / "pid"), "--access-logfile", str(logs / "access"))
    server = start(*more, *options, error_log=logs / "error")
    server.wait_workers(1)
    for process in server.supervisor.children():
        targets = {os.readlink(link) for link in (process.folder / "fd").iterdir()}
        files = {target for target in targets if target.startswith("/") and not target.startswith("/memfd:")}
        assert files <= {"/dev/null", "/dev/urandom", str(logs / "access"), str(logs / "error")}, files
    assert str(site.root) in {os.readlink(link) for link in (server.supervisor.folder / "fd").iterdir()}


@pytest.mark.parametrize(
    ("options", "uid", "state"), [((), NOBODY.pw_uid, "1"), (("--allow-new-privileges",), 0, "0")]
)
def test_what_workers_start_stays_nobodys(start, site, options, uid, state):
    program = site.root / "whoami"
    shutil.copy(shutil.which("id"), program)
    program.chmod(0o4755)
    site.write(
        "app.py",
        f"""
        import subprocess
        def application(environ, start_response):
            body = subprocess.check_output([{str(program)!r}, "-u"])
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        """,
    )
    server = start("--preload", *options)
    (worker,) = server.wait_workers(1)
    assert int(server.request().body) == uid
    of_processes = {process.pid: no_new_privileges(process) for process in server.supervisor.children()}
    assert len(of_processes) == 2 and set(of_processes.values()) == {state}, "the template too"
    assert no_new_privileges(server.supervisor) == "0"
    del worker


def test_workers_of_the_same_user_keep_privileges(serve, site):
    server = serve("app", cwd=site.folder)
    assert no_new_privileges(server.wait_workers(1)[0]) == "0"


def no_new_privileges(process: Process) -> str:
    return re.search(r"NoNewPrivs:\t(\d)", (process.folder / "status").read_text())[1]


# The folder that the server was started in


def test_workers_follow_their_users_links_root_does_not(start, site):
    """`current -> r1` in nobody's folder, which nobody may have lead anywhere."""
    for release in ("r1", "r2"):
        site.write(f"{release}/app.py", APP.replace('"uid"', f'"release": "{release}", "uid"'))
        os.chown(site.folder / release, NOBODY.pw_uid, NOBODY.pw_gid)
    current = site.folder / "current"
    current.symlink_to("r1")
    server = start(cwd=current, environment={"PWD": str(current)})
    assert json.loads(server.request("GET", "/").body)["release"] == "r1"
    other = site.root / "other"
    other.mkdir()
    current.unlink()
    current.symlink_to("r2")
    reload(server)
    assert json.loads(server.request("GET", "/").body) | {"pid": 0} == {
        "release": "r2",
        "uid": NOBODY.pw_uid,
        "pid": 0,
    }
    assert Path(os.readlink(f"/proc/{server.pid}/cwd")) == site.folder / "r1"
    assert server.find_records("Root stays in .*/current as it was, since .* belongs to user")
    # Nor does it write what is relative into a folder of theirs to choose.
    current.unlink()
    current.symlink_to(other)
    (other / "app.py").write_text(APP)
    other.chmod(0o755)
    reload(server)
    assert (
        not list(other.glob("*.pid")) and Path(os.readlink(f"/proc/{server.pid}/cwd")) == site.folder / "r1"
    )


def test_root_follows_links_that_only_root_can_change(start, site):
    for release in ("r1", "r2"):
        folder = site.root / release
        folder.mkdir()
        (folder / "app.py").write_text(APP.replace('"uid"', f'"release": "{release}", "uid"'))
    current = site.root / "current"
    current.symlink_to("r1")
    server = start(cwd=current, environment={"PWD": str(current)})
    current.unlink()
    current.symlink_to("r2")
    reload(server)
    assert json.loads(server.request("GET", "/").body)["release"] == "r2"
    assert Path(os.readlink(f"/proc/{server.pid}/cwd")) == site.root / "r2"


@pytest.mark.parametrize("python_path", [False, True])
def test_root_imports_no_class_of_workers_of_theirs(site, python_path):
    site.plant("planted.py", "\nclass Worker:\n    pass\n")
    environment = {"PYTHONPATH": str(site.folder)} if python_path else {}
    options = ("--user", "nobody", "-k", "planted.Worker", "app")
    ended = run_to_end(*options, cwd=site.folder, program=[*OPENED_UP, *PORTICO], environment=environment)
    assert ended.returncode != 0 and "planted" in ended.stderr, ended.stderr
    assert site.run_as() == set()
