"""Portico: a production WSGI application server.

From the shell: ``portico mysite.wsgi``. From Python: ``portico.serve(application, bind="127.0.0.1:8000")``.
"""

from portico._portico import (
    AfterResponseRefused,
    ClientDisconnected,
    FileWrapper,
    RequestCancelled,
    RequestTimeout,
    __version__,
    after_response,
    serve,
)

__all__ = [
    "AfterResponseRefused",
    "ClientDisconnected",
    "FileWrapper",
    "RequestCancelled",
    "RequestTimeout",
    "__version__",
    "after_response",
    "serve",
]
