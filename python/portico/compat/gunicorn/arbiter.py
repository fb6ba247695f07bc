"""gunicorn.arbiter: the class of what hooks get as `server`, and its constants."""

from portico._gunicorn.server import Server as Arbiter

__all__ = ["Arbiter"]
