"""What a platform's application sees of its environment, at its import and later."""

import json
import os
import threading

AT_IMPORT = {"uid": os.getuid(), "environ": dict(os.environ)}


def application(environ, start_response):
    told = {
        "at_import": AT_IMPORT,
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "pid": os.getpid(),
        "threads": sum(thread.name.startswith("portico-") for thread in threading.enumerate()),
        "session": os.getsid(0),
        "umask": os.umask(0o22),
        "length": len(environ["wsgi.input"].read()),
    }
    os.umask(told["umask"])
    print("printed by the application", flush=True)
    body = json.dumps(told).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
