"""gunicorn.http.wsgi: what configurations derive from to change the fields of responses. It is not called."""

from __future__ import annotations

from typing import Any

from portico.compat.gunicorn import SERVER, SERVER_SOFTWARE

__all__ = ["SERVER", "SERVER_SOFTWARE", "Response"]


class Response:
    """A response; the server makes its own."""

    def default_headers(self, *_arguments: Any, **_keywords: Any) -> list[str]:
        """The fields that the server adds."""
        return []
