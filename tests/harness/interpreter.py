"""The interpreter that runs the tests, and the servers that they start."""

from __future__ import annotations

import sys
import sysconfig

# It is built to run without a GIL, and may have one all the same.
IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
