"""``flask portico``: the development server's place, taken by Portico.

Flask finds the command by itself once Portico is installed: ``flask --app hello --debug portico``.
"""

from __future__ import annotations

import os
from typing import Any

import click
from flask.cli import ScriptInfo, pass_script_info
from flask.helpers import get_debug_flag

from portico.contrib._command import become, options


@click.command("portico", short_help="Run a development server: Portico.")
@click.option("--host", "-h", default="127.0.0.1", help="The interface to bind to.")
@click.option("--port", "-p", default=5000, help="The port to bind to.")
@click.option(
    "--reload/--no-reload", default=None, help="Restart when code changes; with --debug by default."
)
@click.option("--debugger/--no-debugger", default=None, help="Werkzeug's debugger; with --debug by default.")
@click.option("--with-threads/--without-threads", default=True, help="Enable or disable multithreading.")
@pass_script_info
def command(
    info: ScriptInfo, host: str, port: int, reload: bool | None, debugger: bool | None, with_threads: bool
) -> None:
    """Runs Portico as a development server.

    Reloading and the debugger are on in debug mode.
    """
    debug = get_debug_flag()
    if info.app_import_path:
        os.environ["FLASK_APP"] = info.app_import_path
    use_debugger = debug if debugger is None else debugger
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    arguments = options(address, debug if reload is None else reload, with_threads)
    become([*arguments, f"portico.contrib.flask:application(debugger={use_debugger})"])


def application(debugger: bool = False) -> Any:
    """The application that Flask's own commands would take, for Portico's workers."""
    app: Any = ScriptInfo(app_import_path=os.environ.get("FLASK_APP") or None).load_app()
    if not debugger:
        return app
    from werkzeug.debug import DebuggedApplication

    return DebuggedApplication(app, evalex=True)


def tell_routes(app: Any) -> None:
    """Has the Flask application ``app`` tell Portico each request's route: ``/users/<id>``, not ``/users/7``.

    Portico's metrics and profiles name requests by it.
    """

    @app.before_request
    def tell_route() -> None:
        from flask import request

        rule, tell = request.url_rule, request.environ.get("portico.route")
        if rule is not None and tell is not None:
            tell(rule.rule)
