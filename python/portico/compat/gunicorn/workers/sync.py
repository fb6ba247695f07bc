"""gunicorn.workers.sync"""

from portico.compat.gunicorn.workers import base

__all__ = ["SyncWorker"]


class SyncWorker(base.Worker):
    """One request at a time."""
