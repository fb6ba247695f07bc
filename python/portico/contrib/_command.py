"""Going on as the command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def become(arguments: Sequence[str]) -> NoReturn:
    """Replaces this process by ``portico`` with these arguments.

    A framework's command has imported the application, and could not import what changes.
    """
    flags = [f"-W{option}" for option in sys.warnoptions]
    flags += [f"-X{name}" if value is True else f"-X{name}={value}" for name, value in sys._xoptions.items()]
    paths = [path for path in sys.path[:1] if path and os.path.abspath(path) != os.getcwd()]
    arguments = [*(f"--pythonpath={os.path.abspath(path)}" for path in paths), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *flags, "-m", "portico", *arguments])


def options(bind: str, reload: bool, threading: bool) -> list[str]:
    """The arguments of a server for development."""
    words = [f"--bind={bind}", "--workers=1", "--timeout=0", "--graceful-timeout=2"]
    words += ["--access-logfile=-", '--access-logformat=%(t)s "%(r)s" %(s)s %(b)s']
    words += [] if threading else ["--threads=1"]
    return [*words, "--reload"] if reload else words
