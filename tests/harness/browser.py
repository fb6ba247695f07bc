"""Chromium without a window, told what to do over a pipe by its DevTools protocol.

It has a profile of its own, speaks to no host but this one, and runs as nobody where the tests are root.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness.peers import certificate
from harness.process import Process, read_or_empty
from harness.programs import installed

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
STOP_PATIENCE = 10.0


class Browser:
    """A running Chromium with one page."""

    def __init__(self, *flags: str) -> None:
        program = installed("chromium")
        self.folder = Path(tempfile.mkdtemp(prefix="portico-chromium-"))
        self.log = self.folder / "log"
        self.log.touch()
        privileges: dict = {}
        if os.geteuid() == 0:
            privileges = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        commands, self.commands = pipe_above(4)
        self.answers, answers = pipe_above(4)
        # It reads descriptor 3 and writes descriptor 4.
        redirected = f'exec "$@" 3<&{commands} 4>&{answers} {commands}<&- {answers}>&-'
        profile = f"--user-data-dir={self.folder}/profile"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", redirected, "chromium", program, *FLAGS, profile, *flags, "about:blank"],
                cwd=self.folder,
                env=os.environ | {"HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(commands, answers),
                **privileges,
            )
        os.close(commands)
        os.close(answers)
        self.buffer = b""
        self.numbers = 0
        self.session: str | None = None

    def __enter__(self) -> Browser:
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Has it end, or ends its processes."""
        family = self.descendants(Process(self.process.pid))
        try:
            if self.process.poll() is None:
                self.session = None
                self.call("Browser.close")
                self.process.wait(STOP_PATIENCE)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait(STOP_PATIENCE)
        finally:
            for process in family:
                process.kill()
            os.close(self.commands)
            os.close(self.answers)
        shutil.rmtree(self.folder, ignore_errors=True)

    def descendants(self, process: Process) -> list[Process]:
        """The children of a process, and theirs."""
        children = process.children()
        return children + [each for child in children for each in self.descendants(child)]

    # Talk

    def call(self, method: str, patience: float = 30.0, **parameters: object) -> dict:
        """Calls a method of the DevTools protocol; events that come meanwhile are passed over."""
        self.numbers += 1
        message: dict = {"id": self.numbers, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + patience
        while (answer := self.receive(deadline)).get("id") != self.numbers:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def receive(self, deadline: float) -> dict:
        """The next message of the browser."""
        while b"\0" not in self.buffer:
            readable, _, _ = select.select([self.answers], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"Chromium does not answer; its log:\n{read_or_empty(self.log)}"
            data = os.read(self.answers, 1 << 20)
            assert data, f"Chromium has ended; its log:\n{read_or_empty(self.log)}"
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, url: str) -> None:
        """Loads a page, to the end of its `load` event."""
        loaded = self.call("Page.navigate", url=url)
        assert "errorText" not in loaded, f"{url}: {loaded['errorText']}"
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> object:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, patience: float = 15.0) -> None:
        """Waits until an expression in the page is true."""
        deadline = time.monotonic() + patience
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"{expression}: {self.evaluate('document.body.innerText')}"
            time.sleep(0.01)


def trust_flag() -> str:
    """Has a browser take the certificate of `harness.peers`: by the digest of its public key."""
    public = subprocess.run(
        ["openssl", "x509", "-pubkey", "-noout"], input=certificate()[0], capture_output=True, check=True
    ).stdout
    der = base64.b64decode(b"".join(public.splitlines()[1:-1]))
    return "--ignore-certificate-errors-spki-list=" + base64.b64encode(hashlib.sha256(der).digest()).decode()


def pipe_above(last: int) -> list[int]:
    """A pipe whose descriptors come after `last`."""
    low = os.pipe()
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, last + 1) for end in low]
    for end in low:
        os.close(end)
    return ends
