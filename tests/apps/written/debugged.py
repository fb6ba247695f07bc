"""An application that stops in the debugger."""


def application(environ, start_response):
    secret = 6 * 7
    breakpoint()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(secret).encode()]
