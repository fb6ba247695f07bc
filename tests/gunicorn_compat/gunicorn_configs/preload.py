"""The application once, in the parent; connections are made anew."""

preload_app = True
workers = 2


def pre_fork(server, worker):
    server.log.info("closing what the parent has opened, before worker %s", worker.age)


def post_fork(server, worker):
    import random

    random.seed()
