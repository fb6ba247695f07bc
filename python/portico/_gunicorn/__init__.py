"""What stands behind a gunicorn.conf.py: reading it, its hooks, and the objects that they get.

Imported by the extension module where such a file, or a configuration of Python's logging, is used, and
nowhere else.
"""
