"""A sitecustomize that notes what is opened as root."""

import os
import sys

_log = os.open(os.environ["TEST_AUDIT"], os.O_WRONLY | os.O_APPEND)


def _note(event, arguments):
    if os.geteuid() or event not in ("import", "open"):
        return
    if event == "import":
        os.write(_log, f"{os.getpid()} import {arguments[0]} {arguments[2]}\n".encode())
    elif isinstance(arguments[0], str):
        os.write(_log, f"{os.getpid()} open {arguments[0]}\n".encode())


sys.addaudithook(_note)
