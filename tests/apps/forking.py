"""Leaves a process behind at its import and at each request of /fork."""

import os
import time

from apps.meeting import rendezvous
from apps.processes import application as inner


def leave_process(name):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    rendezvous.emit(f"{name} {pid}")


leave_process("import")


def application(environ, start_response):
    if environ["PATH_INFO"] == "/fork":
        leave_process("request")
    return inner(environ, start_response)
