"""The buildpack of nginx on Heroku waits for a file."""

import os

bind = "unix://" + os.environ["SOCKET"]


def when_ready(server):
    open(os.environ["READY_FILE"], "w").close()
