"""Answers of many bytes, and one that ends too early."""

from __future__ import annotations

from apps.echo import application as echo


def application(environ, start_response):
    """/body: the request's body; /file?PATH: a file; /cut: fewer bytes than announced; else as the echo."""
    path = environ["PATH_INFO"]
    if path == "/body":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/file":
        file = open(environ["QUERY_STRING"], "rb")
        length = file.seek(0, 2)
        file.seek(0)
        start_response("200 OK", [("Content-Length", str(length))])
        return environ["wsgi.file_wrapper"](file)
    if path == "/cut":
        start_response("200 OK", [("Content-Length", "1000")])
        return [b"x" * 10]
    return echo(environ, start_response)
