"""An iterable that tells the test when it is closed."""

from __future__ import annotations

from apps.meeting import rendezvous


class Tracked:
    """An iterable that tells when it is closed, and may fail to close."""

    def __init__(self, environ, blocks, error_at_close: BaseException | None = None) -> None:
        self.name = environ["PATH_INFO"]
        self.blocks = iter(blocks)
        self.error_at_close = error_at_close

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self) -> None:
        rendezvous.emit(f"closed {self.name}")
        if self.error_at_close is not None:
            raise self.error_at_close
