"""What tests of guarded routes share: all the ways in which one path can be written."""

from __future__ import annotations

from harness.http_client import request_bytes

# Of `/admin`: with each of these a client may try to get around the route for it.
SPELLINGS = [
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x=/",
    "/admin;x",
    "/admin;x/y",
    "//admin",
    "///admin//x",
    "/./admin",
    "/admin/.",
    "/x/../admin",
    "/admin/../admin",
    "/x/%2e%2e/admin",
    "/x/%2E./admin",
    "/%2e/admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/admi%6E/x",
    "/%2fadmin",
    "/%2Fadmin",
    "/admin%2fx",
    "/x%2f..%2fadmin",
    "/admin%00",
    "/admin%00.css",
    "/admin/..;/admin",
    "/x;/../admin",
    "/%5cadmin",
    "/x\\..\\admin",
    "/x/..%5cadmin",
    "/admin/%2e%2e/admin",
    "/%252fadmin/../admin",
    "http://test/admin",
    "http://test//admin",
    "http://TEST:80/%61dmin",
    "http://test/x/../admin",
]

# These are other paths: no application takes them for `/admin`.
OTHERS = {"/admin;x", "/admin;x/y", "/%5cadmin", "/x\\..\\admin", "/x/..%5cadmin"}


def one(site, target, method="GET", fields=(), body=None, host="test"):
    """The response to one request on a connection of its own."""
    with site.connect() as client:
        client.send(request_bytes(method, target, fields, body=body, host=host))
        return client.read_response(method)
