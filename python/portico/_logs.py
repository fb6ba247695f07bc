"""Python's `logging`: the loggers that applications expect of their server.

`gunicorn.error` and `gunicorn.access` exist in every worker, `portico.error` and `portico.access` beside
them, with handlers that write where the server's own log goes. Where the operator configures logging (a file,
a dictionary, a class), what the server logs goes the other way: through these loggers.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from portico._logger import DATE_FORMAT, ERROR_FORMAT, LEVELS, Logger, is_own, mark_own, reopen_files
from portico.compat import finder

ERROR_LOGGERS = ("gunicorn.error", "portico.error")
ACCESS_LOGGERS = ("gunicorn.access", "portico.access")

# What gunicorn calls its own, or lets be chosen by name.
OWN_CLASSES = ("", "simple", "gunicorn.glogging.Logger", "gunicorn.instrument.statsd.Statsd")


# The file of the server's access log, if there is one, and its descriptor, also after it was opened again.
_opened: dict[str, int] = {}


def note_opened(path: str | None, descriptor: int) -> None:
    """The server has its access log open so."""
    _opened.clear()
    if path is not None:
        _opened[os.path.abspath(path)] = descriptor


class AppendedFile:
    """Standard output or a file by its path: as the server has it open, else opened for each text.

    It may be moved away at any time.
    """

    def __init__(self, path: str) -> None:
        self.path = None if path == "-" else os.path.abspath(path)

    def write(self, text: str) -> None:
        """Appends it."""
        if self.path is None:
            sys.stdout.write(text)
            return
        descriptor = _opened.get(self.path)
        opened = os.dup(descriptor) if descriptor is not None else self.path
        with open(opened, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def flush(self) -> None:
        """Nothing of a file waits."""
        if self.path is None:
            sys.stdout.flush()


def guard_files(open_file: Callable[[str, int], int]) -> None:
    """Has the files of logging's handlers opened by `open_file`, which takes path and flags of `os.open`.

    In a process of root's, a path may lead to what the workers' user has put there.
    """

    plain: Callable[..., Any] = open

    def guarded(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        opener = None if os.geteuid() else open_file  # A worker is its user's.
        return plain(file, mode, *args, opener=opener, **kwargs)

    # What `logging` calls by this name: handlers keep it, and open their files again by it.
    vars(logging)["open"] = guarded


def install(level: str, errors: Any, access: str | None) -> None:
    """Has the loggers write where the server writes: `errors` is a stream, `access` a path or `-`."""
    handler = logging.StreamHandler(errors)
    handler.setFormatter(logging.Formatter(ERROR_FORMAT, DATE_FORMAT))
    for name in ERROR_LOGGERS:
        give(logging.getLogger(name), handler, LEVELS.get(level, logging.INFO))
    accesses = None
    if access:
        accesses = logging.StreamHandler(AppendedFile(access))
        accesses.setFormatter(logging.Formatter("%(message)s"))
    for name in ACCESS_LOGGERS:
        give(logging.getLogger(name), accesses, logging.INFO)


def give(logger: logging.Logger, handler: logging.Handler | None, level: int) -> None:
    """Has the logger write to this handler, in place of one that it was given before."""
    logger.propagate = False
    logger.setLevel(level)
    for former in [former for former in logger.handlers if is_own(former)]:
        logger.removeHandler(former)
    if handler:
        mark_own(handler)
        logger.addHandler(handler)


def in_force(cfg: Any) -> bool:
    """Whether what the server logs goes through Python's loggers."""
    configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
    return bool(configured) or cfg.logger_class not in OWN_CLASSES


def make(cfg: Any, errors: Any) -> Any:
    """The `log` of these settings; where Python's loggers are in force, one of `logger_class`."""
    if not in_force(cfg):
        install(cfg.loglevel, errors, cfg.accesslog)
        kind = own_class(cfg)
        log = kind.__new__(kind)
        log.join(cfg)
        return log
    Logger.errors = errors
    made = logger_class(cfg)(cfg)
    for kind in ("error", "access"):
        share(logging.getLogger(f"portico.{kind}"), logging.getLogger(f"gunicorn.{kind}"))
    return made


def share(logger: logging.Logger, model: logging.Logger) -> None:
    """Has a logger do as another does."""
    logger.handlers = model.handlers
    logger.filters = model.filters
    logger.setLevel(model.level)
    logger.propagate = model.propagate


def remake(former: Any, cfg: Any, errors: Any) -> Any:
    """The `log` of other settings; if those cannot be used, the former one stays as it was."""
    known = former.cfg
    try:
        if in_force(cfg) and type(former) is logger_class(cfg) and in_force(known):
            former.setup(cfg)
            return former
        return make(cfg, errors)
    except Exception:
        install(known.loglevel, errors, known.accesslog)
        former.cfg = known
        if in_force(known):
            with contextlib.suppress(Exception):
                former.setup(known)
        former.error("reloading the logger configuration failed, keeping the previous one")
        former.error(traceback.format_exc().rstrip())
        return former


def own_class(cfg: Any) -> Any:
    """The class that stands for gunicorn's own, which sends metrics where statsd is configured."""
    if not cfg.statsd_host:
        return Logger
    from portico._statsd import Statsd

    return Statsd


def logger_class(cfg: Any) -> Any:
    """The class that `logger_class` is or names."""
    named = cfg.logger_class
    if inspect.isclass(named):
        return named
    if named in OWN_CLASSES:
        return own_class(cfg)
    finder.install()
    module, _, name = named.replace(":", ".").rpartition(".")
    if not module:
        raise RuntimeError(f"logger_class: {named!r} is no import string; write module.Class")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"logger_class: {named} cannot be imported: {error}") from error


def flush() -> None:
    """Writes what handlers hold back."""
    for name in ERROR_LOGGERS[:1] + ACCESS_LOGGERS[:1]:
        for handler in logging.getLogger(name).handlers:
            with contextlib.suppress(Exception):
                handler.flush()


def reopen_aside(log: Any) -> None:
    """The same on a thread of its own, by `log` where there is one."""
    target = log.reopen_files if log else reopen_files
    threading.Thread(target=target, name="portico-reopen", daemon=True).start()


def relay(log: Any, level: str, message: str, created: float) -> None:
    """Logs a record of the server's through the operator's logger, with the time at which it came about."""
    factory = logging.getLogRecordFactory()
    if type(log) is not own_class(log.cfg):
        getattr(log, level)("%s", message)
        return
    logger = log.error_log
    number = LEVELS[level]
    if not logger.isEnabledFor(number):
        return
    record = factory(logger.name, number, "portico", 0, message, (), None)
    record.created = created
    record.msecs = (created - int(created)) * 1000
    logger.handle(record)
