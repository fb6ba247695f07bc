"""A worker that has become too large asks for its end."""

import resource

LIMIT_KIB = 1


def post_request(worker, req):
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > LIMIT_KIB and req.path == "/large":
        worker.log.info("worker %s is too large", worker.pid)
        worker.alive = False
