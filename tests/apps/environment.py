"""Tells the environment of its process, or of the request, a variable a line."""

import logging
import os


def _lines(start_response, variables):
    body = "\n".join(f"{name}={value}" for name, value in sorted(variables.items())).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def application(environ, start_response):
    return _lines(start_response, os.environ)


def of_request(environ, start_response):
    return _lines(start_response, environ)


def make(global_conf):
    """The factory that files of PasteDeploy name."""
    logging.info("made")
    return application
