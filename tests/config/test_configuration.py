"""Settings from the environment, PORTICO_CMD_ARGS and the command line, and what is said to a wrong one."""

from __future__ import annotations

import re

import pytest

from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"


@pytest.mark.parametrize(
    ("environment", "options", "threads"),
    [
        ({}, [], 4),
        ({"PORTICO_THREADS": "2"}, [], 2),
        ({"PORTICO_THREADS": "2", "PORTICO_CMD_ARGS": "--threads 3"}, [], 3),
        ({"PORTICO_THREADS": "2", "PORTICO_CMD_ARGS": "--threads 3"}, ["--threads", "5"], 5),
        ({"PORTICO_THREADS": ""}, [], 4),
        ({}, ["--thr", "6"], 6),
        ({}, ["--threads=7"], 7),
    ],
)
def test_later_sources_count(serve, environment, options, threads):
    server = serve(ECHO, *options, environment=environment)
    assert f"{threads} threads" in server.log_text


def test_application_from_the_environment(serve):
    server = serve(None, environment={"PORTICO_APP": ECHO})
    assert server.request("GET", "/ping").status == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--threads", "-1"],
        ["--threads", "many"],
        ["--workers", "8..2"],
        ["--warmup", "POST:/"],
        ["--timeout-path", "/reports"],
        ["--bind", "[::1"],
        ["--bind", "a:b:c"],
        ["--keep-alive", "-1"],
        ["--keep-alive", "soon"],
        ["--limit-request-body", "1x"],
        ["--socket-mode", "9"],
        ["--max-queue", "0x10"],
        ["--slow-request", "-1"],
        ["--root-path", "relative"],
    ],
)
def test_wrong_arguments_are_told_in_a_line(arguments):
    process = run_to_end(*arguments, "apps.echo", cwd=TESTS)
    assert process.returncode == 2
    assert process.stdout == ""
    assert arguments[0] in process.stderr or arguments[-1] in process.stderr
    assert "Traceback" not in process.stderr


def test_mistyped_flag_is_corrected():
    process = run_to_end("--thread-s", "2", ECHO, cwd=TESTS)
    assert process.returncode == 2
    assert "--threads" in process.stderr


def test_wrong_environment_names_the_variable():
    process = run_to_end(ECHO, cwd=TESTS, environment={"PORTICO_THREADS": "many"})
    assert process.returncode == 1
    assert "PORTICO_THREADS" in process.stderr


def test_check_config_opens_nothing(tmp_path):
    path = tmp_path / "socket"
    good = run_to_end("--check-config", "--bind", f"unix:{path}", ECHO, cwd=TESTS)
    assert good.returncode == 0, good
    assert not path.exists()
    bad = run_to_end("--check-config", "apps.no_such_module", cwd=TESTS)
    assert bad.returncode == 1, bad
    assert "apps.no_such_module" in bad.stderr


def test_version_and_help():
    version = run_to_end("--version", cwd=TESTS)
    assert version.returncode == 0
    assert re.search(r"\d+\.\d+\.\d+", version.stdout)
    text = run_to_end("--help", cwd=TESTS)
    assert text.returncode == 0
    for flag in (
        "--bind",
        "--workers",
        "--threads",
        "--keep-alive",
        "--graceful-timeout",
        "--limit-request-line",
    ):
        assert flag in text.stdout
