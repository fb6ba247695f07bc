"""A Django project: admin, sessions, ORM on SQLite, uploads, streams."""
