"""Serves apps.meddling, which is told to close something of the server's a second later: PORT WHAT"""

import contextlib
import sys
import threading
import urllib.request

import portico
from apps.meddling import application

port, what = sys.argv[1:]


def close() -> None:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/close?what={what}", timeout=5)


timer = threading.Timer(1, close)
timer.daemon = True
timer.start()
try:
    portico.serve(application, bind=f"127.0.0.1:{port}", threads=2)
except RuntimeError as error:
    print("raised", error, flush=True)
