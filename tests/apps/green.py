"""What tests of greenlets ask: they patch it by a line that they put in front of it."""

import ctypes
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, request

from harness.rendezvous import Rendezvous

meeting = Rendezvous.from_environment()
app = Flask(__name__)
pool = ThreadPoolExecutor(2)
jobs = queue.Queue()
local = threading.local()
native = threading.get_native_id()


def tick():
    while True:
        meeting.emit("tick")
        time.sleep(0.1)


def work():
    while True:
        meeting.emit(f"worked on {jobs.get()}")


threading.Thread(target=tick, daemon=True).start()
threading.Thread(target=work, daemon=True).start()


@app.get("/ping")
def ping():
    return "pong " + request.headers.get("X-Ping", "")


@app.get("/where")
def where():
    local.calls = getattr(local, "calls", 0) + 1
    time.sleep(0.05)
    same = native == threading.get_native_id()
    return f"{threading.current_thread().name} {same} {local.calls} {os.getpid()}"


@app.get("/sleep")
def sleep():
    meeting.emit("sleeps")
    time.sleep(float(request.args["seconds"]))
    return "slept"


@app.get("/stubborn")
def stubborn():
    meeting.emit("is stubborn")
    end = time.monotonic() + float(request.args["seconds"])
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except BaseException as error:
            meeting.emit(f"swallows {type(error).__name__}")
    return "done"


@app.get("/spin")
def spin():
    meeting.emit("spins")
    end = time.monotonic() + float(request.args["seconds"])
    while time.monotonic() < end:
        pass
    return "spun"


@app.get("/spin-stubbornly")
def spin_stubbornly():
    meeting.emit("spins stubbornly")
    end = time.monotonic() + float(request.args["seconds"])
    while time.monotonic() < end:
        try:
            spin_until(end)
        except BaseException:
            pass
    return "spun"


def spin_until(end):
    # In a function of its own: CPython 3.13 does not catch in the frame whose loop is broken off.
    while time.monotonic() < end:
        pass


@app.get("/stream")
def stream():
    count, pause = int(request.args["blocks"]), float(request.args.get("pause", 0.05))

    def blocks():
        for number in range(count):
            time.sleep(pause)
            yield f"{number} "

    return Response(blocks())


@app.get("/large")
def large():
    count, size = int(request.args["blocks"]), int(request.args["bytes"])

    def blocks():
        for _ in range(count):
            yield b"x" * size
        meeting.emit("made all")

    return Response(blocks())


@app.get("/asked-meanwhile")
def asked_meanwhile():
    is_gone = request.environ["portico.client_disconnected"]

    def ask():
        for _ in range(20):
            meeting.emit(f"asks {is_gone()}")
            time.sleep(0.01)
        meeting.emit("asked enough")

    def blocks():
        threading.Thread(target=ask).start()
        for _ in range(400):
            yield b"x" * 16384

    return Response(blocks())


@app.post("/upload")
def upload():
    meeting.emit("reads")
    length = 0
    while block := request.environ["wsgi.input"].read(65536):
        length += len(block)
    return str(length)


@app.get("/pool")
def pooled():
    return pool.submit(lambda: time.sleep(0.02) or threading.get_native_id() == native).result().__repr__()


@app.get("/queue")
def queued():
    jobs.put(request.args["job"])
    return "put"


@app.get("/thread")
def thread():
    def later():
        time.sleep(0.2)
        meeting.emit("a thread of a request has gone on")

    threading.Thread(target=later).start()
    return "started"


@app.get("/subprocess")
def run():
    return subprocess.run(["echo", "said"], stdout=subprocess.PIPE, check=True).stdout


@app.get("/fork")
def fork():
    child = os.fork()
    if child == 0:
        # Not the hub's sleep: eventlet's hub would take the events of its parent, whose epoll it shares.
        ctypes.CDLL(None).usleep(50_000)
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


@app.get("/errors")
def errors():
    stream = request.environ["wsgi.errors"]
    for word in ("one", "two", "three"):
        stream.write(f"{request.args['name']}-{word} ")
        time.sleep(0.02)
    return "written"


@app.get("/exit")
def leave():
    def exits():
        sys.exit("a greenlet exits")

    threading.Thread(target=exits).start()
    time.sleep(0.1)
    return "went on"


@app.get("/late")
def late():
    # A timeout that nobody cancels: it is no business of those that come later.
    if "gevent" in sys.modules:
        import gevent

        gevent.Timeout(0.1).start()
        gevent.spawn_later(0.2, meeting.emit, "the timeout has struck")
    else:
        import eventlet

        eventlet.Timeout(0.1)
        eventlet.spawn_after(0.2, meeting.emit, "the timeout has struck")
    return "started"


@app.get("/watch")
def watch():
    request.environ["portico.client_disconnected"](
        lambda: meeting.emit(f"called back in the same thread: {native == threading.get_native_id()}")
    )
    try:
        meeting.emit("watches")
        time.sleep(float(request.args["seconds"]))
    except BaseException as error:
        meeting.emit(f"raises {type(error).__name__}")
        raise
    return "watched"
