"""Flask-SocketIO's own client, by each of its transports: URL"""

import sys
import threading

import socketio

for transports in (["websocket"], ["polling", "websocket"], ["polling"]):
    client, told = socketio.Client(reconnection=False), threading.Event()
    answers = []
    client.on("told", lambda data, answers=answers, told=told: (answers.append(data), told.set()))
    client.connect(sys.argv[1], transports=transports)
    client.emit("ask", "x" * 1000)
    assert told.wait(5), transports
    assert answers == [{"asked": "x" * 1000}]
    assert client.call("question", "ab", timeout=5) == "abab"
    if transports[-1] == "websocket":
        client.sleep(0.5)  # It changes to a WebSocket after its first answers.
        assert client.transport() == "websocket", client.transport()
    client.disconnect()
    client.wait()
print("done")
