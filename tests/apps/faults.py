"""Fails whatever is asked."""


def application(environ, start_response):
    """Raises."""
    raise ValueError("planted error")
