"""An application whose import fails when the test wants it to."""

# ruff: noqa: E402, F401 (the server takes the application from here)

import os
import time

from apps.meeting import rendezvous

rendezvous.emit(f"imports {time.monotonic()}")
if (rendezvous.folder / "broken").exists():
    raise RuntimeError("planted error of the import")
from apps.processes import application
