"""An application with metrics of Prometheus."""

# ruff: noqa: F821 (the guide's code, which a test puts behind it, has metrics)

from prometheus_client import Counter, Gauge

from apps.routes import plain

requests = Counter("requests", "Answered requests")
alive = Gauge("alive", "Workers", multiprocess_mode="livesum")


def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)
    requests.inc()
    alive.set(1)
    return plain(start_response, "")
