"""Reads a configuration file in Python, as gunicorn does: it is executed, and its names are settings.

What can be written as text goes to the table of settings, which checks it. Hooks, classes and dictionaries
stay objects of Python.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import linecache
import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

from portico._gunicorn import worker_class
from portico._gunicorn.hooks import HOOKS, REFUSED, Misfit, resolve
from portico.compat import finder

MODULE = "__config__"

# Objects that have no text.
OBJECTS = ("logconfig_dict", "logger_class")

# Where an empty text is not the same as nothing said: nobody is trusted.
EMPTY_COUNTS = ("forwarded_allow_ips", "forwarder_headers", "proxy_allow_ips", "uwsgi_allow_ips")


# Ways to say of the workers that they stay root's.
ROOT = (None, "", "root", 0, "0")


class Unusable(Exception):
    """What the file says cannot be used: what is wrong, in one line, and where."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


class ConfFile:
    """A configuration file that was executed."""

    def __init__(self, module: ModuleType, path: str | None) -> None:
        self.module = module
        self.path = path
        self.lines = assignments(path)
        self.hooks: dict[str, Callable[..., Any]] = {}
        # What was said, as it was said, by gunicorn's names.
        self.objects: dict[str, Any] = {}
        # Name, texts and line of each setting.
        self.values: list[tuple[str, list[str], int | None]] = []
        # What its operator should know: the line and what to say.
        self.warnings: list[tuple[int | None, str]] = []
        # Names that are no settings, but might be meant as such, their lines, and whether they are functions.
        self.others: list[tuple[str, int | None, bool]] = []

    def take(self, known: Mapping[str, str]) -> None:
        """Sorts the names of the module; `known` are those of settings, with how each is written."""
        for name, value in list(vars(self.module).items()):
            if name in known or name in HOOKS or name in REFUSED or name in OBJECTS:
                try:
                    self.take_setting(name, value, known.get(name, ""))
                except Misfit as error:
                    raise Unusable(f"{name}: {error}", self.lines.get(name)) from error.__cause__
            elif could_be_meant(name, value):
                self.others.append((name, self.lines.get(name), inspect.isfunction(value)))
        self.take_server()
        if "logger_class" in self.objects:
            # Its format may have atoms of its own, which the server knows nothing of.
            self.values = [value for value in self.values if value[0] != "access_log_format"]

    def take_setting(self, name: str, value: Any, written: str) -> None:
        """Takes one setting; None is its default."""
        if value is None:
            return
        if name in HOOKS:
            value = self.hooks[name] = resolve(name, value)
            texts = [function_text(name, value)]
        elif name in REFUSED:
            texts = [function_text(name, value)]
        elif name in OBJECTS:
            texts = object_texts(name, value)
        else:
            if inspect.isfunction(value) and name.endswith("_class"):
                value = value()
            if isinstance(value, (list, tuple, set, frozenset)) and written not in MANY:
                value = self.single(name, list(value))
                texts = [] if value is None else [scalar_text(value, written)]
            else:
                texts = setting_texts(value, written)
        if isinstance(value, (list, tuple, set, frozenset)) and not texts:
            texts = ["none"] if name == "forwarded_headers" else [""]
        if texts and (texts != [""] or name in EMPTY_COUNTS):
            self.objects[name] = value
            self.values.append((name, texts, self.lines.get(name)))

    def single(self, name: str, values: list[Any]) -> Any:
        """The one value of a setting that takes no more, of which several are said. None if there is none."""
        if values:
            what = "its only item" if len(values) == 1 else "the last of its items"
            self.warnings.append((self.lines.get(name), f"{name} is one value, and {what} counts"))
        return values[-1] if values else None

    def take_server(self) -> None:
        """What the file calls the server: variables of the package gunicorn (`gunicorn.SERVER = "shop"`)."""
        package = sys.modules.get(finder.NAME)
        for name, default in finder.default_names().items():
            said = getattr(package, name, default)
            is_said = any(setting == "server_header" for setting, _, _ in self.values)
            if said != default and not is_said:
                self.values.append(("server_header", [str(said).strip() or "none"], self.lines.get(name)))
        names = [f"{package}.http.wsgi" for package in (finder.NAME, finder.OURS)]
        wsgi = next((sys.modules[name] for name in names if name in sys.modules), None)
        if wsgi and bare_name(wsgi.Response.__module__) != bare_name(wsgi.__name__):
            told = "gunicorn.http.wsgi.Response is not called here; say server_header in its place"
            self.warnings.append((None, told))

    def judge_worker(self, name: str, folders: list[str]) -> worker_class.Judgement:
        """What the class of workers that `name` names amounts to; `folders` are looked in first."""
        said = self.objects.get("worker_class")
        try:
            if inspect.isclass(said) and scalar_text(said, "") == name:
                return worker_class.judge(said)
            return worker_class.examine(name, folders)
        except worker_class.Unfit as error:
            raise Unusable(str(error)) from None


# How those settings are written that take several values.
MANY = ("list", "texts")


def bare_name(module: str) -> str:
    """The name of a module as gunicorn's users write it."""
    return module.removeprefix("portico.compat.")


def judge_worker(conf: ConfFile | None, name: str, folders: list[str]) -> worker_class.Judgement:
    """The same, where there may be no file."""
    return (conf or ConfFile(ModuleType(MODULE), None)).judge_worker(name, folders)


def read(place: str, is_module: bool, known: Mapping[str, str]) -> ConfFile:
    """Executes the file at `place`, or the module of that name, and takes what it says."""
    finder.install()
    package = sys.modules.get(finder.NAME)
    for name, default in finder.default_names().items():
        setattr(package, name, default)  # A reload hears what is said now.
    try:
        module = import_module(place) if is_module else execute(place)
    except BaseException as error:
        error.__traceback__ = beyond_reader(error.__traceback__)
        raise
    conf = ConfFile(module, getattr(module, "__file__", None) if is_module else place)
    conf.take(known)
    return conf


def beyond_reader(trace: TracebackType | None) -> TracebackType | None:
    """What of a traceback is the file's own."""
    while trace and trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__):
        trace = trace.tb_next
    return trace


def execute(path: str) -> ModuleType:
    """Executes the file as the module `__config__`. Nothing is written beside it."""
    loader = None if path.endswith((".py", ".pyc")) else SourceFileLoader(MODULE, path)
    spec = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    if path.endswith(".pyc"):
        spec.loader.exec_module(module)
    else:
        with open(path, "rb") as file:
            source = file.read()
        # A traceback shows what was run; it is not read again, from whatever the path leads to by then.
        lines = source.decode("utf-8", "replace").splitlines(keepends=True)
        linecache.cache[path] = (len(source), None, lines, path)
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    return module


def import_module(name: str) -> ModuleType:
    """Imports the module, anew if it has been imported before: a reload wants what is there now."""
    known = sys.modules.get(name)
    return importlib.reload(known) if known else importlib.import_module(name)


def setting_texts(value: Any, written: str) -> list[str]:
    """A value as the command line has it, one text for each time that the option would be given."""
    if isinstance(value, Mapping):
        # Of the settings of the table that are dictionaries, `none` empties each.
        return [item_text(f"{key}={item}", written) for key, item in value.items()] or ["none"]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [item_text(scalar_text(item, written), written) for item in value]
    return [scalar_text(value, written)]


def item_text(text: str, written: str) -> str:
    """An item of a list, in which a comma is one of its own."""
    return text.replace(",", "\\,") if written == "list" else text


def function_text(name: str, value: Any) -> str:
    """Stands for a function."""
    return f"{getattr(value, '__module__', None) or MODULE}.{getattr(value, '__qualname__', name)}"


def scalar_text(value: Any, written: str) -> str:
    """A single value as text."""
    if isinstance(value, bool):
        if written == "text":
            raise Misfit(f"{value!r} is no text; write a string")
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{int(value):o}" if written == "octal" else str(int(value))
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (str, os.PathLike)):
        return str(os.fspath(value)).strip()
    if inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    # Without the value, which may be a secret for `raw_env`.
    raise Misfit(f"a value is of type {type(value).__name__}, which no setting takes")


def object_texts(name: str, value: Any) -> list[str]:
    """Stands for an object in what the table of settings gets."""
    if name == "logconfig_dict":
        if not isinstance(value, Mapping):
            raise Misfit(f"{reprlib.repr(value)} is of type {type(value).__name__}; write a dictionary")
        return ["(a dictionary)"] if value else []
    if inspect.isfunction(value):
        value = value()
    if not isinstance(value, str) and not inspect.isclass(value):
        kind = type(value).__name__
        raise Misfit(f"{reprlib.repr(value)} is of type {kind}; write a class or its import string")
    return setting_texts(value, "")


def could_be_meant(name: str, value: Any) -> bool:
    """Whether a name might be a setting's, misspelt: helpers of the file are not looked at."""
    if inspect.isfunction(value):
        return value.__module__ == MODULE  # Others are imported.
    return name.islower() and not name.startswith("_") and isinstance(value, PLAIN)


# What settings are made of.
PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, os.PathLike, type(None))


def names_user(path: str | os.PathLike[str]) -> bool:
    """Whether the file says whose the workers are, and not plainly that they are root's. It is not run."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (SyntaxError, ValueError):
        return False  # It says nothing, then; or is a compiled one.
    finder = AssignmentFinder()
    finder.visit(tree)
    roots = {
        target.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value in ROOT
        for target in node.targets
    }
    return "user" in finder.lines and finder.lines["user"] not in roots


def assignments(path: str | None) -> dict[str, int]:
    """The last line that gives each name of the file its value."""
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return {}  # Such as a compiled file.
    finder = AssignmentFinder()
    finder.visit(tree)
    return finder.lines


class AssignmentFinder(ast.NodeVisitor):
    """Collects what is assigned, defined and imported on the level of the module."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}

    def visit_Name(self, node: ast.Name) -> None:
        """A target of an assignment."""
        if isinstance(node.ctx, ast.Store):
            self.lines[node.id] = node.lineno

    def visit_alias(self, node: ast.alias) -> None:
        """An import."""
        self.lines[node.asname or node.name] = node.lineno

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A function: its body is its own."""
        self.lines[node.name] = node.lineno

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """As another function."""
        self.lines[node.name] = node.lineno

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class."""
        self.lines[node.name] = node.lineno

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Nothing in it is the module's."""
