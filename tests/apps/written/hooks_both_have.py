"""A gunicorn configuration whose hooks tell where they run and with what."""

import os

from harness.rendezvous import Rendezvous

master = os.getpid()


def tell(name, *said):
    where = "master" if os.getpid() == master else "worker"
    Rendezvous.from_environment().emit(" ".join([where, name, *map(str, said)]))


def on_starting(server):
    tell("on_starting")


def on_reload(server):
    tell("on_reload")


def when_ready(server):
    tell("when_ready", len(server.LISTENERS), len(server.WORKERS))


def pre_fork(server, worker):
    tell("pre_fork", worker.pid, worker.age)


def post_fork(server, worker):
    tell("post_fork", worker.pid == os.getpid(), worker.ppid == server.pid)


def post_worker_init(worker):
    tell("post_worker_init", callable(worker.wsgi), worker.alive, worker.booted)


def worker_int(worker):
    tell("worker_int", worker.pid == os.getpid())


def child_exit(server, worker):
    tell("child_exit", worker.pid in server.WORKERS)


def worker_exit(server, worker):
    tell("worker_exit", worker.pid == os.getpid())


def nworkers_changed(server, new, old):
    tell("nworkers_changed", new, old, server.num_workers)


def on_exit(server):
    tell("on_exit")


def pre_request(worker, req):
    tell("pre_request", req.method, req.uri, req.path, req.query, req.version, sorted(req.headers))


def post_request(worker, req, environ, resp):
    tell("post_request", req.path, environ["PATH_INFO"], resp.status, resp.sent)
