"""An application that imports of the standard library alone."""

import decimal


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(getattr(decimal, "OWN", "Python's")).encode()]
