"""gunicorn.workers.gasgi"""

from portico.compat.gunicorn.workers import base

__all__ = ["ASGIWorker"]


class ASGIWorker(base.Worker):
    """Serves ASGI applications, which Portico does not."""
