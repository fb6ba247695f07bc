"""A small site without a framework: a page with its parts, an upload, a stream of events.

portico --chdir examples/site
"""

import hashlib
import json
import time

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Portico</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="/icon.svg">
<h1>Hello from Portico</h1>
<p>This page came by <b id="protocol"></b>, as the application sees it %s.
<p><img src="/icon.svg" alt="" width="32" height="32"> Events: <span id="events"></span>
<p>An upload of 1 MB came back <span id="upload">…</span>.
<script src="/script.js"></script>
</html>
"""
STYLE = (
    "body { font: 1.1em/1.5 sans-serif; margin: 3em auto; max-width: 30em } h1 { color: rgb(0, 80, 120) }\n"
)
SCRIPT = """
const show = (id, text) => { document.getElementById(id).textContent += text };
const [page] = performance.getEntriesByType("navigation");
show("protocol", page.nextHopProtocol);
const events = new EventSource("/events");
events.onmessage = event => show("events", event.data + " ");
events.addEventListener("end", () => events.close());
fetch("/upload", { method: "POST", body: new Uint8Array(1000000).fill(65) })
    .then(answer => answer.json())
    .then(({ length }) => { document.getElementById("upload").textContent = `as ${length} bytes` });
"""
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">
<path fill="#005078" d="M0 8V3a4 3 0 0 1 8 0v5H6V3.5a2 2 0 0 0-4 0V8z"/></svg>
"""


def application(environ, start_response):
    """The routes of the site (PEP 3333)."""
    path = environ["PATH_INFO"]
    if path == "/":
        page = PAGE % f"{environ['SERVER_PROTOCOL']} over {environ['wsgi.url_scheme']}"
        return whole(start_response, "text/html; charset=utf-8", page)
    if path == "/style.css":
        return whole(start_response, "text/css", STYLE)
    if path == "/script.js":
        return whole(start_response, "text/javascript", SCRIPT)
    if path == "/icon.svg":
        return whole(start_response, "image/svg+xml", ICON)
    if path == "/upload":
        body = environ["wsgi.input"].read()
        told = {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return whole(start_response, "application/json", json.dumps(told))
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        return events()
    return whole(start_response, "text/plain", "no such page\n", "404 Not Found")


def whole(start_response, content_type, text, status="200 OK"):
    """An answer in one block."""
    body = text.encode()
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def events():
    """Five events, and the one that tells the page to close."""
    for number in range(5):
        yield f"data: {number}\n\n".encode()
        time.sleep(0.1)
    yield b"event: end\ndata:\n\n"
