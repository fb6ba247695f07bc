"""The least of a router: a WSGI application made of functions by path."""

from __future__ import annotations

from urllib.parse import parse_qsl


class Routes:
    """Maps paths to WSGI applications; `/ping` answers with X-Ping, to check that framing is kept."""

    def __init__(self) -> None:
        self.applications = {"/ping": ping}

    def __call__(self, path: str):
        """Decorator that registers a WSGI application under a path."""

        def register(application):
            assert path not in self.applications, path
            self.applications[path] = application
            return application

        return register

    def include(self, other: Routes) -> None:
        """Takes over the paths of another."""
        self.applications |= other.applications

    def application(self, environ, start_response):
        """The WSGI application."""
        return self.applications.get(environ["PATH_INFO"], not_found)(environ, start_response)


def ping(environ, start_response):
    """Answers `pong TOKEN`."""
    return plain(start_response, f"pong {environ.get('HTTP_X_PING', '')}")


def not_found(environ, start_response):
    """404."""
    return plain(start_response, "no such path", "404 Not Found")


def plain(start_response, text, status="200 OK"):
    """A short answer in one block."""
    start_response(status, [("Content-Type", "text/plain")])
    return [text.encode()]


def parameters(environ) -> dict[str, str]:
    """The query's parameters."""
    return dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
