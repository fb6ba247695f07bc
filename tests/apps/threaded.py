"""Starts a thread at its import."""

import threading
import time

from apps.processes import application

__all__ = ["application"]

thread = threading.Thread(target=time.sleep, args=(3600,), name="planted-thread", daemon=True)
thread.start()
