"""Figures to a statsd beside it."""

statsd_host = "127.0.0.1:8125"
statsd_prefix = "shop"
