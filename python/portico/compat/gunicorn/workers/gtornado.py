"""gunicorn.workers.gtornado"""

from portico.compat.gunicorn.workers.base import Worker

__all__ = ["TornadoWorker"]


class TornadoWorker(Worker):
    """Tornado's loop."""
