"""What the kernel tells of the server's end of a TCP connection.

Whether it was accepted, and by which process, what has not been read, and whether it waits for a client that
takes nothing: so no test has to guess how long the server takes. The kernel is asked by netlink
(sock_diag(7)), which finds one connection among many at once.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.http_client import Connection
from harness.process import Process, read_or_empty
from harness.rendezvous import wait_until

NET = Path("/proc/net")
LISTEN = "0A"
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
ESTABLISHED, CLOSE_WAIT = 1, 8
ALL_STATES, NO_COOKIE = 0xFFFFFFFF, (0xFFFFFFFF, 0xFFFFFFFF)
HEADER = struct.Struct("=IHHII")
REQUEST = struct.Struct("=BBBBI")
# In inet_diag_msg: the state, and behind inet_diag_sockid what expires, the queues, user and inode.
STATE_AT, FIGURES_AT = HEADER.size + 1, HEADER.size + 4 + 48
FIGURES = struct.Struct("=IIIII")


@dataclass
class ServerEnd:
    """The server's end of a connection."""

    state: int
    unread: int
    unacknowledged: int
    inode: int

    @property
    def is_accepted(self) -> bool:
        """Whether a process has it; one that has closed it does not."""
        return self.inode != 0

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it."""
        return not self.is_accepted and self.state not in (ESTABLISHED, CLOSE_WAIT)


def server_end(client: Connection | socket.socket) -> ServerEnd | None:
    """The other end of a client's connection; None if nothing of it is left."""
    ours = client if isinstance(client, socket.socket) else client.socket
    try:
        (local, local_port, *_), (remote, remote_port, *_) = ours.getpeername(), ours.getsockname()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return None  # It was reset.
    message = REQUEST.pack(ours.family, socket.IPPROTO_TCP, 0, 0, ALL_STATES)
    message += struct.pack("!HH", local_port, remote_port)
    message += b"".join(socket.inet_pton(ours.family, name).ljust(16, b"\0") for name in (local, remote))
    message += struct.pack("=III", 0, *NO_COOKIE)
    header = HEADER.pack(HEADER.size + len(message), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(header + message)
        reply = kernel.recv(4096)
    if HEADER.unpack_from(reply)[1] == NLMSG_ERROR:
        (error,) = struct.unpack_from("=i", reply, HEADER.size)
        if error == -errno.ENOENT:
            return None
        raise OSError(-error, os.strerror(-error))
    _expires, unread, unacknowledged, _user, inode = FIGURES.unpack_from(reply, FIGURES_AT)
    return ServerEnd(reply[STATE_AT], unread, unacknowledged, inode)


def wait_read(client: Connection | socket.socket) -> None:
    """Waits until the server has accepted the connection and read all that was sent, or has closed it."""

    def is_read() -> bool:
        end = server_end(client)
        return end is None or end.is_closed or (end.is_accepted and end.unread == 0)

    wait_until(is_read, "the server to read what was sent")


def wait_closed(client: Connection | socket.socket) -> None:
    """Waits until the server has closed the connection, whatever of it the client has not taken yet."""

    def is_closed() -> bool:
        end = server_end(client)
        return end is None or end.is_closed

    wait_until(is_closed, "the server to close the connection")


def wait_blocked(client: Connection | socket.socket) -> None:
    """Waits until the server has sent more than the client's kernel takes."""
    before: list[int] = []

    def is_blocked() -> bool:
        end = server_end(client)
        assert end is not None, "the connection is gone"
        # What loopback delivers is acknowledged at once, except what finds no room.
        before.append(end.unacknowledged)
        return len(before) > 5 and min(before[-5:]) == max(before[-5:]) > 0

    wait_until(is_blocked, "the server to wait for its client")


def holder(client: Connection | socket.socket, processes: Iterable[Process]) -> Process | None:
    """Which of these processes has the server's end open; None if it is none of them, or more than one."""
    end = server_end(client)
    name = f"socket:[{end.inode}]" if end else ""
    found = [process for process in processes if name in open_files(process)]
    return found[0] if len(found) == 1 else None


def listens(process: Process) -> bool:
    """Whether it has a listening TCP socket open."""
    files = open_files(process)
    rows = [row.split() for table in ("tcp", "tcp6") for row in read_or_empty(NET / table).splitlines()[1:]]
    return any(row[3] == LISTEN and f"socket:[{row[9]}]" in files for row in rows)


def open_files(process: Process) -> set[str]:
    """What its descriptors stand for."""
    names = set()
    try:
        for entry in (process.folder / "fd").iterdir():
            try:
                names.add(os.readlink(entry))
            except OSError:  # It has just been closed.
                continue
    except OSError:
        pass  # The process has ended.
    return names
