"""Ports for programs that are told their port before they listen: nobody else takes one of them meanwhile."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

# Each process of the tests has an address of its own, made of its process id (at most 22 bits): no connection
# is given a port of it by chance, and no neighbour asks for one.
HOST = f"127.{64 + (os.getpid() >> 16)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


def free_port() -> int:
    """A port of HOST that nobody listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return found.getsockname()[1]


def free_port_everywhere() -> int:
    """A port that nobody listens on at any address, and that the system gives to nobody who asks for any."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(1024, first_given)
        with socket.socket() as found:
            try:
                found.bind(("", port))
            except OSError:
                continue
            return port
