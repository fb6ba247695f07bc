"""Every line as JSON, by a formatter of one's own."""

import json
import logging


class JsonFormatter(logging.Formatter):
    def format(self, record):
        entry = {"logger": record.name, "level": record.levelname, "message": record.getMessage()}
        if isinstance(record.args, dict):
            entry |= {"status": record.args["s"], "path": record.args["U"], "micros": record.args["D"]}
        return json.dumps(entry)


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": False,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": False,
            "qualname": "gunicorn.access",
        },
    },
}
