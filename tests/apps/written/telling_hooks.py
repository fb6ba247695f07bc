"""A gunicorn configuration with every hook, each of which tells of its call."""

import os

from harness.rendezvous import Rendezvous


def tell(name, *said):
    Rendezvous.from_environment().emit(" ".join([name, str(os.getpid()), *map(str, said)]))


def on_starting(server):
    tell("on_starting", server.pid == os.getpid(), len(server.LISTENERS))


def on_reload(server):
    tell("on_reload")


def when_ready(server):
    tell("when_ready", len(server.LISTENERS), server.address[0][0])


def pre_fork(server, worker):
    tell("pre_fork", worker.pid, worker.age)


def post_fork(server, worker):
    tell("post_fork", worker.pid == os.getpid(), worker.ppid == server.pid)


def post_worker_init(worker):
    tell("post_worker_init", callable(worker.wsgi), worker.booted)


def worker_int(worker):
    tell("worker_int", worker.pid)


def worker_abort(worker):
    tell("worker_abort", worker.pid)


def pre_exec(server):
    tell("pre_exec")


def child_exit(server, worker):
    tell("child_exit", worker.pid, worker.pid in server.WORKERS)


def worker_exit(server, worker):
    tell("worker_exit", worker.nr)


def nworkers_changed(server, new, old):
    tell("nworkers_changed", new, old, server.num_workers)


def on_exit(server):
    tell("on_exit")
