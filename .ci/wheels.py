"""Builds the sdist and the wheels that can be built here, tries each, and names the others: `make wheels`.

    python .ci/wheels.py [--out dist] [3.11 3.14t ...]

A wheel is tried in an empty virtual environment of its interpreter: it is installed without anything else,
serves one request, and ends with status 0 at SIGTERM. The exit status is 1 if something that was begun has
failed; what this machine cannot build is named and left to another one.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.14t")
# The oldest glibc that Rust's own standard library runs with, which is that of RHEL 7.
MANYLINUX = "manylinux_2_17"
# What a release has besides; none of it is built here.
ARCHITECTURES = ("x86_64", "aarch64")
APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]
"""
BUILD_SECONDS = 3600
START_SECONDS = 20


class Failure(Exception):
    """Something was begun and has failed; its text says what."""


@dataclass
class Result:
    """What became of one wheel."""

    version: str
    file: str = "-"
    outcome: str = "built, installed, served"
    failed: bool = False


def run(*command: str | Path, folder: Path = ROOT, seconds: float = BUILD_SECONDS, **variables: str) -> str:
    """Runs a command and returns what it prints; raises `Failure` with its last lines."""
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Failure(f"{Path(command[0]).name} {command[1]}: exit status {done.returncode}\n{last}")
    return done.stdout


def maturin() -> Path:
    """The maturin of the environment that this runs in."""
    return Path(sys.executable).with_name("maturin")


def build_sdist(out: Path) -> Path:
    """Builds the sdist, and checks that what is in it is a whole workspace."""
    run(maturin(), "sdist", "--out", out)
    sdist = newest(out, "portico-*.tar.gz")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        missing = [name for name in ("LICENSE", "README.md", "Cargo.lock") if not (unpacked / name).exists()]
        if missing:
            raise Failure(f"{sdist.name} has no {', '.join(missing)}")
        run("cargo", "metadata", "--format-version=1", "--locked", folder=unpacked)
    return sdist


def build_wheel(interpreter: str, out: Path) -> Path:
    """Builds the wheel of an interpreter: with zig, where it is installed, for old systems too."""
    old = ("--zig", "--compatibility", MANYLINUX) if importlib.util.find_spec("ziglang") else ()
    before = time.time()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run(
        *(maturin(), "build", "--release", "--locked", *old, "--interpreter", interpreter, "--out", out),
        PATH=path,
        PYO3_PYTHON=interpreter,
    )
    wheel = newest(out, "portico-*.whl")
    if wheel.stat().st_mtime < before - 1:
        raise Failure("maturin has written no wheel")
    return wheel


def newest(folder: Path, pattern: str) -> Path:
    """The file of that pattern that was written last."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def try_wheel(wheel: Path, interpreter: str) -> None:
    """Installs a wheel into an empty environment, has it serve a request, and ends it."""
    with tempfile.TemporaryDirectory(prefix="portico-wheel-") as name:
        folder = Path(name)
        run(interpreter, "-m", "venv", folder / "venv", seconds=120)
        programs = folder / "venv" / "bin"
        install = (
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
        )
        run(programs / "python", *install, wheel.resolve(), seconds=120, folder=folder)
        (folder / "hello.py").write_text(APPLICATION)
        # Nothing of this machine's environment: an empty one is what it is to be tried in.
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": name, "LANG": "C.UTF-8"}
        address = folder / "socket"
        command = [str(programs / "portico"), "hello:app", "--workers", "1", "--bind", f"unix:{address}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            body = request(address, "/served", server)
            server.send_signal(signal.SIGTERM)
            status = server.wait(START_SECONDS)
        except (OSError, http.client.HTTPException, subprocess.TimeoutExpired, Failure) as error:
            raise Failure(f"{error}\n{(folder / 'log').read_text()}") from error
        finally:
            server.kill()
            server.wait()
        if (body, status) != (b"/served", 0):
            raise Failure(f"answered {body!r}, ended with {status}\n{(folder / 'log').read_text()}")


def request(address: Path, target: str, server: subprocess.Popen) -> bytes:
    """The body of a response, over a UNIX socket; waits for the server to listen."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("localhost", timeout=START_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(START_SECONDS)
        try:
            connection.sock.connect(str(address))
            connection.request("GET", target)
            return connection.getresponse().read()
        except (FileNotFoundError, ConnectionRefusedError):
            if server.poll() is not None:
                raise Failure(f"the server ended with {server.returncode}") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()


def one(version: str, out: Path) -> Result:
    """Builds and tries the wheel for one version of CPython."""
    found = subprocess.run(
        [ROOT / ".ci" / "interpreter", version], check=False, capture_output=True, text=True, timeout=900
    )
    if found.returncode:
        why = (found.stderr.splitlines() or ["no such interpreter"])[-1]
        return Result(version, outcome=f"NOT BUILT: {why}")
    interpreter = found.stdout.strip()
    try:
        wheel = build_wheel(interpreter, out)
        try_wheel(wheel, interpreter)
    except (Failure, subprocess.TimeoutExpired) as error:
        return Result(version, outcome=f"FAILED: {error}", failed=True)
    return Result(version, wheel.name)


def main() -> int:
    """Reads the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the files")
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="of CPython; 3.14t is free-threaded")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    results = []
    try:
        results.append(Result("sdist", build_sdist(options.out).name, "built, its workspace is whole"))
    except Failure as error:
        results.append(Result("sdist", outcome=f"FAILED: {error}", failed=True))
    for version in options.versions:
        results.append(one(version, options.out))
        print(f"{version}: {results[-1].outcome}", flush=True)
    print(f"\n{'For':8} {'Outcome':30} File")
    for result in results:
        print(f"{result.version:8} {result.outcome.splitlines()[0]:30} {result.file}")
    here = platform.machine()
    for name in ARCHITECTURES:
        if name != here:
            print(f"NOT BUILT: wheels for {name}; run this on such a machine")
    print("NOT BUILT: wheels for musl (Alpine)")
    for version in VERSIONS:
        if version not in options.versions:
            print(f"NOT BUILT: the wheel for CPython {version}, which was not asked for")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
