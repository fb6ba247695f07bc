"""The interpreter by its name, and the GIL of a free-threaded one: off, unless something turns it on."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from harness.interpreter import IS_FREE_THREADED
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end
from harness.sources import program

NAME = f"Python {platform.python_version()}" + (" free-threaded, GIL off" if IS_FREE_THREADED else "")
PING = "apps.routes:ping"
REQUIRED = "--require-free-threading"
free_threaded = pytest.mark.skipif(not IS_FREE_THREADED, reason="for a free-threaded Python")

# A module that says nothing of the GIL. Without Python.h, which a Python need not have.
MODULE = """
struct definition {
    struct {
        unsigned long thread; unsigned short flags; unsigned char mutex, collector;
        unsigned local; long shared; void *type;
        void *init; long index; void *copy;
    } base;
    const char *name, *doc;
    long size;
    void *methods, *slots, *traverse, *clear, *free;
};
static struct definition definition = {.name = "needs_gil", .size = -1};
void *PyModule_Create2(struct definition *, int);
__attribute__((visibility("default"))) void *PyInit_needs_gil(void) {
    return PyModule_Create2(&definition, 1013);
}
"""
IMPORTS = {
    "early": "import needs_gil\nfrom apps.routes import ping as application",
    "late": (
        "from apps.routes import plain\n"
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/import':\n"
        "        import needs_gil\n"
        "    return plain(start_response, 'served')"
    ),
}


def second_line_of_status(server) -> str:
    """What `portico status` says of the interpreter."""
    ended = run_to_end("status", str(server.pid), cwd=server.rendezvous.folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()[1]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module, and with applications that import it."""
    folder = tmp_path_factory.mktemp("module")
    source = folder / "needs_gil.c"
    source.write_text(MODULE)
    target = folder / f"needs_gil{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler, as the build needs one"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, source], check=True)
    for name, text in IMPORTS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_start_and_status_name_the_interpreter(serve):
    server = serve("apps.control:application", *([REQUIRED] if IS_FREE_THREADED else []))
    server.expect_log(rf"\[INFO\] Starting portico \S+ \({re.escape(NAME)}\)$")
    assert second_line_of_status(server) == NAME


@pytest.mark.parametrize(
    "command", [[REQUIRED], [REQUIRED, "--preload"], [REQUIRED, "--check-config"], ["check", REQUIRED]]
)
@pytest.mark.skipif(IS_FREE_THREADED, reason="for a Python with a GIL")
def test_an_interpreter_with_a_gil_is_refused(tmp_path, command):
    ended = run_to_end(*command, PING, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"{REQUIRED}: {NAME} has a GIL; start with a free-threaded Python" in ended.stderr
    assert "Traceback" not in ended.stderr and "Listening" not in ended.stderr


@free_threaded
def test_a_gil_that_is_on_from_the_start(serve, tmp_path):
    environment = {"PYTHON_GIL": "1"}
    server = serve("apps.control:application", environment=environment)
    told = NAME.replace("off", "on")
    server.expect_log(rf"Starting portico \S+ \({re.escape(told)}\)$")
    assert second_line_of_status(server) == told
    ended = run_to_end(REQUIRED, PING, cwd=tmp_path, environment=environment)
    assert ended.returncode == 1
    assert (
        f"{REQUIRED}: {told}: PYTHON_GIL, -X gil or an import before the start has turned it on"
        in ended.stderr
    )


@free_threaded
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["worker", "template"])
def test_module_enabling_the_gil_is_named(serve, module, preload):
    server = serve("early", *preload, cwd=module)
    server.expect_log(
        rf"\[WARNING\] the import of needs_gil \({re.escape(str(module))}/\S+\) has turned the GIL on"
    )
    server.expect_log(re.escape(f"({NAME})"))
    wait_until(lambda: second_line_of_status(server) == NAME.replace("off", "on"), "the GIL in the status")


@free_threaded
def test_module_enabling_the_gil_later_is_named(serve, module):
    server = serve("late", REQUIRED, "--workers", "2", cwd=module)
    assert second_line_of_status(server) == NAME
    assert server.request("GET", "/import").body == b"served"
    server.expect_log(r"\[WARNING\] the import of needs_gil \(")
    told = NAME.replace("off", "on in 1 of 2 workers")
    wait_until(lambda: second_line_of_status(server) == told, "the GIL in the status")


@free_threaded
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["worker", "template"])
def test_module_enabling_the_gil_is_refused(tmp_path, module, preload):
    ended = run_to_end(REQUIRED, *preload, "early", cwd=module)
    assert ended.returncode == 3
    assert f"{REQUIRED}: {NAME.replace('off', 'on')}: the import of needs_gil (" in ended.stderr
    assert "Listening" not in ended.stderr
    checked = run_to_end("check", REQUIRED, "early", cwd=module)
    assert checked.returncode == 1 and "the import of needs_gil (" in checked.stderr


@free_threaded
def test_a_program_that_serves_itself(tmp_path, module):
    environment = {"PYTHONPATH": f"{module}:{TESTS}"}
    ended = run_to_end(program=program("serve_early"), cwd=tmp_path, environment=environment)
    assert ended.returncode == 0, ended
    assert f"{REQUIRED}: {NAME.replace('off', 'on')}" in ended.stdout
