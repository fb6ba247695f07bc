"""A small Flask application: a route with a parameter and a JSON answer."""

from flask import Flask, jsonify

application = Flask(__name__)


@application.get("/")
@application.get("/items/<int:number>")
def item(number=1):
    return jsonify(number=number, name="item", tags=["a", "b"])
