"""The scripts of .ci and tests/run.py as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from harness.server import TESTS


def load_script(name: str) -> ModuleType:
    """`.ci/<name>.py`."""
    return load(name, TESTS.parent / ".ci" / f"{name}.py")


def load(name: str, path: Path) -> ModuleType:
    """The script at `path`, under that name."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
