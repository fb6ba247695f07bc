"""Which extension module turns the GIL on, in a Python that is free-threaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import ModuleType


def watch(turned_on: Callable[[str, str | None], None]) -> None:
    """Calls `turned_on` with the name and the file of the module that turns the GIL on, when that is loaded.

    Python looks at a module's declaration in `create_module`. While it does, the GIL is on for all modules.
    """
    create = ExtensionFileLoader.create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        was_on = is_gil_enabled()
        try:
            return create(self, spec)
        finally:
            if not was_on and is_gil_enabled():
                turned_on(spec.name, spec.origin)

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]


# Since Python 3.13.
is_gil_enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
