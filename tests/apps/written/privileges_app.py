"""Tells as whom it was imported and runs."""

import json
import os


def application(environ, start_response):
    body = json.dumps({"uid": os.geteuid(), "pid": os.getpid()}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
