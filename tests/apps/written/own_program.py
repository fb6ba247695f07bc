"""A program of an application's own that becomes the server."""

# ruff: noqa: E402 (what is imported reads sys.argv)

import sys

sys.argv[0] = __file__
from portico.__main__ import main

sys.exit(main())
