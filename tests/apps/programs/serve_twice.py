"""Calls `portico.serve` twice, one call after the other."""

import os
import signal
import threading

import portico


def application(environ, start_response):
    raise AssertionError("nothing is served here")


before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
for _ in range(2):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    portico.serve(application, bind="127.0.0.1:0")
    print("returned", flush=True)
assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)) == before
