"""Packages that a test's application needs, which are never imported here.

What an import does to the importing process outlives the test: eventlet makes every later fork warn.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import pytest


def skip_without(package: str) -> None:
    """Skips the test, or at a module's top level the module, where this distribution is not installed."""
    try:
        distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
