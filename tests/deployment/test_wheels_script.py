"""What `make wheels` makes of a wheel that does not serve: the check of each wheel can fail."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from harness.scripts import load_script

# Serves one request with BODY over the UNIX socket that it is given, and ends with STATUS at SIGTERM.
SERVER = """
import signal, socket, sys
def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[-1].removeprefix("unix:"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STATUS))
    listener.listen()
    client = listener.accept()[0]
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 7\\r\\n\\r\\n" + BODY)
    client.close()
    signal.pause()
"""


wheels = load_script("wheels")


def wheel_of(folder: Path, source: str) -> Path:
    """A wheel whose command `portico` is the function `main` of `source`."""
    path = folder / "portico-0.0.1-py3-none-any.whl"
    information = "portico-0.0.1.dist-info"
    files = {
        "portico.py": source,
        f"{information}/METADATA": "Metadata-Version: 2.1\nName: portico\nVersion: 0.0.1\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/entry_points.txt": "[console_scripts]\nportico = portico:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{information}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{information}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        (SERVER.replace("BODY", "b'/else  '").replace("STATUS", "0"), "answered b'/else  '"),
        (SERVER.replace("BODY", "b'/served'").replace("STATUS", "1"), "ended with 1"),
        ("def main(): raise SystemExit(3)\n", "the server ended with 3"),
    ],
)
def test_a_wheel_that_does_not_serve_fails(tmp_path, source, failure):
    wheel = wheel_of(tmp_path, source)
    with pytest.raises(wheels.Failure, match=failure):
        wheels.try_wheel(wheel, sys.executable)


def test_what_is_not_built_is_named(tmp_path, capsys, monkeypatch):
    results = {
        "3.10": wheels.Result("3.10", "portico-cp310.whl"),
        "3.14": wheels.Result("3.14", outcome="NOT BUILT: there is no apt-get"),
    }
    monkeypatch.setattr(wheels, "one", lambda version, out: results[version])
    monkeypatch.setattr(wheels, "build_sdist", lambda out: Path("portico.tar.gz"))
    monkeypatch.setattr(sys, "argv", ["wheels.py", "--out", str(tmp_path / "dist"), *results])
    assert wheels.main() == 0
    said = capsys.readouterr().out
    for line in ("NOT BUILT: there is no apt-get", "CPython 3.14t, which was not asked for", "for musl"):
        assert line in said
    results["3.10"] = wheels.Result("3.10", outcome="FAILED: it did not serve", failed=True)
    assert wheels.main() == 1
