"""``"portico.contrib.django.middleware.RouteMiddleware"`` in MIDDLEWARE tells Portico the routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RouteMiddleware:
    """Tells the route of each request, ``users/<int:id>/`` and not ``users/7/``, for metrics and profiles."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)

    def process_view(self, request: Any, view: Any, arguments: Any, keywords: Any) -> None:
        """The request has been resolved."""
        tell = request.META.get("portico.route")
        if tell is not None and request.resolver_match is not None:
            tell(f"/{request.resolver_match.route}")
