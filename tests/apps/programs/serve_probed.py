"""Serves with probes by portico.serve: ADDRESS DRAIN_DELAY"""

import sys

import portico
from apps.processes import application

portico.serve(application, bind=sys.argv[1], health_path="/-/", drain_delay=float(sys.argv[2]))
