"""A CherryPy application."""

from __future__ import annotations

import cherrypy
from cherrypy.lib.static import serve_file


class Root:
    @cherrypy.expose
    def index(self, name="CherryPy"):
        return f"<h1>Hello {name}</h1>"

    @cherrypy.expose
    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def json(self):
        return {"received": cherrypy.request.json, "method": cherrypy.request.method}

    @cherrypy.expose
    def form(self, user):
        cherrypy.session["user"] = user
        raise cherrypy.HTTPRedirect("/profile")

    @cherrypy.expose
    def profile(self):
        return f"Profile of {cherrypy.session['user']}"

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def upload(self, **files):
        return {name: len(item.file.read()) for name, item in files.items()}

    @cherrypy.expose
    def stream(self):
        cherrypy.response.headers["Content-Type"] = "text/plain"
        return (f"line {number}\n".encode() for number in range(100))

    stream._cp_config = {"response.stream": True}

    @cherrypy.expose
    def download(self):
        return serve_file(__file__, content_type="text/x-python")

    @cherrypy.expose
    def broken(self):
        raise ValueError("planted error")


cherrypy.config.update({"environment": "embedded", "log.screen": False})
application = cherrypy.Application(Root(), "", {"/": {"tools.sessions.on": True}})
