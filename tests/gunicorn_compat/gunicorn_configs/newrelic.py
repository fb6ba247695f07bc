"""New Relic: the agent is started in each worker."""

import os

workers = 1


def post_fork(server, worker):
    import newrelic.agent

    newrelic.agent.initialize(os.environ.get("NEW_RELIC_CONFIG_FILE"))
    newrelic.agent.register_application(timeout=10)
    server.log.info("New Relic agent registered in worker %s", worker.pid)
