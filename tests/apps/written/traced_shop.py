"""A shop that takes its time, for traces: some of it waits behind another request."""

import time

from flask import Flask, request

app = Flask("shop")


@app.get("/slow")
def slow():
    time.sleep(0.5)
    return {"traceparent": request.headers.get("traceparent")}
