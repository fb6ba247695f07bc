"""Waits, whatever it is asked for, until the test lets it go on."""

from apps.meeting import rendezvous


def application(environ, start_response):
    """At one gate for all requests."""
    rendezvous.hold("answers")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"answered"]
