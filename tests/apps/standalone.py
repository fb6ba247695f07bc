"""A program that is its own server, as gunicorn's documentation shows it (custom application)."""

import os

from portico.compat.gunicorn.app.base import BaseApplication


def post_fork(server, worker):
    server.log.info("forked %s", os.getpid())


def handler_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['wsgi.multiprocess']} {os.getpid()}".encode()]


class StandaloneApplication(BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        config = {k: v for k, v in self.options.items() if k in self.cfg.settings and v is not None}
        config["workers"] = int(open("workers").read())
        for key, value in config.items():
            self.cfg.set(key.lower(), value)

    def load(self):
        return self.application


if __name__ == "__main__":
    options = {"bind": "127.0.0.1:0", "threads": 2, "post_fork": post_fork, "nonsense": 1, "pidfile": None}
    StandaloneApplication(handler_app, options).run()
