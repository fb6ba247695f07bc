"""The folder that the server is started in is followed by its name: `current -> r1`, then `current -> r2`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from harness.process import Process, read_or_empty
from harness.rendezvous import wait_until
from harness.server import run_to_end

APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{release}"]
"""

# The command, which does not put the current folder first on sys.path as `python -m` does.
PORTICO = [str(Path(sys.executable).with_name("portico"))]


class Releases:
    """Folders of releases, and the link to the one that is served."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        for release in ("r1", "r2"):
            (root / release).mkdir()
            (root / release / "app.py").write_text(APP.format(release=release))

    def link(self, release: str) -> None:
        """Has the link lead to this release, as deployments do: at once."""
        new = self.root / "new"
        new.symlink_to(release)
        new.rename(self.current)


@pytest.fixture
def releases(tmp_path):
    """Two releases, of which the first is served."""
    releases = Releases(tmp_path)
    releases.link("r1")
    return releases


def start(serve, releases: Releases, *options: str, **settings):
    """Starts the server as a shell does that stands in the link."""
    environment = {"PWD": str(releases.current)} | settings.pop("environment", {})
    return serve("app", *options, cwd=releases.current, environment=environment, program=PORTICO, **settings)


def body(server) -> bytes:
    """What is served."""
    return server.request("GET", "/").body


def replace(server, *, by: signal.Signals = signal.SIGKILL) -> None:
    """Has the one worker replaced by a new one."""
    [worker] = server.wait_workers(1)
    worker.signal(by)
    wait_until(lambda: not worker.alive, "the worker to end")
    server.wait_workers(1)


def reload(server) -> None:
    """SIGHUP, until the new worker serves."""
    before = server.wait_workers(1)
    server.signal(signal.SIGHUP)
    server.wait_replaced(before)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_reload_serves_what_the_link_leads_to(serve, releases, preload):
    server = start(serve, releases, *preload)
    assert body(server) == b"r1"
    releases.link("r2")
    reload(server)
    assert body(server) == b"r2"
    shutil.rmtree(releases.root / "r1")
    server.expected.append(re.compile("SIGKILL"))
    replace(server)
    assert body(server) == b"r2"


def test_new_worker_boots_although_the_release_is_gone(serve, releases):
    server = start(serve, releases)
    releases.link("r2")
    shutil.rmtree(releases.root / "r1")
    replace(server, by=signal.SIGTERM)
    assert body(server) == b"r2"
    assert server.find_records("current is another folder than before")


def test_dead_template_is_replaced_from_the_current_release(serve, releases):
    server = start(serve, releases, "--preload")
    releases.link("r2")
    shutil.rmtree(releases.root / "r1")
    worker = server.wait_workers(1)[0].pid
    [template] = [child for child in server.supervisor.children() if child.pid != worker]
    template.kill()
    server.expect_log("the template .* died")
    server.expect_log("Worker \\d+ serves|Booting template", count=2)
    server.expected.append(re.compile("SIGKILL"))
    replace(server)
    assert body(server) == b"r2"


def test_an_upgrade_starts_where_the_link_leads_to(serve, releases, tmp_path):
    pidfile = tmp_path / "pid"
    server = start(serve, releases, "--pid", str(pidfile))
    releases.link("r2")
    server.signal(signal.SIGUSR2)
    wait_until(lambda: server.process.poll() is not None, "the old one to end", 20)
    wait_until(lambda: read_or_empty(pidfile) not in ("", f"{server.pid}\n"), "the new one's pid file")
    new = Process(int(pidfile.read_text()))
    try:
        assert body(server) == b"r2"
        assert Path(f"/proc/{new.pid}/cwd").resolve() == releases.root / "r2"
    finally:
        new.signal(signal.SIGTERM)
        wait_until(lambda: not new.alive, "the new one to end")


def test_relative_paths_are_found_below_the_new_release(serve, releases):
    for release in ("r1", "r2"):
        folder = releases.root / release / "site"
        folder.mkdir()
        (folder / "shop.py").write_text(APP.format(release=f"shop of {release}"))
        (releases.root / release / "gunicorn.conf.py").write_text(
            f"chdir = 'site'\nthreads = {release[1]}\nwsgi_app = 'shop'\n"
        )
    server = serve(None, cwd=releases.current, environment={"PWD": str(releases.current)}, program=PORTICO)
    assert body(server) == b"shop of r1"
    releases.link("r2")
    reload(server)
    assert body(server) == b"shop of r2"
    shutil.rmtree(releases.root / "r1")
    replace(server, by=signal.SIGTERM)
    assert body(server) == b"shop of r2"


def test_folder_without_a_name_is_still_used(serve, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "app.py").write_text(APP.format(release="as it was"))
    server = serve("app", cwd=folder, environment={"PWD": str(folder)}, program=PORTICO)
    folder.rename(tmp_path / "elsewhere")
    replace(server, by=signal.SIGTERM)
    assert body(server) == b"as it was"
    server.expect_log("site cannot be entered any more")
    reload(server)
    assert body(server) == b"as it was"


def test_a_pwd_of_another_folder_counts_for_nothing(serve, releases):
    server = start(serve, releases, environment={"PWD": str(releases.root / "r2")})
    replace(server, by=signal.SIGTERM)
    assert body(server) == b"r1"


def test_a_hook_that_goes_elsewhere_is_left_there(serve, releases):
    (releases.root / "r1" / "gunicorn.conf.py").write_text(
        "import os\ndef when_ready(server):\n    os.chdir('/')\n"
    )
    server = start(serve, releases)
    [worker] = server.wait_workers(1)
    assert os.readlink(f"/proc/{worker.pid}/cwd") == "/"


def test_configuration_that_changes_folder_leaves_the_server_there(serve, releases):
    """As under gunicorn, which goes back to where it was started."""
    (releases.root / "r1" / "gunicorn.conf.py").write_text("import os\nos.chdir('/')\n")
    server = start(serve, releases)
    assert body(server) == b"r1"
    [worker] = server.wait_workers(1)
    assert Path(f"/proc/{worker.pid}/cwd").resolve() == releases.root / "r1"


def test_a_reload_that_fails_stays_where_it_was(serve, releases):
    server = start(serve, releases)
    (releases.root / "r2" / "gunicorn.conf.py").write_text("1 / 0\n")
    releases.link("r2")
    server.signal(signal.SIGHUP)
    server.expect_log("reload failed")
    assert Path(f"/proc/{server.pid}/cwd").resolve() == releases.root / "r1"
    assert body(server) == b"r1"


def test_check_and_print_work_in_a_link(releases):
    ended = run_to_end("check", "app", cwd=releases.current, environment={"PWD": str(releases.current)})
    assert ended.returncode == 0, ended.stderr
