"""gunicorn.app.wsgiapp: the command as a class, and programs that derive from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from portico._portico import main
from portico.compat.gunicorn.app.base import Application
from portico.compat.gunicorn.util import import_app

__all__ = ["WSGIApplication", "run"]


class WSGIApplication(Application):
    """Serves `app_uri`, which a subclass sets or the command line names."""

    app_uri: str | None = None

    def load_wsgiapp(self) -> Callable[..., Any]:
        """Imports it."""
        if self.app_uri is None:
            raise RuntimeError("there is no app_uri to import the application from")
        return import_app(self.app_uri)

    def load(self) -> Callable[..., Any]:
        """The application."""
        return self.load_wsgiapp()

    def run(self) -> None:
        """Serves; what does not say what to serve is the command itself."""
        is_command = type(self).load is WSGIApplication.load and self.app_uri is None
        if is_command and not self.cfg.said:
            sys.exit(main(sys.argv[1:]))
        super().run()


def run(prog: str | None = None) -> None:
    """The command."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
