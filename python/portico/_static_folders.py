"""Folders of static files that applications have set up: Django's STATIC_ROOT, and Flask's folder.

Only looks: a setting of Django is read past its cache, which keeps a URL with the prefix of the moment, and
nothing is imported that the application has not imported.

Portico serves a folder only where nothing of the application can stand between a client and a file. What may
is told as `Unserved`, and the application goes on serving its files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from urllib.parse import unquote, urlsplit

STATICFILES = "django.contrib.staticfiles"
# Middleware, and classes around an application, that serve STATIC_ROOT themselves.
SERVERS = ("whitenoise.", "servestatic.")
# Methods of Django's handler that a request passes, in the order in which it does.
DJANGO_METHODS = ("__call__", "get_response", "_get_response", "resolve_request")
# Those of Flask that a request of a static file passes.
FLASK_METHODS = (
    "__call__",
    "wsgi_app",
    "request_context",
    "full_dispatch_request",
    "preprocess_request",
    "dispatch_request",
    "send_static_file",
    "get_send_file_max_age",
    "finalize_request",
    "process_response",
)
# Where Flask makes its view of static files.
FLASK_MODULES = ("flask.app", "flask.sansio.app")
# Functions that Flask calls for each request, and what registers them.
FLASK_FUNCTIONS = {
    "before_request_funcs": "before_request",
    "after_request_funcs": "after_request",
    "url_value_preprocessors": "url_value_preprocessor",
}
# Middleware in which a Flask application is looked for.
WRAPPERS_MAX = 16


@dataclass(frozen=True)
class StaticFolder:
    """A folder, and where it is to be served."""

    # Number of its application, in the order in which they are given.
    application: int
    kind: str
    # Decoded, with a slash at its beginning and none at its end.
    path: str
    # Whether the path is below that of the application.
    is_relative: bool
    folder: str
    allow_origin: bool = False
    # Seconds for which clients keep a file, where the application says so.
    max_age: int | None = None


@dataclass(frozen=True)
class Unserved:
    """Why a folder that an operator may expect to be served is not."""

    reason: str


Found = StaticFolder | Unserved


def find(applications: Sequence[Any], mounts: Sequence[str], root_path: str) -> list[Found]:
    """What is to be served, and what is not for a reason; `mounts` are the paths of the applications.

    The first application is the main one, or None.
    """
    found = [flask_folder(number, application) for number, application in enumerate(applications)]
    return [one for one in (django_folder(applications, mounts, root_path), *found) if one]


def django_folder(applications: Sequence[Any], mounts: Sequence[str], root_path: str) -> Found | None:
    """Django's STATIC_ROOT; None where there is none, or where Django itself serves static files (DEBUG).

    The project's own middleware, such as Django's LoginRequiredMiddleware, does not matter: Django does not
    serve STATIC_ROOT, but collects it for a web server to publish. WSGI middleware may serve it, or guard it.
    """
    module: Any = sys.modules.get("django.conf")
    settings = getattr(module, "settings", None)
    if settings is None or not settings.configured:
        return None
    root = raw(settings, "STATIC_ROOT")
    if raw(settings, "DEBUG") or not root or not os.path.isdir(root) or not has_staticfiles(settings):
        return None
    if any(derives(type(one), (f"{STATICFILES}.",)) for one in applications):
        return None  # `runserver --insecure`: it serves the sources.
    if name := server_beside(settings, applications):
        return Unserved(f"{name} serves Django's STATIC_ROOT; without it Portico would")
    number = django_number(applications)
    if number is None:
        return Unserved(
            "Django's STATIC_ROOT is not served: no application that Portico calls is Django's own "
            "WSGIHandler, and what is around it may guard its files"
        )
    if uploads := uploads_below(settings, root):
        return Unserved(f"Django's STATIC_ROOT is not served: {uploads} is in it, and uploads are not public")
    # What was asked for by now counts, with the prefix that it was given then.
    url = settings.__dict__.get("STATIC_URL") or raw(settings, "STATIC_URL")
    parts = urlsplit(url or "")
    path = unquote(parts.path).rstrip("/")
    if parts.netloc:
        return Unserved(f"STATIC_URL is {url}, of another host; Django's STATIC_ROOT is left to that")
    if not path:
        return Unserved("STATIC_URL is all of the site; --static serves Django's STATIC_ROOT at a path")
    is_relative = not path.startswith("/")
    if not is_relative:
        prefixes = [root_path] if mounts[number] else [root_path, raw(settings, "FORCE_SCRIPT_NAME") or ""]
        path = next((path[len(one) :] for one in prefixes if is_below(path, one)), path)
    folder = os.path.abspath(root)
    path = path if path.startswith("/") else f"/{path}"
    return StaticFolder(number, "Django's STATIC_ROOT", path, is_relative, folder, allow_origin=True)


def raw(settings: Any, name: str) -> Any:
    """A setting, not kept by Django's cache of them."""
    return getattr(settings._wrapped, name, None)


def is_below(path: str, prefix: str) -> bool:
    """Whether a path lies below a prefix that is one."""
    prefix = prefix.rstrip("/")
    return bool(prefix) and path.startswith(f"{prefix}/")


def has_staticfiles(settings: Any) -> bool:
    """Whether the application for static files is installed, by its name or by that of its class."""
    installed = raw(settings, "INSTALLED_APPS") or ()
    return any(name == STATICFILES or name.startswith(f"{STATICFILES}.") for name in installed)


def server_beside(settings: Any, applications: Sequence[Any]) -> str | None:
    """What else serves static files: WhiteNoise, or one made after it, or a class derived from theirs."""
    middleware = [name for name in raw(settings, "MIDDLEWARE") or () if isinstance(name, str)]
    served = (name for name in middleware if name.startswith(SERVERS) or derives(imported(name), SERVERS))
    around = (type_name(one) for one in applications if derives(type(one), SERVERS))
    return next(served, None) or next(around, None)


def imported(name: str) -> Any:
    """What a dotted name stands for, if its module has been imported."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def derives(one: Any, modules: tuple[str, ...]) -> bool:
    """Whether a class, or one of those that it is derived from, is of these modules."""
    return isinstance(one, type) and any(f"{base.__module__}.".startswith(modules) for base in one.__mro__)


def type_name(one: Any) -> str:
    """The name of the class of an object, in full."""
    return f"{type(one).__module__}.{type(one).__qualname__}"


def django_number(applications: Sequence[Any]) -> int | None:
    """Which application is Django's own handler. None where Portico calls none, but something around it."""
    return next((number for number, one in enumerate(applications) if is_django(one)), None)


def is_django(application: Any) -> bool:
    """Whether it is Django's handler, with the methods that Django gave it."""
    bases = type(application).__mro__
    handler = next((base for base in bases if base.__module__ == "django.core.handlers.wsgi"), None)
    return handler is not None and replaced(application, handler, DJANGO_METHODS) is None


def replaced(one: Any, base: type, methods: Sequence[str]) -> str | None:
    """The first of the methods that an object of a class derived from `base` has not from `base`."""
    own = attribute(one, "__dict__") or {}
    others = (name for name in methods if name in own or method(type(one), name) is not method(base, name))
    return next(others, None)


def method(one: type, name: str) -> Any:
    """A method as a class, or one that it is derived from, has it; not that of the class of classes."""
    return next((vars(base)[name] for base in one.__mro__ if name in vars(base)), None)


def uploads_below(settings: Any, root: Any) -> str | None:
    """The folder of uploads that lies in STATIC_ROOT: MEDIA_ROOT, or that of another storage."""
    folders = {"MEDIA_ROOT": raw(settings, "MEDIA_ROOT")}
    for alias, storage in (raw(settings, "STORAGES") or {}).items():
        if alias != "staticfiles":
            folders[f"the folder of STORAGES[{alias!r}]"] = (storage.get("OPTIONS") or {}).get("location")
    outer = os.path.realpath(root)
    return next((name for name, folder in folders.items() if folder and is_within(folder, outer)), None)


def is_within(folder: Any, outer: str) -> bool:
    """Whether a folder is another one or lies below it, through links or not."""
    inner, outer = os.fspath(folder), outer.rstrip("/") + "/"
    return any(f"{path}/".startswith(outer) for path in (os.path.abspath(inner), os.path.realpath(inner)))


def flask_folder(number: int, application: Any) -> Found | None:
    """The folder of a Flask application, unless something of the application may guard it."""
    module: Any = sys.modules.get("flask.app")
    if module is None:
        return None
    # By the type itself: a proxy of an object says that it is of that object's class.
    inner = next((one for one in held(application) if issubclass(type(one), module.Flask)), None)
    if inner is None or inner.debug:
        return None
    folder, path = inner.static_folder, (inner.static_url_path or "").rstrip("/")
    # The path "/" is all of the site.
    if not folder or not path or not os.path.isdir(folder):
        return None
    if inner.view_functions.get("static") is None or inner.url_map.host_matching:
        return None
    guard = around_flask(application, inner) or flask_guard(inner, module.Flask, path)
    if guard is not None:
        return Unserved(
            f"the Flask application serves {path}/ itself, since {guard} may guard it; "
            f"--static {path}={folder} has Portico do it"
        )
    age = inner.config.get("SEND_FILE_MAX_AGE_DEFAULT")
    seconds = int(age.total_seconds()) if hasattr(age, "total_seconds") else age
    kind = "Flask's static folder"
    return StaticFolder(number, kind, path, True, os.path.abspath(folder), max_age=seconds)


def held(application: Any) -> Iterator[Any]:
    """An application, and those that it may be around: its attributes, and what a function closes over."""
    waiting, seen = [application], set[int]()
    while waiting and len(seen) < WRAPPERS_MAX:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inside = [attribute(one, "__self__"), attribute(one, "__wrapped__")]
        inside += (attribute(one, "__dict__") or {}).values()
        inside += [attribute(cell, "cell_contents") for cell in attribute(one, "__closure__") or ()]
        waiting += [other for other in inside if callable(other) and not isinstance(other, type)]


def attribute(one: Any, name: str) -> Any:
    """An attribute of an application, of which nothing is called for it but its descriptors."""
    try:
        return object.__getattribute__(one, name)
    except Exception:  # It has none, or a proxy has nothing to stand for.
        return None


def around_flask(application: Any, inner: Any) -> str | None:
    """What Portico calls in place of the Flask application."""
    if application is inner:
        return None
    if getattr(application, "__self__", None) is inner:
        return "the function that is called in its place"
    return f"what is around it ({type_name(application)})"


def flask_guard(application: Any, flask: type, path: str) -> str | None:
    """What of a Flask application may keep clients from its static files, or change the responses."""
    if name := replaced(application, flask, FLASK_METHODS) or patched(flask):
        return f"a {name} that is not Flask's"
    view = application.view_functions["static"]
    # `functools.wraps` gives a function the names of another one, but not its globals.
    if type(view) is not FunctionType or view.__globals__.get("__name__") not in FLASK_MODULES:
        return "a view of static files that is not Flask's"
    rules = [rule for rule in application.url_map.iter_rules() if rule.rule.startswith(f"{path}/")]
    if [(rule.rule, rule.endpoint) for rule in rules] != [(f"{path}/<path:filename>", "static")]:
        return "another route below that path"
    registered = (name for field, name in FLASK_FUNCTIONS.items() if getattr(application, field).get(None))
    function = next(registered, None)
    return function and f"its {function} functions"


def patched(flask: type) -> str | None:
    """The first method of Flask's class that a monitor, or a guard, has replaced."""
    for name in FLASK_METHODS:
        function = method(flask, name)
        module = function.__globals__.get("__name__", "") if type(function) is FunctionType else ""
        if not module.startswith("flask."):
            return name
    return None
