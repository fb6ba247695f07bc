"""`portico.serve`: keyword arguments that are not text, what it raises, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

import portico
from harness.sources import program


def application(environ, start_response):
    raise AssertionError("nothing is served here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"socket_mode": 0o1777}, 'socket_mode: "1777" is not a file mode'),
        ({"threads": True}, 'threads: "true" is not a whole number'),
        ({"keepalive": 5}, "did you mean keep_alive?"),
        ({"bind": ["127.0.0.1:http"]}, 'bind: "127.0.0.1:http"'),
    ],
)
def test_wrong_setting_raises_a_value_error_naming_it(settings, message):
    with pytest.raises(ValueError, match=r".*") as raised:
        portico.serve(application, **settings)
    assert message in str(raised.value)


def test_numbers_are_read_as_python_means_them(capfd):
    # `check_config` resolves everything and opens nothing.
    portico.serve(
        application, socket_mode=0o660, threads=2, sendfile=False, keep_alive=1.5, check_config=True
    )
    assert "The configuration is good" in capfd.readouterr().err


def test_it_serves_and_stops_twice_in_one_process():
    ended = subprocess.run(program("serve_twice"), check=False, capture_output=True, text=True, timeout=30)
    assert (ended.stdout, ended.returncode) == ("returned\n" * 2, 0), ended.stderr


def test_failed_import_causes_the_import_error(tmp_path, monkeypatch):
    (tmp_path / "raises.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(ImportError, match="importing raises failed") as raised:
        portico.serve("raises", check_config=True)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
