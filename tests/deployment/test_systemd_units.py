"""The ready-made units: systemd takes them, Portico takes their options, and their times fit its own."""

from __future__ import annotations

import re
import shlex
import subprocess

from harness.programs import installed
from harness.server import TESTS, run_to_end

UNITS = TESTS.parent / "deploy" / "systemd"
REFERENCE = TESTS.parent / "docs" / "reference" / "settings.md"


def unit(name: str) -> dict[str, str]:
    """Keys and values of a unit, which says each but once."""
    lines = [line for line in (UNITS / name).read_text().splitlines() if line and line[0] not in "#["]
    pairs = [line.split("=", 1) for line in lines]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def default_seconds(setting: str) -> float:
    """The default of a setting that is a time, from the reference."""
    section = REFERENCE.read_text().partition(f"### `--{setting}`")[2].partition("\n### ")[0]
    return float(re.search(r"^\* Default: `([\d.]+)`", section, re.MULTILINE)[1])


def test_the_options_of_the_service_are_taken(tmp_path):
    program, *options = shlex.split(unit("portico.service")["ExecStart"])
    assert program.endswith("/bin/portico")
    (tmp_path / "app.py").write_text("def app(environ, start_response): ...\n")
    ended = run_to_end(*options, "--check-config", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "app:app" in ended.stderr


def test_systemd_is_more_patient_than_portico():
    service = unit("portico.service")
    assert float(service["TimeoutStopSec"]) >= default_seconds("graceful-timeout") + 5
    assert float(service["TimeoutStartSec"]) > default_seconds("boot-timeout")


def test_systemd_takes_the_units(tmp_path):
    for path in UNITS.iterdir():
        text = path.read_text().replace("/srv/app/.venv/bin/portico", "/bin/true")
        (tmp_path / path.name).write_text(text)
    command = [installed("systemd-analyze"), "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # systemd 252 and older know no such type.
    complaints = [line for line in ended.stderr.splitlines() if "notify-reload" not in line]
    assert (ended.returncode, complaints) == (0, [])
