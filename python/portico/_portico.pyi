from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, ParamSpec, Protocol, final

__all__ = [
    "AfterResponseRefused",
    "ClientDisconnected",
    "FileWrapper",
    "MetricValue",
    "RequestCancelled",
    "RequestTimeout",
    "__version__",
    "after_response",
    "leave_slot",
    "main",
    "serve",
    "worker_slot",
]

__version__: str

_P = ParamSpec("_P")

class AfterResponseRefused(RuntimeError):
    """A function is not called after the response: too many wait for that, or this worker ends."""

def after_response(function: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Calls ``function(*args, **kwargs)`` in a thread of its own once the response has been handed over.

    That is after ``close()`` of what the application has returned. Of a thread that has no request it is
    called at once. It runs in a copy of the present context. Best effort: a process that dies takes it along,
    and so does a worker that ends when ``--graceful-timeout`` is over. It is
    ``environ["portico.after_response"]`` too.

    Raises AfterResponseRefused if 1,000 wait, if the worker ends, or outside of a worker.
    """

class ClientDisconnected(ConnectionError):
    """The client left before its request was read whole, or before its answer was written.

    Raised by what reads and writes, and with ``--on-disconnect raise`` in the thread of the request,
    wherever that is.
    """

class RequestCancelled(BaseException):
    """An operator has ended the request with ``portico cancel``.

    Raised in its thread, wherever that is; no ``Exception``, so that an application that catches those lets
    it through.
    """

class RequestTimeout(BaseException):
    """The request has taken longer than ``--timeout``.

    Raised in its thread, wherever that is; no ``Exception``, so that an application that catches those lets
    it through.
    """

class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

@final
class FileWrapper:
    """``environ["wsgi.file_wrapper"]`` (PEP 3333): iterates over a file-like object in blocks.

    It has what ``io.BufferedIOBase`` has, and whatever else the file-like object has; what that does not have
    raises ``io.UnsupportedOperation``.
    """

    filelike: _Readable
    blksize: int

    def __new__(cls, filelike: _Readable, blksize: int = 8192) -> FileWrapper: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def __enter__(self) -> FileWrapper: ...
    def __exit__(self, *exc_info: object) -> None: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None:
        """Closes the file-like object, if it can be closed."""

    def read(self, *arguments: Any) -> bytes: ...
    def read1(self, *arguments: Any) -> bytes: ...
    def readinto(self, buffer: Any) -> int: ...
    def readinto1(self, buffer: Any) -> int: ...
    def readline(self, *arguments: Any) -> bytes: ...
    def readlines(self, *arguments: Any) -> list[bytes]: ...
    def seek(self, *arguments: Any) -> int: ...
    def tell(self, *arguments: Any) -> int: ...
    def truncate(self, *arguments: Any) -> int: ...
    def detach(self, *arguments: Any) -> Any: ...
    def fileno(self, *arguments: Any) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...
    def readable(self) -> bool: ...
    def seekable(self) -> bool: ...
    def writable(self) -> bool: ...
    def write(self, *arguments: Any) -> int: ...
    def writelines(self, *arguments: Any) -> None: ...

@final
class MetricValue:
    """A value of a metric of prometheus_client in this worker's slot of shared memory."""

    @staticmethod
    def kept(key: str, name: str, is_gauge: bool, is_live: bool) -> MetricValue:
        """The value with this key, of the metric ``name``."""

    def inc(self, amount: float) -> None:
        """Adds to it."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets it, with the time at which it is so."""

    def get(self) -> float:
        """What it is."""

def worker_slot() -> int | None:
    """The number of this process' slot; None where it has none."""

def leave_slot() -> None:
    """To be called in a process that was forked from this one: it has no slot, until it is given one."""

_Setting = str | int | float | bool | PathLike[str] | None

def serve(
    app: str | Callable[[dict[str, Any], Any], Iterable[bytes]],
    /,
    **settings: _Setting | Sequence[_Setting],
) -> None:
    """Serves ``app``, a WSGI callable or a target such as ``"mysite.wsgi:application"``.

    Returns when a signal has stopped it. Settings are keyword arguments by the names of
    docs/reference/settings.md, such as ``bind="127.0.0.1:0"`` and ``threads=8``; repeatable ones take a list.
    To be called in the main thread: elsewhere no signal can stop it.

    Raises ValueError for a setting, TypeError for an ``app`` that cannot be called, ImportError for a target
    that cannot be loaded, OSError for an address that cannot be listened on.
    """

def main(arguments: Sequence[str]) -> int:
    """Runs the command line with these arguments and returns the exit status."""
