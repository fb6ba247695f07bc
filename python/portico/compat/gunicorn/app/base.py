"""gunicorn.app.base: a server that is a program of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

from portico._gunicorn.config import Config
from portico._portico import main

__all__ = ["BaseApplication"]


class Settings(Config):
    """`cfg`, which remembers what is set."""

    def __init__(self) -> None:
        super().__init__([], {})
        self.__dict__["said"] = {}

    def set(self, name: str, value: Any) -> None:
        """Sets a setting, by gunicorn's name or Portico's."""
        name = name.lower()
        if name in self.settings:
            super().set(name, value)
        self.said[name] = value


class BaseApplication:
    """To be derived from: `load_config` sets settings (`self.cfg.set`), `load` returns the application."""

    running: ClassVar[BaseApplication | None] = None

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.cfg = Settings()
        self.callable: Callable[..., Any] | None = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Begins with the defaults, and has them changed."""
        self.cfg = Settings()
        self.load_config()

    def load_config(self) -> None:
        """Sets the settings. Called again by a reload."""
        raise NotImplementedError

    def load(self) -> Callable[..., Any]:
        """Returns the application. Called in each worker."""
        raise NotImplementedError

    def wsgi(self) -> Callable[..., Any]:
        """The application."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self) -> None:
        """Serves until a signal ends it, and then ends the program. Workers are forked from this process."""
        BaseApplication.running = self
        sys.exit(main(["--config", f"python:{__package__}._settings", f"{__name__}:application()"]))


def application() -> Callable[..., Any]:
    """What the running server serves."""
    assert BaseApplication.running is not None
    return BaseApplication.running.wsgi()
