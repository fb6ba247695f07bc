"""Figures to a statsd beside it."""

import os

statsd_host = os.environ.get("STATSD_ADDRESS", "127.0.0.1:8125")
statsd_prefix = "shop"
