"""As serve_stuck, in a process of 32 MiB more."""

BALLAST = b"x" * (32 << 20)

import apps.programs.serve_stuck  # noqa: E402, F401
