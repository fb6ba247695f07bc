"""The shop, below /shop."""


def app(environ, start_response):
    body = f"shop {environ['SCRIPT_NAME']!r} {environ['PATH_INFO']!r}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
