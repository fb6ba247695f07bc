"""Worker classes that are derived from gunicorn's."""

from gunicorn.workers.base import Worker
from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker


class Plain(SyncWorker):
    pass


class Threads(ThreadWorker):
    def init_process(self):
        super().init_process()


class Deep(Threads):
    def handle_request(self, *args):
        return super().handle_request(*args)

    @property
    def odd(self):
        return 1


class Green(GeventWorker):
    def patch(self):
        super().patch()


class Alone(Worker):
    def run(self):
        pass


NOTHING = 3
