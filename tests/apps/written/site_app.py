"""The application of a project that is being developed."""

import os
from pathlib import Path

from blog import views

from apps.meeting import rendezvous

TEMPLATE = (Path(__file__).parent / "blog/templates/page.html").read_text()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hold":
        rendezvous.hold("call")
    if path == "/long":
        rendezvous.hold("never", 60)
    if path == "/lazy":
        from blog import lazy

        body = lazy.VERSION
    else:
        body = {"/pid": os.getpid(), "/template": TEMPLATE}.get(path, views.VERSION)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(body).encode()]
