"""An application whose import waits in the worker of the first slot until the test lets it go on."""

import os

from apps.meeting import rendezvous

if os.environ["PORTICO_WORKER_SLOT"] == "0":
    rendezvous.hold("import", 60)
from apps.processes import application

__all__ = ["application"]
