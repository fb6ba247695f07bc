"""Serves apps.stuck with portico.serve: --bind ADDRESS [NAME=VALUE...]"""

import sys

import portico
from apps.stuck import application

_, address, *settings = sys.argv[1:]
portico.serve(application, bind=address, **dict(setting.split("=", 1) for setting in settings))
