"""Opens a connection at its import."""

import os
import socket

from apps.processes import application

__all__ = ["application"]

connection = socket.create_connection(("127.0.0.1", int(os.environ["TEST_PORT"])))
