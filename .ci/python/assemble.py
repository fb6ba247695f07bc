"""Lays out a CPython's folder: the interpreter from a wheel of freeze-core, the standard library from Debian.

freeze-core starts frozen programs with a small program that has all of CPython in it. Its `main` becomes a
jump to `Py_BytesMain`, which is what the `main` of an ordinary python calls.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

LAUNCHER = "freeze_core/bases/console-cpython"
# Folders of the wheel: extension modules, and what they are linked with.
MODULES = "freeze_core/lib/"
LIBRARIES = "freeze_core.libs/"
# What of Debian's is for Debian's own interpreter.
LEFT_OUT = ("lib-dynload", "EXTERNALLY-MANAGED", "_sysconfig*", "__pycache__", "sitecustomize.py")
DYNAMIC_SYMBOLS = 11


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="such as 3.14 or 3.14t")
    parser.add_argument("wheels", type=Path, help="folder with the wheels of freeze-core and of pip")
    parser.add_argument("library", type=Path, help="Debian's folder of the standard library")
    parser.add_argument("folder", type=Path, help="where it goes")
    arguments = parser.parse_args()
    # What Python notes of its own places has to be true wherever it is started.
    folder = arguments.folder.absolute()
    library = folder / "lib" / f"python{arguments.version}"
    shutil.copytree(arguments.library, library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    wheels = folder / "lib" / "wheels"
    wheels.mkdir()
    (pip,) = arguments.wheels.glob("pip-*.whl")
    shutil.copy(pip, wheels)
    (freeze_core,) = arguments.wheels.glob("freeze_core-*.whl")
    launcher = unpack(freeze_core, library)
    python = folder / "bin" / f"python{arguments.version}"
    python.parent.mkdir()
    python.write_bytes(start_python(launcher))
    python.chmod(0o755)
    for name in ("python3", "python"):
        (python.parent / name).symlink_to(python.name)
    describe(arguments.version, folder, library, wheels)


def unpack(wheel: Path, library: Path) -> bytes:
    """Unpacks the extension modules and the libraries that they need; returns the launcher."""
    modules = library / "lib-dynload"
    libraries = library.parent / LIBRARIES
    modules.mkdir()
    libraries.mkdir()
    launcher = b""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(MODULES) and name.endswith(".so"):
                (modules / os.path.basename(name)).write_bytes(archive.read(name))
            elif name.startswith(LIBRARIES) and not name.endswith("/"):
                (libraries / os.path.basename(name)).write_bytes(archive.read(name))
            elif name.startswith(LAUNCHER):
                launcher = archive.read(name)
    if not launcher:
        raise SystemExit(f"{wheel.name} has no {LAUNCHER}*")
    return launcher


def start_python(launcher: bytes) -> bytes:
    """The launcher, an ELF file, with a jump to `Py_BytesMain` at the beginning of `main`."""
    program = bytearray(launcher)
    places = dict(symbols(launcher))
    (main_address, main_offset), (target, _) = places["main"], places["Py_BytesMain"]
    jump = jump_by(target - main_address)
    program[main_offset : main_offset + len(jump)] = jump
    return bytes(program)


def jump_by(distance: int) -> bytes:
    """The instruction that jumps so many bytes from its own beginning."""
    if platform.machine() == "x86_64":
        return b"\xe9" + struct.pack("<i", distance - 5)
    if platform.machine() == "aarch64":
        return struct.pack("<I", 0x1400_0000 | distance // 4 & 0x03FF_FFFF)
    raise SystemExit(f"no jump is known for {platform.machine()}")


def symbols(elf: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """The dynamic symbols of a 64-bit ELF file that are defined in it: address, and offset in the file."""
    (section_headers,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    # Name, type, flags, address, offset, size, link, info, alignment, size of an entry.
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", elf, section_headers + number * size) for number in range(count)
    ]
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != DYNAMIC_SYMBOLS:
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, entry):
            name, _, _, index, address, _ = struct.unpack_from("<IBBHQQ", elf, at)
            if 0 < index < count:
                text = elf[names + name : elf.index(0, names + name)].decode()
                yield text, (address, address - sections[index][3] + sections[index][4])


def describe(version: str, folder: Path, library: Path, wheels: Path) -> None:
    """Writes what `sysconfig` reads: Debian's describes Debian's interpreter."""
    plain = version.removesuffix("t")
    threads = version.removeprefix(plain)
    triple = f"{platform.machine()}-linux-gnu"
    soabi = f"cpython-{plain.replace('.', '')}{threads}-{triple}"
    variables = {
        "ABIFLAGS": threads,
        "AR": "ar",
        "ARFLAGS": "rcs",
        "BINDIR": str(folder / "bin"),
        "BLDSHARED": "gcc -shared",
        "CC": "gcc",
        "CCSHARED": "-fPIC",
        "CFLAGS": "-O2",
        "CXX": "g++",
        "EXT_SUFFIX": f".{soabi}.so",
        "HAVE_FORK": 1,
        "INCLUDEPY": str(folder / "include" / f"python{version}"),
        "LDLIBRARY": f"libpython{version}.a",
        "LDSHARED": "gcc -shared",
        "LDVERSION": version,
        "LIBDEST": str(library),
        "LIBDIR": str(folder / "lib"),
        "LIBRARY": f"libpython{version}.a",
        "MACHDEP": "linux",
        "MULTIARCH": triple,
        "PYTHONFRAMEWORK": "",
        "Py_DEBUG": 0,
        "Py_ENABLE_SHARED": 0,
        "Py_GIL_DISABLED": int(bool(threads)),
        "SHLIB_SUFFIX": ".so",
        "SIZEOF_VOID_P": 8,
        "SOABI": soabi,
        "TZPATH": "/usr/share/zoneinfo",
        "VERSION": plain,
        "WHEEL_PKG_DIR": str(wheels),
        "WITH_PYMALLOC": 1,
        "abiflags": threads,
        "exec_prefix": str(folder),
        "prefix": str(folder),
        "projectbase": str(folder),
        "srcdir": str(library),
    }
    data = f"_{threads}_linux_{triple}"
    (library / f"_sysconfigdata{data}.py").write_text(f"build_time_vars = {variables!r}\n")
    (library / f"_sysconfig_vars{data}.json").write_text(json.dumps(variables))


if __name__ == "__main__":
    main()
