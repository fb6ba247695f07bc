"""The logger that is the server's where gunicorn's would be, to be derived from."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

ERROR_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"
LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

FACILITIES = {"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "security": 4, "syslog": 5, "lpr": 6}
FACILITIES |= {"news": 7, "uucp": 8, "cron": 9, "authpriv": 10}
FACILITIES |= {f"local{number}": 16 + number for number in range(8)}

CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error_console"],
            "propagate": True,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": True,
            "qualname": "gunicorn.access",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "formatters": {"generic": {"format": ERROR_FORMAT, "datefmt": DATE_FORMAT, "class": "logging.Formatter"}},
}


class SafeAtoms(dict[str, Any]):
    """Atoms of an access line: names in braces in any case, `-` for what is missing, quotes escaped."""

    def __init__(self, atoms: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in atoms.items():
            self[name] = value.replace('"', '\\"') if isinstance(value, str) else value

    def __getitem__(self, name: str) -> Any:
        return self.get(name.lower() if name.startswith("{") else name, "-")


class Logger:
    """A logger of the server's, to be derived from: the names and the behaviour of gunicorn's.

    `setup`, `access`, `atoms` and `now` are there to be overridden.
    """

    LOG_LEVELS = LEVELS
    loglevel = logging.INFO
    error_fmt = ERROR_FORMAT
    datefmt = DATE_FORMAT
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"
    atoms_wrapper_class: Any = SafeAtoms

    # The stream into the server's error log.
    errors: Any = None

    def __init__(self, cfg: Any) -> None:
        self.join(cfg)
        self.setup(cfg)

    def join(self, cfg: Any) -> None:
        """Takes the loggers as they are."""
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.logfile = None
        self.lock = threading.Lock()
        self.cfg = cfg

    def setup(self, cfg: Any) -> None:
        """Configures the loggers as the settings say."""
        self.cfg = cfg
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        for log in (self.error_log, self.access_log):
            for handler in [handler for handler in log.handlers if is_own(handler)]:
                log.removeHandler(handler)
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            fmt = logging.Formatter(self.access_fmt)
            self._set_handler(self.access_log, cfg.accesslog, fmt, stream=sys.stdout)
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")
        self.configure(cfg)

    def configure(self, cfg: Any) -> None:
        """Applies the operator's configuration of logging, the first of the three that there is."""
        if not (cfg.logconfig_dict or cfg.logconfig_json or cfg.logconfig):
            return
        from logging.config import dictConfig, fileConfig

        try:
            if cfg.logconfig_dict:
                dictConfig(CONFIG_DEFAULTS | dict(cfg.logconfig_dict))
            elif cfg.logconfig_json:
                with open(cfg.logconfig_json, encoding="utf-8") as file:
                    dictConfig(CONFIG_DEFAULTS | json.load(file))
            else:
                if not os.path.exists(cfg.logconfig):
                    raise RuntimeError(f"there is no file {cfg.logconfig}")
                path = os.path.abspath(cfg.logconfig)
                defaults = {"__file__": path, "here": os.path.dirname(path)}
                fileConfig(cfg.logconfig, defaults=defaults, disable_existing_loggers=False)
        except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
            raise RuntimeError(f"the configuration of logging cannot be used: {error!r}") from error

    def critical(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at this level."""
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at this level."""
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at this level."""
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at this level."""
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at this level."""
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs an error with the exception that is being handled."""
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs at a level that is a number or a name."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: Any) -> dict[str, Any]:
        """What an access line can be made of."""
        micros = request_time.seconds * 1_000_000 + request_time.microseconds
        sent = getattr(resp, "sent", None)
        status = resp.status.split(None, 1)[0] if isinstance(resp.status, str) else resp.status
        method, protocol = environ.get("REQUEST_METHOD"), environ.get("SERVER_PROTOCOL")
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{method} {environ.get('RAW_URI') or req.uri} {protocol}",
            "s": status,
            "m": method,
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": protocol,
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": request_time.seconds,
            "D": micros,
            "M": micros // 1000,
            "L": f"{request_time.seconds}.{request_time.microseconds:06}",
            "p": f"<{os.getpid()}>",
        }
        for letter, pairs in (("i", getattr(req, "headers", req)), ("o", resp.headers), ("e", environ)):
            items: Iterable[tuple[str, Any]] = pairs.items() if isinstance(pairs, Mapping) else pairs
            atoms.update({f"{{{name.lower()}}}{letter}": value for name, value in items})
        return atoms

    @property
    def access_log_enabled(self) -> bool:
        """Whether accesses are logged."""
        return wants_access(self.cfg)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: Any) -> None:
        """Logs one access."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        try:
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            self.error(traceback.format_exc())

    def now(self) -> str:
        """The time as access logs have it."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def reopen_files(self) -> None:
        """Opens the files of all handlers again."""
        reopen_files()

    def close_on_exec(self) -> None:
        """All files are, since Python opens them so."""

    def _set_handler(
        self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None
    ) -> None:
        for handler in [handler for handler in log.handlers if is_own(handler)]:
            log.removeHandler(handler)
        if output is None:
            return
        made: logging.Handler
        if log is self.error_log:
            made = logging.StreamHandler(self.errors or sys.stderr)
        else:
            made = logging.StreamHandler(stream) if output == "-" else logging.FileHandler(output)
        made.setFormatter(fmt)
        mark_own(made)
        log.addHandler(made)

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        from logging.handlers import SysLogHandler

        prefix = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
        if cfg.syslog_facility.lower() not in FACILITIES:
            raise RuntimeError(f"syslog_facility: {cfg.syslog_facility!r} is not known")
        kind, address = syslog_address(cfg.syslog_addr)
        facility = FACILITIES[cfg.syslog_facility.lower()]
        handler = SysLogHandler(address=address, facility=facility, socktype=kind)
        handler.setFormatter(logging.Formatter(f"gunicorn.{prefix}.{name}: {fmt}"))
        mark_own(handler)
        log.addHandler(handler)

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        scheme, _, token = (environ.get("HTTP_AUTHORIZATION") or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(token.strip()).partition(b":")[0].decode()
        except (UnicodeDecodeError, binascii.Error):
            return None


def wants_access(cfg: Any) -> bool:
    """Whether accesses are logged, by gunicorn's rule."""
    to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or to_syslog)


def reopen_files() -> None:
    """Opens the files of all handlers again. What cannot be opened goes on being written where it was."""
    watching = getattr(sys.modules.get("logging.handlers"), "WatchedFileHandler", ())
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    for handler in handlers:
        # One that watches its file does it by itself; one that has not written yet has nothing open.
        if not isinstance(handler, logging.FileHandler) or isinstance(handler, watching):
            continue
        with handler.lock or contextlib.nullcontext():
            if handler.stream is None:
                continue
            # What another process has written meanwhile stays.
            handler.mode = handler.mode.replace("w", "a")
            try:
                former = handler.setStream(handler._open())
            except OSError:
                logging.getLogger("gunicorn.error").exception("opening a log file again failed")
            else:
                if former:
                    former.close()


def mark_own(handler: logging.Handler) -> None:
    """Marks a handler as the server's."""
    handler._portico = True  # type: ignore[attr-defined]


def is_own(handler: logging.Handler) -> bool:
    """Whether a handler was made here."""
    return getattr(handler, "_portico", False)


def syslog_address(text: str) -> tuple[Any, Any]:
    """What `syslog_addr` names, as a handler wants it."""
    import socket

    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and separator:
        path, _, kind = rest.partition("#")
        return (socket.SOCK_DGRAM if kind == "dgram" else None), path
    if scheme not in ("udp", "tcp") or not separator:
        raise RuntimeError(
            f"syslog_addr: {text!r} is no address; write udp://host:port, tcp:// or unix://path"
        )
    host, colon, port = rest.rpartition(":") if not rest.endswith("]") else (rest, "", "")
    host, port = (host, port) if colon else (rest, "514")
    if not port.isdigit():
        raise RuntimeError(f"syslog_addr: {port!r} is no port")
    return (
        socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM,
        (host.strip("[]").lower() or "localhost", int(port)),
    )
