"""How long requests take, by the hooks around them."""

import time

threads = 1


def pre_request(worker, req):
    worker.log.debug("%s %s", req.method, req.path)
    req.start = time.monotonic()


def post_request(worker, req, environ, resp):
    took = time.monotonic() - req.start
    worker.log.info("%s %s %s took %.3f s", req.method, req.path, resp.status, took)
