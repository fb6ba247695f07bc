"""A Bottle application."""

from __future__ import annotations

from pathlib import Path

from bottle import Bottle, request, response, static_file, template

application = Bottle()


@application.get("/")
def index():
    return template("<h1>Hello {{name}}</h1>", name=request.query.name or "Bottle")


@application.post("/json")
def json_echo():
    return {"received": request.json, "method": request.method}


@application.post("/form")
def form():
    response.set_cookie("user", request.forms.user, secret="a key for tests")
    response.set_cookie("second", "cookie")
    return "kept"


@application.get("/profile")
def profile():
    return f"Profile of {request.get_cookie('user', secret='a key for tests')}"


@application.post("/upload")
def upload():
    return {name: len(item.file.read()) for name, item in request.files.items()}


@application.get("/stream")
def stream():
    response.content_type = "text/plain"
    for number in range(100):
        yield f"line {number}\n"


@application.get("/download")
def download():
    return static_file(Path(__file__).name, root=Path(__file__).parent, mimetype="text/x-python")


@application.get("/broken")
def broken():
    raise ValueError("planted error")
