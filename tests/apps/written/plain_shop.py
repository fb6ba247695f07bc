"""A WSGI application for the agents' middleware."""

from apps.routes import plain


def app(environ, start_response):
    return plain(start_response, environ["HTTP_TRACEPARENT"])
