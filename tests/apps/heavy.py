"""Imports as many objects as it is told, and says who has imported it and who was forked."""

import gc
import os

from apps.meeting import rendezvous
from apps.processes import application as inner
from apps.routes import plain

data = [str(number) * 3 for number in range(int(os.environ["OBJECTS"]))]

rendezvous.emit(f"imports {os.getpid()}")
os.register_at_fork(after_in_child=lambda: rendezvous.emit(f"forked {os.getpid()}"))


def application(environ, start_response):
    if environ["PATH_INFO"] == "/frozen":
        return plain(start_response, str(gc.get_freeze_count()))
    if environ["PATH_INFO"] == "/collect":
        return plain(start_response, str(gc.collect()))
    return inner(environ, start_response)
