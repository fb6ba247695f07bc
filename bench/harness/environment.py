"""The benchmark's own environment: interpreter, peers, Portico from the checkout, wrk and the floor.

Imported by `bench/run` under any Python 3.10 or newer, so it uses the standard library only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
VENV = BENCH / ".venv"
BUILD = BENCH / ".build"
PREFERRED_PYTHON = "python3.11"
PORTICO_SOURCES = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "crates", "python")


class EnvironmentFault(Exception):
    """Something that the machine lacks; the message says how to get it."""


def python():
    """The interpreter for the servers: $PYTHON, else CPython 3.11 where it works, else this one."""
    for candidate in (os.environ.get("PYTHON"), PREFERRED_PYTHON):
        found = candidate and shutil.which(candidate)
        if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return found
    return sys.executable


def is_stamped(name, digest):
    stamp = BUILD / name
    return stamp.exists() and stamp.read_text() == digest


def stamp(name, digest):
    (BUILD / name).write_text(digest)


def ensure_peers():
    """Create the virtual environment and install the pinned peers, unless that was done before."""
    requirements = (BENCH / "requirements.txt").read_bytes()
    digest = hashlib.sha256(requirements).hexdigest()
    BUILD.mkdir(exist_ok=True)
    if VENV.exists() and is_stamped("peers", digest):
        return
    print("installing the peers into bench/.venv", file=sys.stderr)
    subprocess.run([python(), "-m", "venv", str(VENV)], check=True)
    install = [*pip(), "-r", str(BENCH / "requirements.txt")]
    if subprocess.run(install, check=False).returncode:
        raise EnvironmentFault(
            "the peers could not be installed; bjoern needs a C compiler and libev's headers "
            "(Debian: apt-get install build-essential libev-dev)"
        )
    stamp("peers", digest)


def pip():
    return [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def ensure_portico(wheel=None):
    """Install Portico: the given wheel, else a release build of this checkout if its sources changed."""
    digest = sources_digest() if wheel is None else hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    if is_stamped("portico", digest):
        return
    print(f"installing Portico from {wheel or 'this checkout (release build)'}", file=sys.stderr)
    install = [*pip(), "--force-reinstall", "--no-deps", str(wheel or ROOT)]
    # The Makefile's PYO3_PYTHON names its own environment, the wheel is for ours.
    variables = {name: value for name, value in os.environ.items() if name != "PYO3_PYTHON"}
    if subprocess.run(install, check=False, env=variables).returncode:
        raise EnvironmentFault(
            "Portico could not be built; fix the build, give --portico-wheel, or leave it out with --servers"
        )
    stamp("portico", digest)


def sources_digest():
    """A digest of everything that goes into Portico's wheel."""
    digest = hashlib.sha256()
    for top in PORTICO_SOURCES:
        path = ROOT / top
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def ensure_wrk():
    if not shutil.which("wrk"):
        raise EnvironmentFault("wrk is not installed (Debian: apt-get install wrk)")


def ensure_floor():
    """Compile the floor if its source is newer than the program."""
    source, program = BENCH / "floor.c", BUILD / "floor"
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return
    compiler = shutil.which("cc")
    if not compiler:
        raise EnvironmentFault("no C compiler for the floor (Debian: apt-get install build-essential)")
    subprocess.run([compiler, "-O2", "-Wall", "-o", str(program), str(source)], check=True)


def ensure_two_cores():
    if not {0, 1} <= os.sched_getaffinity(0):
        raise EnvironmentFault(
            "the benchmark pins the server to core 1 and the load to core 0: it needs both"
        )
