"""Calls `portico.serve` twice, one call after the other."""

import os
import signal
import threading
import time

import portico


def application(environ, start_response):
    raise AssertionError("nothing is served here")


def stop_once_it_is_caught() -> None:
    while signal.getsignal(signal.SIGTERM) == before[0]:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
for _ in range(2):
    threading.Thread(target=stop_once_it_is_caught).start()
    portico.serve(application, bind="127.0.0.1:0")
    print("returned", flush=True)
assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)) == before
