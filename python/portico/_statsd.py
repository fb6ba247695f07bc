"""Metrics that a configuration sends through its `log`: gunicorn's logger for statsd.

What the server measures, the extension module sends itself.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

from portico._logger import Logger


class Statsd(Logger):
    """Sends the metrics that `extra` names, as its `metric`, `value` and `mtype`."""

    sock: socket.socket | None = None

    def join(self, cfg: Any) -> None:
        """Takes the loggers as they are."""
        super().join(cfg)
        self.open(cfg)

    def setup(self, cfg: Any) -> None:
        """Configures the loggers as the settings say."""
        super().setup(cfg)
        self.open(cfg)

    def open(self, cfg: Any) -> None:
        """Makes the socket; what cannot be had is done without."""
        bare = cfg.statsd_prefix.rstrip(".")
        self.prefix = f"{bare}." if bare else ""
        self.dogstatsd_tags = cfg.dogstatsd_tags
        if self.sock:
            self.sock.close()
        self.sock = None
        if not cfg.statsd_host:
            return
        with contextlib.suppress(OSError):
            host = cfg.statsd_host
            family = socket.AF_INET6 if ":" in host[0] else socket.AF_INET
            made = socket.socket(socket.AF_UNIX if isinstance(host, str) else family, socket.SOCK_DGRAM)
            made.setblocking(False)
            made.connect(host)
            self.sock = made

    def critical(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts it."""
        super().critical(msg, *args, **kwargs)
        self.increment("gunicorn.log.critical", 1)

    def error(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts it."""
        super().error(msg, *args, **kwargs)
        self.increment("gunicorn.log.error", 1)

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts it."""
        super().warning(msg, *args, **kwargs)
        self.increment("gunicorn.log.warning", 1)

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs and counts it."""
        super().exception(msg, *args, **kwargs)
        self.increment("gunicorn.log.exception", 1)

    def info(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs it, or sends its metric."""
        self.log(logging.INFO, msg, *args, **kwargs)

    def debug(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs it, or sends its metric."""
        self.log(logging.DEBUG, msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Logs what there is to say, and sends the metric that `extra` names."""
        extra = kwargs.get("extra") or {}
        metric, value, kind = (extra.get(name) for name in ("metric", "value", "mtype"))
        senders = {"gauge": self.gauge, "counter": self.increment}
        senders |= {"histogram": self.histogram, "timer": self.timer}
        if metric and value is not None and kind in senders:
            senders[kind](metric, value)
        if msg:
            super().log(lvl, msg, *args, **kwargs)

    def gauge(self, name: str, value: Any) -> None:
        """Sets a gauge."""
        self.send(f"{name}:{value}|g")

    def increment(self, name: str, value: Any, sampling_rate: float = 1.0) -> None:
        """Adds to a counter."""
        self.send(f"{name}:{value}|c|@{sampling_rate}")

    def decrement(self, name: str, value: Any, sampling_rate: float = 1.0) -> None:
        """Takes from a counter."""
        self.send(f"{name}:-{value}|c|@{sampling_rate}")

    def timer(self, name: str, value: Any) -> None:
        """Adds a time in milliseconds."""
        self.send(f"{name}:{value}|ms")

    def histogram(self, name: str, value: Any) -> None:
        """Adds to a distribution."""
        self.send(f"{name}:{value}|h")

    def send(self, metric: str) -> None:
        """Sends it without waiting. What is not taken is lost."""
        tags = f"|#{self.dogstatsd_tags}" if self.dogstatsd_tags else ""
        if self.sock:
            with contextlib.suppress(OSError):
                self.sock.send(f"{self.prefix}{metric}{tags}".encode())
