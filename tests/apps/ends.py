"""Leaves word when it is imported and when its process ends."""

import atexit
import os
import threading

folder = os.environ["FOLDER"]
print("imported")  # Waits in the buffer of the process that imports it.
atexit.register(lambda: open(folder + "/ended", "a").write(f"{os.getpid()}\n"))
if os.environ.get("START_THREAD"):
    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {os.environ['PORTICO_WORKER_SLOT']}".encode()]
