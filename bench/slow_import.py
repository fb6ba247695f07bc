"""An application that takes 3 s to import."""

import time

from apps import hello as application  # noqa: F401

time.sleep(3)
