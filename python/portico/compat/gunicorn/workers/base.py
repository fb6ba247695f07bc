"""gunicorn.workers.base: no worker is made of it; `portico._gunicorn.worker_class` judges what derives."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, ClassVar

__all__ = ["Worker"]


class Worker:
    """What gunicorn's workers derive from. Nothing calls its methods here."""

    SIGNALS: ClassVar[list[int]] = [
        getattr(signal, f"SIG{name}")
        for name in ("ABRT", "HUP", "QUIT", "INT", "TERM", "USR1", "USR2", "WINCH", "CHLD")
    ]
    PIPE: ClassVar[list[int]] = []

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        """See above."""

    @classmethod
    def setup(cls) -> None:
        """See above."""

    def patch(self) -> None:
        """See above."""

    def notify(self) -> None:
        """See above."""

    def run(self) -> None:
        """See above."""

    def init_process(self) -> None:
        """See above."""

    def init_signals(self) -> None:
        """See above."""

    def load_wsgi(self) -> None:
        """See above."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See above."""

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """See above."""

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """See above."""

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """See above."""

    def handle_winch(self, sig: int, frame: FrameType | None) -> None:
        """See above."""

    def handle_error(self, *_arguments: Any) -> None:
        """See above."""

    def handle_request(self, *_arguments: Any) -> None:
        """See above."""
