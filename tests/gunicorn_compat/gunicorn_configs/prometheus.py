"""Prometheus in several processes: the files of a worker that has ended are marked."""

from prometheus_client import multiprocess

workers = 2


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
