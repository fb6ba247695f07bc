"""gunicorn.workers.ggevent"""

from portico.compat.gunicorn.workers.base_async import AsyncWorker

__all__ = ["GeventPyWSGIWorker", "GeventWorker"]


class GeventWorker(AsyncWorker):
    """Greenlets of gevent."""

    server_class = None
    wsgi_handler = None


class GeventPyWSGIWorker(GeventWorker):
    """The same, with gevent's own server."""
