"""What configurations written for gunicorn import of it, as far as Portico can stand in.

There is no package called `gunicorn` here: a configuration that imports from it imports from
`portico.compat.gunicorn` instead. Worker classes have no counterpart.
"""

SERVER = "portico"
SERVER_SOFTWARE = "portico"
