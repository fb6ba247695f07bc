"""Portico: a production WSGI application server.

From the shell: ``portico mysite.wsgi``. From Python: ``portico.serve(application, bind="127.0.0.1:8000")``.
"""

from portico._portico import (
    ClientDisconnected,
    FileWrapper,
    RequestCancelled,
    RequestTimeout,
    __version__,
    serve,
)

__all__ = ["ClientDisconnected", "FileWrapper", "RequestCancelled", "RequestTimeout", "__version__", "serve"]
