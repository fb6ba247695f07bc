"""What the workers of ``runserver`` import."""

from __future__ import annotations

from typing import Any


def application(**options: Any) -> Any:
    """The project's application as runserver has it: checked, and with its static files."""
    import django

    django.setup()
    from portico.contrib.django.management.commands.runserver import Command

    return Command().prepare(**options)
