"""Logs as Flask's and Django's documentation shows it."""

# ruff: noqa: B018 (it is to raise)

import logging

from apps.routes import plain

# Flask's and Django's users do this.
logger = logging.getLogger("shop")
logger.handlers = logging.getLogger("gunicorn.error").handlers
logger.setLevel(logging.getLogger("gunicorn.error").level)
logger.propagate = False
existed = [logging.getLogger(name).propagate for name in ("gunicorn.error", "gunicorn.access")]


def application(environ, start_response):
    logger.info("of the shop\nsecond line")
    logger.debug("not at this level")
    logging.getLogger("portico.error").warning("of the %s", "server")
    logging.getLogger("gunicorn.access").info("an access")
    if environ["PATH_INFO"] == "/raise":
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("gunicorn.error").exception("it happens")
    return plain(start_response, str(existed))
