"""Programs that tests run, and code that they put somewhere else: beside other files, into another user's
folder, or changed a little."""

from __future__ import annotations

import sys

from harness.server import TESTS

WRITTEN = TESTS / "apps" / "written"
PROGRAMS = TESTS / "apps" / "programs"


def source(name: str) -> str:
    """The text of one of the files in apps/written."""
    return (WRITTEN / f"{name}.py").read_text()


def program(name: str) -> list[str]:
    """The command of one of the files in apps/programs; some need the tests' folder on the path."""
    return [sys.executable, str(PROGRAMS / f"{name}.py")]
