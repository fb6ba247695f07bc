"""The hooks of gunicorn.conf.py: which there are, what they take, and how they are found."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

# How many arguments each may take.
HOOKS: dict[str, tuple[int, ...]] = {
    "on_starting": (1,),
    "on_reload": (1,),
    "when_ready": (1,),
    "pre_fork": (2,),
    "post_fork": (2,),
    "post_worker_init": (1,),
    "worker_int": (1,),
    "worker_abort": (1,),
    "pre_exec": (1,),
    "pre_request": (2,),
    "post_request": (2, 3, 4),
    "child_exit": (2,),
    "worker_exit": (2,),
    "nworkers_changed": (3,),
    "on_exit": (1,),
}

# Hooks that the table of settings refuses, with what to do instead.
REFUSED = ("ssl_context", "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit")


class Misfit(Exception):
    """A value that its setting cannot take; the message says why."""


def resolve(name: str, value: Any) -> Callable[..., Any]:
    """The hook that `value` is or names, which takes as many arguments as it will get."""
    if isinstance(value, str):
        value = imported(value)
    if not callable(value):
        raise Misfit(f"{value!r} is of type {type(value).__name__}; write a function or its import string")
    arities = HOOKS[name]
    if not any(takes(value, arity) for arity in arities):
        wanted = " or ".join(str(arity) for arity in arities)
        plural = "" if arities == (1,) else "s"
        raise Misfit(f"it must take {wanted} argument{plural}, and its signature is {signature_text(value)}")
    hook: Callable[..., Any] = value
    return hook


def imported(name: str) -> Any:
    """What an import string such as `package.module.function` names."""
    module_name, dot, attribute = name.rpartition(".")
    if not dot:
        raise Misfit(f"{name!r} is no import string; write module.function")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        error.__traceback__ = beyond_import(error.__traceback__)
        told = f"{name!r} cannot be imported: {error}"
        # One that is not there has no place; one that fails has.
        raise Misfit(told) from (error if error.__traceback__ else None)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise Misfit(f"module {module_name!r} has no {attribute!r}") from None


def beyond_import(trace: TracebackType | None) -> TracebackType | None:
    """What of a traceback is that of the module that was imported."""
    while trace and (trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__) or is_frozen(trace)):
        trace = trace.tb_next
    return trace


def is_frozen(trace: TracebackType) -> bool:
    """Whether it is a frame of the machinery of imports."""
    return trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with `count` arguments by position, all of which it has a parameter for."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # Written in C, without a signature.
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in by_position for kind in kinds) == count


def arity(name: str, function: Callable[..., Any]) -> int:
    """With how many arguments it is called."""
    return max(count for count in HOOKS[name] if takes(function, count))


def signature_text(function: Callable[..., Any]) -> str:
    """For the operator."""
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "not known"
