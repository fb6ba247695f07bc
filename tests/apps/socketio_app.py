"""Flask-SocketIO with threads, as its users write it."""

from __future__ import annotations

from flask import Flask
from flask_socketio import SocketIO, emit

application = Flask(__name__)
socketio = SocketIO(application, async_mode="threading", cors_allowed_origins="*")


@application.get("/ping")
def ping():
    return "pong"


@socketio.on("ask")
def ask(data):
    emit("told", {"asked": data})


@socketio.on("question")
def question(data):
    return data * 2
