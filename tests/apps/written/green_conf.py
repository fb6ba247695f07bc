"""A configuration file that patches, as gunicorn's users have it."""

from gevent import monkey

monkey.patch_all()
worker_class = "gevent"
workers = 2
