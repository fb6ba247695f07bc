"""A Flask application with pages, sessions, uploads, streams and errors."""

from __future__ import annotations

from flask import (
    Flask,
    Response,
    abort,
    jsonify,
    redirect,
    render_template_string,
    request,
    send_file,
    session,
    url_for,
)

application = Flask(__name__)
application.secret_key = "a key for tests"


@application.get("/")
def index():
    return render_template_string("<h1>Hello {{ name }}</h1>", name=request.args.get("name", "Flask"))


@application.post("/json")
def json_echo():
    return jsonify(received=request.get_json(), method=request.method)


@application.post("/form")
def form():
    session["user"] = request.form["user"]
    return redirect(url_for("profile"))


@application.get("/profile")
def profile():
    return f"Profile of {session['user']}" if "user" in session else abort(401)


@application.post("/upload")
def upload():
    return {name: len(file.read()) for name, file in request.files.items()}


@application.get("/stream")
def stream():
    return Response((f"line {number}\n" for number in range(100)), mimetype="text/plain")


@application.get("/download")
def download():
    return send_file(__file__, mimetype="text/x-python")


@application.get("/broken")
def broken():
    raise ValueError("planted error")
