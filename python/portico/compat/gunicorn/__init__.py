"""What configurations written for gunicorn import of it, as far as Portico can stand in.

Where no package called `gunicorn` is installed, this one answers under that name while a configuration is
read (`portico.compat.finder`).
"""

# gunicorn's version whose interface this follows.
version_info = (27, 0, 1)
__version__ = ".".join(map(str, version_info))
SERVER = "portico"
SERVER_SOFTWARE = "portico"
