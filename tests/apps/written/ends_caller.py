"""Calls the server from Python and tells what it returns."""

import os
import sys

from portico import _portico

folder = sys.argv[1]
os.register_at_fork(after_in_child=lambda: open(folder + "/forked", "a").write(f"{os.getpid()}\n"))
try:
    status = _portico.main(sys.argv[2:])
    open(folder + "/returned", "a").write(f"{os.getpid()}\n")
finally:
    open(folder + "/unwound", "a").write(f"{os.getpid()}\n")
sys.exit(status)
