"""An application with a policy of its own for one page."""


def app(environ, start_response):
    body = f"app {environ['PATH_INFO']}\n".encode()
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    if environ["PATH_INFO"] == "/own":
        fields.append(("Content-Security-Policy", "default-src 'none'"))
    start_response("200 OK", fields)
    return [body]
