"""Asks portico.serve for what only the command can do: to import the application anew."""

import portico

portico.serve("site_app", reload=True, bind="127.0.0.1:0")
