"""An application that keeps metrics with prometheus_client, of every kind and mode."""

from __future__ import annotations

import os

from prometheus_client import Counter, Gauge, Histogram, Summary

from apps.meeting import rendezvous
from apps.routes import Routes, parameters, plain

routes = Routes()
application = routes.application

MODES = (
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
)

orders = Counter("shop_orders", "Orders.", ["kind"])
taken = Summary("shop_taken", 'Time "taken" \\ in\nall.')
sizes = Histogram("shop_sizes", "Sizes.", ["kind"], buckets=(1, 2.5, 10))
gauges = {mode: Gauge(f"shop_{mode}", f"A gauge of mode {mode}.", multiprocess_mode=mode) for mode in MODES}
imported = Gauge("shop_imported", "Set at the import.", multiprocess_mode="max")
imported.set(7)

ODD = 'a "quoted" \\ back\nslash ü'


def change(number: float) -> None:
    """Some of each; also done by the oracle in files."""
    orders.labels("plain").inc()
    orders.labels(ODD).inc(number)
    taken.observe(number / 3)
    for size in (0.5, number, 11):
        sizes.labels(ODD).observe(size)
    for mode, gauge in gauges.items():
        if mode.endswith("mostrecent"):
            gauge.set(number)
        else:
            gauge.inc(number)


@routes("/change")
def change_metrics(environ, start_response):
    """Changes all metrics by the number that it is told."""
    change(float(parameters(environ)["by"]))
    return plain(start_response, str(os.getpid()))


@routes("/count")
def count(environ, start_response):
    """Counts one."""
    orders.labels("plain").inc()
    return plain(start_response, str(os.getpid()))


@routes("/fill")
def fill(environ, start_response):
    """More series than there is room for."""
    for number in range(int(parameters(environ)["series"])):
        orders.labels(f"{number:->150}").inc()
    orders.labels("plain").inc()
    return plain(start_response, "filled")


@routes("/clash")
def clash(environ, start_response):
    """A metric by a name of the server's."""
    Counter("portico_calls", "Not the server's.", registry=None).inc(1_000_000)
    return plain(start_response, "clashed")


@routes("/fork")
def fork(environ, start_response):
    """A process of the application's own counts as well."""
    child = os.fork()
    if child == 0:
        orders.labels("plain").inc(1_000)
        os._exit(0)
    os.waitpid(child, 0)
    return plain(start_response, "forked")


@routes("/block")
def block(environ, start_response):
    """Waits until the test lets it go on."""
    rendezvous.emit("blocks")
    rendezvous.hold("go")
    return plain(start_response, "blocked")
