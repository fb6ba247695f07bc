"""A shop that agents watch."""

from flask import Flask, request

app = Flask("shop")


@app.get("/item/<int:number>")
def item(number):
    return {"number": number, "traceparent": request.headers.get("traceparent")}


@app.get("/broken")
def broken():
    raise ValueError("planted error")
