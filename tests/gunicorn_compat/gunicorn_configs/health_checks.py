"""Health checks do not belong into the access log."""

import logging

accesslog = "-"


class NoHealthChecks(logging.Filter):
    def filter(self, record):
        return "/healthz" not in record.getMessage()


logconfig_dict = {
    "filters": {"no_health_checks": {"()": NoHealthChecks}},
    "formatters": {"plain": {"format": "%(message)s"}},
    "handlers": {
        "access": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "plain",
            "filters": ["no_health_checks"],
        },
        "errors": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
    },
    "root": {"level": "INFO", "handlers": ["errors"]},
    "loggers": {
        "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
        "gunicorn.error": {"level": "INFO", "handlers": ["errors"], "propagate": False},
    },
}
