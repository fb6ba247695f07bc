"""Folders of static files that applications have set up: Django's STATIC_ROOT, and Flask's folder.

Only looks: a setting of Django is read past its cache, which keeps a URL with the prefix of the moment, and
nothing is imported that the application has not imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

STATICFILES = "django.contrib.staticfiles"
# Middleware, and classes around an application, that serve STATIC_ROOT themselves.
SERVERS = ("whitenoise.", "servestatic.")


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
    """Django's STATIC_ROOT; None where there is none, or where Django itself serves static files (DEBUG)."""
    module: Any = sys.modules.get("django.conf")
    settings = getattr(module, "settings", None)
    if settings is None or not settings.configured:
        return None
    root = raw(settings, "STATIC_ROOT")
    if raw(settings, "DEBUG") or not root or not os.path.isdir(root) or not has_staticfiles(settings):
        return None
    if any(type(one).__module__.startswith(f"{STATICFILES}.") for one in applications):
        return None  # `runserver --insecure`: it serves the sources.
    if name := server_beside(settings, applications):
        return Unserved(f"{name} serves Django's STATIC_ROOT; without it Portico would")
    number = django_number(applications)
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
    """What else serves static files: WhiteNoise, or one made after it."""
    middleware = [name for name in raw(settings, "MIDDLEWARE") or () if isinstance(name, str)]
    around = [f"{type(one).__module__}.{type(one).__qualname__}" for one in applications]
    return next((name for name in (*middleware, *around) if name.startswith(SERVERS)), None)


def django_number(applications: Sequence[Any]) -> int:
    """Which application is Django's; the first where none can be told, such as one in a middleware."""
    handlers = [
        number
        for number, one in enumerate(applications)
        if any(base.__module__.startswith("django.core.handlers.") for base in type(one).__mro__)
    ]
    given = (number for number, one in enumerate(applications) if one is not None)
    return handlers[0] if handlers else next(given, 0)


def flask_folder(number: int, application: Any) -> Found | None:
    """The folder of a Flask application, unless a function of the application may guard it."""
    flask: Any = sys.modules.get("flask")
    if flask is None or not isinstance(application, flask.Flask) or application.debug:
        return None
    folder, path = application.static_folder, application.static_url_path
    if not folder or not path or not os.path.isdir(folder):
        return None
    own = type(application).send_static_file is not flask.Flask.send_static_file
    if own or application.view_functions.get("static") is None or application.url_map.host_matching:
        return None
    path = path.rstrip("/")
    if not path:
        return None  # All of the site.
    if application.before_request_funcs.get(None):
        return Unserved(
            f"the Flask application serves {path}/ itself, which its before_request functions may guard; "
            f"--static {path}={folder} has Portico do it"
        )
    age = application.config.get("SEND_FILE_MAX_AGE_DEFAULT")
    seconds = int(age.total_seconds()) if hasattr(age, "total_seconds") else age
    kind = "Flask's static folder"
    return StaticFolder(number, kind, path, True, os.path.abspath(folder), max_age=seconds)
