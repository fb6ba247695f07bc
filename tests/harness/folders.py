"""Temporary folders that other users may enter: those of pytest are its user's alone."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


class Folders:
    """Makes folders and removes them together when all tests are done.

    None is removed with its test: a server that uses what is in it may be stopped later, and would complain
    of a certificate or a socket that is gone.
    """

    def __init__(self) -> None:
        self.made: list[Path] = []

    def make(self, parent: Path | None = None) -> Path:
        """A new folder, in `parent` or where temporary ones are."""
        path = Path(tempfile.mkdtemp(prefix="portico-test-", dir=parent))
        path.chmod(0o755)
        self.made.append(path)
        return path

    def remove(self) -> None:
        """Removes all of them."""
        for path in self.made:
            shutil.rmtree(path, ignore_errors=True)
