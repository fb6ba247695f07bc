"""gunicorn.util, as far as configurations use it."""

from __future__ import annotations

import email.utils
import fcntl
import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portico._gunicorn.config import address

__all__ = [
    "bytes_to_str",
    "check_is_writable",
    "close_on_exec",
    "getcwd",
    "http_date",
    "import_app",
    "is_ipv6",
    "parse_address",
    "set_non_blocking",
    "unlink",
    "warn",
]


def getcwd() -> str:
    """The current folder, by the name that the shell has for it where that leads to it."""
    named, real = os.environ.get("PWD", ""), str(Path.cwd())
    try:
        return named if named and Path(named).samefile(real) else real
    except OSError:
        return real


def parse_address(netloc: str, default_port: str = "8000") -> Any:
    """Host and port, a path, or a descriptor."""
    parsed = address(netloc)
    is_bare = isinstance(parsed, tuple) and parsed[1] == 8000 and not netloc.endswith(":8000")
    return (parsed[0], int(default_port)) if is_bare else parsed


def import_app(target: str) -> Callable[..., Any]:
    """Imports the application that `MODULE`, `MODULE:NAME` or `MODULE:FACTORY()` names."""
    module, _, name = target.partition(":")
    name = name or "application"
    found = importlib.import_module(module)
    is_factory = name.endswith("()")
    application: Callable[..., Any] = getattr(found, name.removesuffix("()"))
    return application() if is_factory else application


def bytes_to_str(value: str | bytes) -> str:
    """The text."""
    return value if isinstance(value, str) else value.decode("latin-1")


def http_date(timestamp: float | None = None) -> str:
    """A moment as HTTP writes it."""
    return email.utils.formatdate(time.time() if timestamp is None else timestamp, usegmt=True)


def close_on_exec(descriptor: int) -> None:
    """Has programs that are started not inherit it."""
    fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_non_blocking(descriptor: int) -> None:
    """Has it not wait."""
    os.set_blocking(descriptor, False)


def is_ipv6(text: str) -> bool:
    """Whether it is such an address."""
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True


def check_is_writable(path: str) -> None:
    """Raises if the file cannot be written."""
    try:
        with Path(path).open("a"):
            pass
    except OSError as error:
        raise RuntimeError(f"Error: {path!r} isn't writable [{error!r}]") from error


def unlink(path: str) -> None:
    """Removes a file that may be gone."""
    Path(path).unlink(missing_ok=True)


def warn(message: str) -> None:
    """Writes a warning to standard error."""
    print(f"\nWARNING: {message}\n", file=sys.stderr)
