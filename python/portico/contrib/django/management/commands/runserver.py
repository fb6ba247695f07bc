"""``runserver`` with Portico as the server: Django's own command but for what serves and what restarts."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand
from django.core.management.commands.runserver import Command as DjangosCommand
from django.db import connections
from django.utils import autoreload

from portico import __version__
from portico.contrib._command import become, options

if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import Command as DjangosCommand

# What tells applications that they serve, and are not the process that only watches files.
RUN_MAIN = "RUN_MAIN"
HANDLER_OPTIONS = ("use_static_handler", "insecure_serving", "skip_checks")


class Command(DjangosCommand):
    """Starts Portico for development."""

    help = "Starts Portico for development, with autoreload and static files."

    def run(self, **given: Any) -> None:
        """Goes on as Portico, which imports the application anew."""
        autoreload.raise_last_exception()
        address = "0.0.0.0" if self.addr == "0" else self.addr
        bind = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        os.environ[RUN_MAIN] = "true"
        chosen = ", ".join(f"{name}={given[name]!r}" for name in HANDLER_OPTIONS if name in given)
        target = f"portico.contrib.django.development:application({chosen})"
        become([*options(bind, given["use_reloader"], given["use_threading"]), target])

    def prepare(self, **given: Any) -> Any:
        """In a worker: what runserver looks at before it serves; the application with its static files."""
        first = os.environ.get("PORTICO_GENERATION", "0") == "0"
        if not given.get("skip_checks"):
            if first:
                self.stdout.write("Performing system checks...\n\n")
            checks = BaseCommand.get_check_kwargs(self, given)
            self.check(**{**checks, "display_num_errors": first})
        self.check_migrations()
        for connection in connections.all(initialized_only=True):
            connection.close()
        if first:
            self.greet()
        return self.get_handler(**given)

    def greet(self) -> None:
        """Says what is served, as Django does; Portico's log has said where."""
        self.stdout.write(
            f"{datetime.now().strftime('%B %d, %Y - %X')}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting Portico {__version__}, quit with CONTROL-C."
        )
