"""Passes descriptors on as a service manager does, and becomes the server."""

import os
import sys

for descriptor, passed in enumerate(sys.argv[1].split(","), 3):
    os.dup2(int(passed), descriptor)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
