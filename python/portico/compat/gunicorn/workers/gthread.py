"""gunicorn.workers.gthread"""

from portico.compat.gunicorn.workers import base

__all__ = ["ThreadWorker"]


class ThreadWorker(base.Worker):
    """Threads."""
