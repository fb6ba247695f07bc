"""`portico maintenance`: the file that a route with `if_file` waits for, made and removed by a command."""

from __future__ import annotations

import os

import pytest

from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"

ONE = """
[[route]]
if_file = "MAINTENANCE"
respond = 503
page = "down.html"
headers = { Retry-After = "600" }
"""

SEVERAL = """
[[route]]
if_file = "state/MAINTENANCE"
respond = 503
[[route]]
path = "/shop"
if_file = "state/CLOSED"
respond = 503
[[route]]
path = "/shop"
methods = ["GET"]
if_file = "state/CLOSED"
redirect = "/closed"
"""


def maintenance(folder, *words):
    """What becomes of the command: exit status, and what it has printed."""
    ended = run_to_end("maintenance", *words, cwd=folder)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_site_goes_down_and_comes_back(serve, tmp_path):
    (tmp_path / "portico.toml").write_text(ONE)
    (tmp_path / "down.html").write_text("back soon")
    server = serve(ECHO, "--pythonpath", str(TESTS), "--workers", "2", cwd=tmp_path)
    assert server.request("GET", "/ping").status == 200
    file = tmp_path / "MAINTENANCE"
    told = f"on: {file} is there; while it is, / responds 503 (portico.toml:2)\n"
    assert maintenance(tmp_path, "on") == (0, told, "")
    assert file.is_file()

    def status():
        return {server.request("GET", "/ping").status for _ in range(8)}

    wait_until(lambda: status() == {503}, "maintenance in all workers")
    response = server.request("GET", "/ping")
    assert (response.body, response.get("Retry-After")) == (b"back soon", "600")
    assert maintenance(tmp_path, "on") == (0, f"Already so: {told}", "")
    assert maintenance(tmp_path, "status") == (0, told, "")
    off = f"off: {file} is not there; while it is, / responds 503 (portico.toml:2)\n"
    assert maintenance(tmp_path, "off") == (0, off, "")
    wait_until(lambda: status() == {200}, "its end in all workers")
    assert maintenance(tmp_path, "off") == (0, f"Already so: {off}", "")
    assert maintenance(tmp_path, "status") == (0, off, "")


def test_one_of_several_is_chosen(tmp_path):
    (tmp_path / "portico.toml").write_text(SEVERAL)
    (tmp_path / "state").mkdir()
    status, printed, told = maintenance(tmp_path, "on")
    assert (status, printed) == (1, "")
    assert told == (
        "portico: error: routes name several files with if_file; write portico maintenance on FILE with one "
        "of state/MAINTENANCE, state/CLOSED\n"
    )
    for name in ("CLOSED", "state/CLOSED", str(tmp_path / "state" / "CLOSED")):
        assert maintenance(tmp_path, "on", name)[0] == 0
        assert os.listdir(tmp_path / "state") == ["CLOSED"]
        assert maintenance(tmp_path, "off", name)[0] == 0
        assert os.listdir(tmp_path / "state") == []
    (tmp_path / "state" / "CLOSED").touch()
    status, printed, _ = maintenance(tmp_path, "status")
    lines = printed.splitlines()
    assert (status, len(lines)) == (0, 2)
    assert lines[0].startswith(f"off: {tmp_path}/state/MAINTENANCE is not there; ")
    assert lines[1].endswith(
        "while it is, /shop responds 503 (portico.toml:5), "
        "/shop, GET|HEAD redirects to /closed (portico.toml:9)"
    )
    status, _, told = maintenance(tmp_path, "off", "OTHER")
    assert status == 1
    assert told.endswith('no route has if_file = "OTHER"; there is state/MAINTENANCE, state/CLOSED\n')


def test_the_configuration_is_found_as_usual(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "other.toml").write_text("chdir = 'site'\n" + ONE)
    assert maintenance(tmp_path, "on", "-c", "other.toml")[0] == 0
    assert (tmp_path / "site" / "MAINTENANCE").is_file()
    assert maintenance(tmp_path, "off", "--config", "other.toml")[0] == 0
    status, _, told = maintenance(tmp_path, "on")
    assert (status, "no route has if_file" in told) == (1, True)


@pytest.mark.parametrize("words", [[], ["--on"], ["on", "x", "extra:app", "more:app"]])
def test_what_does_not_fit_is_told(tmp_path, words):
    (tmp_path / "portico.toml").write_text(ONE)
    status, _, told = maintenance(tmp_path, *words)
    assert status != 0
    assert told.startswith("portico: error: ")


def test_what_cannot_be_made_or_removed_is_told(tmp_path):
    (tmp_path / "portico.toml").write_text(ONE.replace("MAINTENANCE", "none/MAINTENANCE"))
    status, _, told = maintenance(tmp_path, "on")
    assert status == 1
    assert told.startswith(f"portico: error: {tmp_path}/none/MAINTENANCE: No such file")
    # A link is neither followed nor replaced.
    (tmp_path / "portico.toml").write_text(ONE)
    (tmp_path / "MAINTENANCE").symlink_to(tmp_path / "elsewhere")
    status, _, told = maintenance(tmp_path, "on")
    assert (status, "File exists" in told) == (1, True)
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "MAINTENANCE").unlink()
    (tmp_path / "MAINTENANCE").mkdir()
    status, _, told = maintenance(tmp_path, "off")
    assert (status, (tmp_path / "MAINTENANCE").is_dir()) == (1, True)
