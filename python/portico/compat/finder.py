"""Has `portico.compat.gunicorn` answer under the name `gunicorn`, where no package of that name is there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["default_names", "install"]

NAME = "gunicorn"
OURS = f"portico.compat.{NAME}"


class Finder(MetaPathFinder):
    """Finds the modules of `gunicorn` in the package here, unless there is one that is really called so."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module here that stands for the one of that name."""
        if fullname == NAME:
            return None if is_installed(self) else importlib.util.spec_from_loader(fullname, Alias())
        if not fullname.startswith(f"{NAME}.") or not stands_in():
            return None
        if importlib.util.find_spec(f"portico.compat.{fullname}") is None:
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: {OURS} stands in for gunicorn and has none", name=fullname
            )
        return importlib.util.spec_from_loader(fullname, Alias())


class Alias(Loader):
    """Gives a module that is there already a second name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module here."""
        module = importlib.import_module(f"portico.compat.{spec.name}")
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed; the machinery has given it the specification of its second name."""
        module.__spec__ = self.spec


def install() -> None:
    """From now on. Others may be asked first, what they do not find is looked for here."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        # First of all: with the path of the package here others would find its modules, and load each twice.
        sys.meta_path.insert(0, Finder())


def stands_in() -> bool:
    """Whether the package here is what `gunicorn` names."""
    module = sys.modules.get(NAME)
    return module is not None and module.__name__ == OURS


def is_installed(asking: MetaPathFinder) -> bool:
    """Whether a package is really called so.

    A folder of that name without an `__init__.py`, as projects have for their configuration, is none.
    """
    for finder in sys.meta_path:
        find = None if finder is asking else getattr(finder, "find_spec", None)
        spec = find(NAME, None) if find else None
        if spec is not None and spec.origin is not None:
            return True
    return False


def default_names() -> dict[str, str]:
    """What the package that `gunicorn` names calls the server, where nobody has changed that."""
    module = sys.modules.get(NAME)
    if module is None:
        return {}
    if stands_in():
        return {"SERVER": "portico", "SERVER_SOFTWARE": "portico"}
    return {"SERVER": "gunicorn", "SERVER_SOFTWARE": f"gunicorn/{getattr(module, '__version__', '')}"}
