"""An application whose import waits until the test lets it go on, be it for ever."""

# ruff: noqa: E402 (the wait comes first)

from apps.meeting import rendezvous

rendezvous.hold("import", 60)
from apps.processes import application

__all__ = ["application"]
