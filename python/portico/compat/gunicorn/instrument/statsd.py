"""The logger that sends metrics."""

from portico._statsd import Statsd

__all__ = ["Statsd"]
