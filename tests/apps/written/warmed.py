"""An application that tells of each request and fails at its warm-up where it is asked to."""

import os

from apps.meeting import rendezvous
from apps.processes import application as inner


def application(environ, start_response):
    target = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
    rendezvous.emit(f"{environ['REQUEST_METHOD']} {target} {os.getpid()}")
    if environ["PATH_INFO"] == "/failing":
        start_response("500 Internal Server Error", [])
        return []
    if environ["PATH_INFO"] == "/hanging":
        rendezvous.hold("never", 60)
    return inner(environ, start_response)
