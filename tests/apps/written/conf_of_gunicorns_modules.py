"""A configuration file that imports much of gunicorn."""

# ruff: noqa: F401 (that the names are there is what matters)

import gunicorn
import gunicorn.app.base
from gunicorn import glogging, util
from gunicorn.app.base import Application, BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import ConfigError, HaltServer
from gunicorn.glogging import CONFIG_DEFAULTS, Logger
from gunicorn.instrument.statsd import Statsd
from gunicorn.workers.base import Worker
from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

assert gunicorn.__version__ == "27.0.1" and gunicorn.version_info == (27, 0, 1)
assert gunicorn.SERVER and gunicorn.SERVER_SOFTWARE
assert gunicorn.app.base.BaseApplication is BaseApplication
assert Arbiter.WORKER_BOOT_ERROR == 3 and Arbiter.APP_LOAD_ERROR == 4
assert gunicorn.glogging is glogging and issubclass(GeventWorker, Worker)
assert util.parse_address("127.0.0.1:8001") == ("127.0.0.1", 8001)


class ShopLogger(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.info("the shop's logger")


logger_class = ShopLogger
threads = 3


def on_starting(server):
    assert isinstance(server, Arbiter)
    from gunicorn import util as late

    assert late is util
