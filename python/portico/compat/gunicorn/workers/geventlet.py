"""gunicorn.workers.geventlet"""

from portico.compat.gunicorn.workers.base_async import AsyncWorker

__all__ = ["EventletWorker"]


class EventletWorker(AsyncWorker):
    """Greenlets of eventlet."""
