"""An application whose import takes as many seconds as the environment's IMPORT_SECONDS says."""

# ruff: noqa: E402 (the import that takes long comes first)

import os
import time

time.sleep(float(os.environ["IMPORT_SECONDS"]))
from apps.processes import application

__all__ = ["application"]
