"""gunicorn.workers.base_async"""

from portico.compat.gunicorn.workers import base

__all__ = ["AsyncWorker"]


class AsyncWorker(base.Worker):
    """Greenlets."""
