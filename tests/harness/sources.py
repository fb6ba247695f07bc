"""Code that tests put somewhere else: beside other files, into another user's folder, or changed a little."""

from __future__ import annotations

from harness.server import TESTS

WRITTEN = TESTS / "apps" / "written"


def source(name: str) -> str:
    """The text of one of the files in apps/written."""
    return (WRITTEN / f"{name}.py").read_text()
