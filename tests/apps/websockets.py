"""WebSockets by flask-sock, as its users write them, and the bare socket."""

from __future__ import annotations

import os
import socket
import threading

from flask import Flask, request
from flask_sock import Sock

from apps.meeting import rendezvous

flask = Flask(__name__)
sock = Sock(flask)
if "PING_INTERVAL" in os.environ:
    flask.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(os.environ["PING_INTERVAL"])}


@sock.route("/echo")
def echo(ws):
    try:
        while True:
            ws.send(ws.receive())
    finally:
        rendezvous.emit(f"echo has ended {request.args.get('name', '')}")


@sock.route("/three")
def three(ws):
    for number in range(3):
        ws.send(f"message {number}")


@sock.route("/push")
def push(ws):
    """Sends without end, and reads nothing."""
    try:
        while True:
            ws.send(b"x" * 65536)
    except OSError:
        pass  # The client has left while it was sent to.
    finally:
        rendezvous.emit("push has ended")


@sock.route("/broken")
def broken(ws):
    ws.send("here")
    raise ValueError("planted error")


@flask.get("/ping")
def ping():
    return "pong"


def application(environ, start_response):
    """Flask, and the paths below."""
    handler = BARE.get(environ["PATH_INFO"])
    return handler(environ, start_response) if handler else flask(environ, start_response)


def plain(start_response, text):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def unused(environ, start_response):
    """Says what there is, and uses it not."""
    found = environ.get("gunicorn.socket")
    is_socket = isinstance(found, socket.socket)
    return plain(start_response, f"{'gunicorn.socket' in environ} {is_socket} {found!r:.30}")


def bare(environ, start_response):
    """Tells of the socket over itself, then returns as any application."""
    taken = environ["gunicorn.socket"]
    family = taken.family.name
    thread = threading.current_thread().name
    told = f"{family}|{taken.getpeername()}|{taken.gettimeout()}|{environ['REMOTE_ADDR']}|{thread}"
    taken.sendall(f"HTTP/1.1 101 Switching Protocols\r\nX-Told: {told}\r\n\r\n".encode())
    received = b""
    while len(received) < 5 and (data := taken.recv(100)):
        received += data
    taken.sendall(b"<" + received + b">")
    rendezvous.emit("bare has ended")
    start_response("200 OK", [("Content-Length", "7")])
    return [b"dropped"]


def deaf(environ, start_response):
    """Has a WebSocket and looks at it no more."""
    taken = environ["gunicorn.socket"]
    taken.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    rendezvous.emit("deaf has begun")
    rendezvous.hold("deaf")
    raise StopIteration


def hoard(environ, start_response):
    """Reads nothing until it is told to, then tells how much there was."""
    taken = environ["gunicorn.socket"]
    taken.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    rendezvous.hold("hoard")
    count = 0
    while data := taken.recv(1 << 16):
        count += len(data)
    taken.sendall(str(count).encode())
    raise StopIteration


def late(environ, start_response):
    """Uses the socket when the response has begun."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"begun ")
    try:
        environ["gunicorn.socket"].send(b"x")
    except OSError as error:
        return [type(error).__name__.encode()]
    return [b"sent"]


kept: list = []


def keep(environ, start_response):
    """Keeps the socket beyond its request, without using it."""
    kept.append(environ["gunicorn.socket"])
    return plain(start_response, "kept")


def use_kept(environ, start_response):
    """Uses the socket of an earlier request."""
    try:
        kept.pop().send(b"x")
    except OSError as error:
        return plain(start_response, type(error).__name__)
    return plain(start_response, "sent")


BARE = {
    "/unused": unused,
    "/bare": bare,
    "/deaf": deaf,
    "/hoard": hoard,
    "/late": late,
    "/keep": keep,
    "/use-kept": use_kept,
}
