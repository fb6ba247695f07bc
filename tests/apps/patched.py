"""An application that gevent has patched: who runs its calls."""

# ruff: noqa: E402 (the patch comes first)

from gevent import monkey

monkey.patch_all()
import queue
import threading
import time

local = threading.local()


def application(environ, start_response):
    local.calls = getattr(local, "calls", 0) + 1
    time.sleep(0.1)
    results = queue.Queue()
    threading.Thread(target=results.put, args=(1,)).start()
    assert results.get(timeout=5) == 1
    body = f"{threading.current_thread().name} {threading.get_native_id()} {local.calls}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
