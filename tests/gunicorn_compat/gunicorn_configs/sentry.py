"""Sentry, begun when the worker has the application."""

import logging

max_requests = 1000
max_requests_jitter = 50


def post_worker_init(worker):
    import sentry_sdk

    sentry_sdk.init(dsn=None, release="1.0")
    logging.getLogger("gunicorn.error").info("Sentry is on in %s", worker.pid)
