"""The smallest WSGI application: what `make serve` serves."""


def application(environ, start_response):
    """Greets (PEP 3333)."""
    body = b"Hello from Portico\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
