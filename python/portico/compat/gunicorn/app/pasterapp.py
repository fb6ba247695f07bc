"""gunicorn.app.pasterapp: Portico as the server of a PasteDeploy file, `use = egg:portico#main`."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portico._gunicorn.conf_file import execute
from portico.compat.gunicorn.app.base import BaseApplication

__all__ = ["serve"]


def serve(app: Callable[..., Any], global_conf: dict[str, str], **local_conf: str) -> None:
    """Serves `app` with the settings of the section, by gunicorn's names; `config` names a file with more."""
    PasteApplication(app, global_conf, local_conf).run()


class PasteApplication(BaseApplication):
    """What the section says."""

    def __init__(
        self, app: Callable[..., Any], global_conf: dict[str, str], local_conf: dict[str, str]
    ) -> None:
        self.app = app
        self.paste = global_conf.get("__file__", "")
        self.section = local_conf
        super().__init__()

    def load_config(self) -> None:
        """The configuration file that the section names, and above it the section."""
        section = dict(self.section)
        if has_logging(self.paste):
            self.cfg.set("logconfig", self.paste)
        path = section.pop("config", None) or "gunicorn.conf.py"
        if "config" in self.section or Path(path).is_file():
            for name, value in vars(execute(path)).items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)
        host, port = section.pop("host", ""), section.pop("port", "")
        if host or port:
            section["bind"] = f"{host}:{port}" if port else host
        for name, value in section.items():
            self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        """It is loaded already."""
        return self.app


def has_logging(path: str) -> bool:
    """Whether the file is one of logging.config as well."""
    parser = configparser.RawConfigParser(strict=False)
    parser.read(path)
    return parser.has_section("loggers")
