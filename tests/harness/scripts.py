"""The scripts of .ci as modules."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from harness.server import TESTS


def load_script(name: str) -> ModuleType:
    """`.ci/<name>.py`."""
    spec = importlib.util.spec_from_file_location(name, TESTS.parent / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
