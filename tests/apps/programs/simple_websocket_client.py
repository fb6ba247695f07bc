"""simple-websocket's own client, with messages of every length that has a form of its own: URL"""

import sys

import simple_websocket

ws = simple_websocket.Client.connect(sys.argv[1], ping_interval=1)
for size in (0, 1, 125, 126, 65535, 65536, 1000000):
    ws.send("x" * size)
    assert ws.receive(timeout=10) == "x" * size
    ws.send(b"y" * size)
    assert ws.receive(timeout=10) == b"y" * size
ws.close()
print("done")
