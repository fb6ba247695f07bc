"""The application that brings the command, and a look whether another one's stands before it."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.core import checks

NAME = "portico.contrib.django"
OTHERS = ("django.contrib.staticfiles", "daphne")


class PorticoConfig(AppConfig):
    """Portico, for Django."""

    name = NAME
    label = "portico"
    verbose_name = "Portico"

    def ready(self) -> None:
        """Has ``manage.py check`` look at the order of the applications."""
        checks.register(check_order)


def check_order(**_: Any) -> list[checks.CheckMessage]:
    """The first application that has a command of a name is asked for it."""
    names = [config.name for config in apps.get_app_configs()]
    before = [name for name in names[: names.index(NAME)] if name in OTHERS]
    hint = f"Move {NAME!r} before {before[0]!r} in INSTALLED_APPS." if before else None
    return [checks.Warning("runserver is not Portico's.", hint=hint, id="portico.W001")] if before else []
