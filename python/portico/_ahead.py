"""Under --reload: modules of Python's own that most applications import, imported before workers are forked.

No save changes them, and to import them is a good part of importing a framework. Each worker finds them
there; what the application would find elsewhere under one of their names is not kept from it.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

NAMES = (
    "asyncio",
    "bz2",
    "concurrent.futures.thread",
    "csv",
    "dataclasses",
    "decimal",
    "difflib",
    "email.headerregistry",
    "email.mime.message",
    "email.mime.multipart",
    "email.mime.text",
    "fractions",
    "getpass",
    "gettext",
    "graphlib",
    "gzip",
    "hmac",
    "html.parser",
    "http.client",
    "http.cookies",
    "ipaddress",
    "json",
    "logging.config",
    "logging.handlers",
    "lzma",
    "mimetypes",
    "pickle",
    "platform",
    "pprint",
    "secrets",
    "shutil",
    "socketserver",
    "sqlite3",
    "ssl",
    "statistics",
    "sysconfig",
    "tempfile",
    "urllib.request",
    "uuid",
    "zipfile",
)
# What replaces parts of Python's own modules wants to come before them.
REPLACING = ("eventlet", "gevent")
STANDARD = os.path.dirname(os.__file__)

_imported: dict[str, ModuleType] = {}


def import_modules(folders: list[str]) -> None:
    """Imports them, from where Python's own modules are and from nowhere else.

    The application will look for modules in `folders` as well.
    """
    if any(is_there(name, folders) for name in REPLACING):
        return
    known, path = set(sys.modules), sys.path
    sys.path = [entry for entry in path if is_standard(entry)]
    try:
        for name in NAMES:
            try:
                import_module(name)
            except ImportError:
                pass  # A Python without it: the application will say so if it wants it.
    finally:
        sys.path = path
        _imported.update((name, module) for name, module in sys.modules.items() if name not in known)
    # What is there already is looked through for garbage again and again while an application is imported.
    gc.collect()
    gc.freeze()


def is_there(name: str, folders: list[str]) -> bool:
    """Whether a module has been imported, or could be."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return bool(find_spec(name) or PathFinder.find_spec(name, folders))


def is_standard(entry: str) -> bool:
    """Whether an entry of `sys.path` is Python's own."""
    inside = entry == STANDARD or entry.startswith(STANDARD + os.sep) or entry.endswith(".zip")
    return inside and "-packages" not in entry


def forget_hidden() -> None:
    """Has all imported anew if one of them is not what an import would find now."""
    if any(is_hidden(name, module) for name, module in _imported.items() if "." not in name):
        for name, module in _imported.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
    _imported.clear()


def is_hidden(name: str, module: ModuleType) -> bool:
    """Whether something else has its name and comes first on `sys.path`."""
    spec = module.__spec__
    if spec is None or not spec.has_location:
        return False  # Built in, which comes before all.
    found = PathFinder.find_spec(name)
    return found is None or found.origin != spec.origin
