"""The pages of example.com."""


def app(environ, start_response):
    body = f"pages {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
