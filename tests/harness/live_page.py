"""`portico web PID` as a process, and its page as a browser or a script sees it."""

from __future__ import annotations

import json
import subprocess
from urllib.parse import urlsplit

from harness.browser import Browser
from harness.http_client import Client, Response, request_bytes
from harness.server import Server, command, server_environment

PATIENCE = 15.0


class LivePage:
    """The command, from the address that it prints to its end."""

    def __init__(self, server: Server, *options: str, pid: int | None = None) -> None:
        self.process = subprocess.Popen(
            [*command(), "web", str(pid or server.pid), *options],
            cwd=server.rendezvous.folder,
            env=server_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url.startswith("http://"):
            told, failure = self.process.communicate(timeout=PATIENCE)
            raise AssertionError(f"portico web said {self.url + told!r} and {failure!r}")
        self.address = (urlsplit(self.url).hostname, urlsplit(self.url).port)
        self.target = f"/?{urlsplit(self.url).query}"
        self.cookie: str | None = None

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=PATIENCE)

    def hang_up(self) -> None:
        """Closes its standard input, as the end of ssh does."""
        self.process.stdin.close()
        self.process.stdin = None

    def wait(self) -> tuple[int, str, str]:
        """Exit status, output and errors, once it has ended by itself."""
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
        out, error = self.process.communicate()
        return self.process.returncode, out, error

    def log_in(self) -> None:
        """Takes the token, as the browser does that opens the address."""
        entered = self.ask("GET", self.target)
        assert entered.status == 200, entered
        self.cookie = (entered.get("Set-Cookie") or "").partition(";")[0]

    def ask(self, method: str, target: str, *fields: tuple[str, str]) -> Response:
        """The response to a request with the cookie that was got and the mark of the page."""
        own = [("Cookie", self.cookie)] if self.cookie else []
        body = b"" if method == "POST" else None
        with Client(self.address) as client:
            client.send(
                request_bytes(method, target, [*own, ("X-Portico", "1"), *fields], body, host="localhost")
            )
            return client.read_response(method)

    def state(self) -> dict:
        """What the page shows."""
        return json.loads(self.ask("GET", "/state.json").body)

    def act(self, target: str) -> dict:
        """What an action says that it has done."""
        response = self.ask("POST", target)
        assert response.status == 200, response
        return json.loads(response.body)


class Viewer(Browser):
    """A browser that notes every complaint of its console."""

    def __init__(self, *flags: str) -> None:
        super().__init__(*flags)
        self.complaints: list[dict] = []

    def __enter__(self) -> Viewer:
        super().__enter__()
        self.call("Log.enable")
        self.call("Runtime.enable")
        return self

    def receive(self, deadline: float) -> dict:
        """As `Browser.receive`; what the console gets is kept."""
        message = super().receive(deadline)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(message["params"])
        return message

    def leave(self) -> list[dict]:
        """Leaves the page, whose server may end now; returns what the console got since the last time."""
        self.call("Page.navigate", url="about:blank")
        self.wait_for("location.href === 'about:blank'")
        complaints, self.complaints = self.complaints, []
        return complaints

    def look(self, width: int, height: int, scheme: str, *, motion: bool = True) -> None:
        """Sets the window and what its user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        reduced = {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"}
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}, reduced],
        )

    def press(self, key: str, text: str | None = None) -> None:
        """Presses a key, as its name in `KeyboardEvent.key`."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}
        code = codes.get(key, ord(key.upper()[0]))
        typed = {"text": text or {"Enter": "\r"}.get(key, key)} if key == "Enter" or len(key) == 1 else {}
        event = {"key": key, "windowsVirtualKeyCode": code, **typed}
        self.call("Input.dispatchKeyEvent", type="keyDown" if typed else "rawKeyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
