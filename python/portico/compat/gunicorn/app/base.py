"""gunicorn.app.base: a server that is a program of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

from portico._gunicorn.conf_file import execute, import_module
from portico._gunicorn.config import Config
from portico._portico import main

__all__ = ["Application", "BaseApplication"]


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
        self.logger = None
        self.do_load_config()

    def do_load_config(self) -> None:
        """Begins with the defaults, and has them changed."""
        self.load_default_config()
        self.load_config()

    def load_default_config(self) -> None:
        """Begins with the defaults."""
        self.cfg = Settings()

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

    def arguments(self) -> list[str]:
        """Options of the command line that count beside the settings."""
        return []

    def run(self) -> None:
        """Serves until a signal ends it, and then ends the program. Workers are forked from this process."""
        BaseApplication.running = self
        target = f"{BaseApplication.__module__}:application()"
        sys.exit(main([target, *self.arguments(), "--config", f"python:{__package__}._settings"]))


class Application(BaseApplication):
    """One that takes gunicorn's options on its command line as well; `init` may return more settings."""

    def init(self, parser: Any, opts: Any, args: list[str]) -> dict[str, Any] | None:
        """Settings below those of the command line. There is no parser; `opts` has `config` alone."""
        return None

    def load_config(self) -> None:
        """What `init` returns, and the configuration file that the command line names."""
        config, arguments = split_config(sys.argv[1:])
        names = [word for word in arguments[:1] if not word.startswith("-")]
        settings = self.init(None, SimpleNamespace(config=config, paste=None), names) or {}
        for name, value in settings.items():
            self.cfg.set(name, value)
        if config:
            self.load_config_from_file(config)

    def load_config_from_module_name_or_filename(self, location: str) -> dict[str, Any]:
        """Takes the settings of a configuration file."""
        is_module, place = location.startswith("python:"), location.partition(":")[2]
        path = location.removeprefix("file:")
        said = vars(import_module(place) if is_module else execute(path))
        for name, value in list(said.items()):
            if name in self.cfg.settings:
                self.cfg.set(name, value)
        return said

    def load_config_from_file(self, filename: str) -> dict[str, Any]:
        """The same."""
        return self.load_config_from_module_name_or_filename(filename)

    def arguments(self) -> list[str]:
        """The command line, but for the configuration file, which has been read."""
        return split_config(sys.argv[1:])[1]


def split_config(words: list[str]) -> tuple[str | None, list[str]]:
    """The configuration file that a command line names, and the words that are left."""
    config, rest = None, []
    following = iter(words)
    for word in following:
        if word in ("-c", "--config"):
            config = next(following, None)
        elif word.startswith("--config="):
            config = word.partition("=")[2]
        else:
            rest.append(word)
    return config, rest


def application() -> Callable[..., Any]:
    """What the running server serves."""
    assert BaseApplication.running is not None
    return BaseApplication.running.wsgi()
