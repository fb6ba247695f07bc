"""A pseudo terminal with a program in it that draws a screen, as `portico top` does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator

from harness.rendezvous import wait_until

# A frame begins at the top and ends with what clears the rest.
FRAME = re.compile(rb"\x1b\[H(.*?)\x1b\[J", re.DOTALL)
SEQUENCE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A program in a terminal of its own; its screen is the last whole frame that it has drawn."""

    def __init__(self, command: list[str], environment: dict[str, str], rows: int = 24, columns: int = 80):
        self.master, slave = pty.openpty()
        self.rows, self.columns = rows, columns
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.output = b""
        # In a session of its own, so that the terminal tells it of another size.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        """Collects what it writes."""
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 1 << 16):
                self.output += data

    def resize(self, rows: int, columns: int) -> None:
        """Has another size from now on, which the program is told by SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, keys: str) -> None:
        """Presses keys."""
        os.write(self.master, keys.encode())

    def frame(self) -> bytes:
        """The last whole frame, as it was sent."""
        frames = FRAME.findall(self.output)
        return frames[-1] if frames else b""

    def screen(self) -> list[str]:
        """Its lines without colours."""
        text = SEQUENCE.sub(b"", self.frame()).decode()
        return [line.rstrip() for line in text.split("\r\n")]

    def wait_for(self, text: str, patience: float = 10.0) -> list[str]:
        """Waits until the screen has this text; returns its lines."""
        try:
            wait_until(lambda: text in "\n".join(self.screen()), f"{text!r} on the screen", patience)
        except TimeoutError as error:
            shown = "\n".join(self.screen())
            raise AssertionError(f"{error}; it shows:\n{shown}\n{self.output[-500:]!r}") from None
        return self.screen()

    def is_restored(self) -> bool:
        """Whether the terminal is as it was: its settings, its first buffer, its cursor."""
        settings = termios.tcgetattr(self.slave) == self.before
        leaves = self.output.rfind(b"\x1b[?1049l") > self.output.rfind(b"\x1b[?1049h")
        shows_cursor = self.output.rfind(b"\x1b[?25h") > self.output.rfind(b"\x1b[?25l")
        return settings and leaves and shows_cursor

    def wait_exit(self, patience: float = 10.0) -> int:
        """Waits for the end of the program; its exit status."""
        status = self.process.wait(patience)
        # What it has written last.
        wait_until(lambda: b"\x1b[?1049l" in self.output or b"error" in self.output, "the last output")
        return status

    def close(self) -> None:
        """Ends the program, if it has not ended, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.slave, self.master):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@contextlib.contextmanager
def terminal(command: list[str], environment: dict[str, str], **size: int) -> Iterator[Terminal]:
    """One, which is closed at the end."""
    opened = Terminal(command, environment, **size)
    try:
        yield opened
    finally:
        opened.close()
