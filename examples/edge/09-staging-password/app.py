"""An application that says which path it was asked for."""


def app(environ, start_response):
    body = f"app {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
