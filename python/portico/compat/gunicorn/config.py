"""gunicorn.config: the settings as hooks see them."""

from __future__ import annotations

from pathlib import Path

from portico._gunicorn.config import Config, Setting

__all__ = ["Config", "Setting", "get_default_config_file"]


def get_default_config_file() -> str | None:
    """The file of the current folder, if there is one."""
    path = Path.cwd() / "gunicorn.conf.py"
    return str(path) if path.exists() else None
