"""The WSGI application; the first import makes the tables and the administrator."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apps.djangosite.settings")

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection

application = get_wsgi_application()
call_command("migrate", verbosity=0, run_syncdb=True)

from django.contrib.auth.models import User  # noqa: E402

if not User.objects.exists():
    User.objects.create_superuser("admin", "admin@example.org", "a password for tests")
connection.close()
