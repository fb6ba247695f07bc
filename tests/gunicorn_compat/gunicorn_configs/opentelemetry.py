"""OpenTelemetry: exporters have threads, so they begin after the fork."""

workers = 1


def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)

    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider(resource={"service.name": "shop", "worker": worker.pid}))
