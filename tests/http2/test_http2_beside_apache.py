"""HTTP/2 beside Apache: what is wrong in one stream costs the same there and here; what it takes is taken.

Apache is the reference, with nghttp2 below it, for it is strict and has faced the open internet for long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from test_http2_rfc9113 import CASES as FRAMES
from test_http2_rfc9113 import (
    MALFORMED,
    POST,
    REFUSED,
    TAKEN,
    TRAILERS,
    literal,
)

from harness.http2_client import PREFACE, Answer, Http2Client
from harness.http2_frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from harness.ports import HOST, free_port
from harness.programs import installed
from harness.rendezvous import wait_until

SERVER = ("apps.control:application", "--threads", "2")

STRICTER = {
    "9110 6.5.1 a length": "of trailers those are refused that frame or route",
    "9110 6.5.1 a host": "of trailers those are refused that frame or route",
    "8.3.1 a host that contradicts the authority": "RFC 9113, 8.3.1: a server should refuse it",
    "8.3.1 a path beyond ASCII": "RFC 3986: it is no URI",
    "9110 8.3 two content types": "a filter in front may have judged the other",
    "9110 11.6.2 two authorizations": "a filter in front may have judged the other",
    "9110 14.2 two ranges": "a filter in front may have judged the other",
    "9110 14.4 two content ranges": "a filter in front may have judged the other",
}
"""What Apache takes and we refuse, and why."""

CASES = {
    **{name: literal(fields) for name, fields in MALFORMED.items()},
    **{name: literal(fields) for name, (fields, _) in REFUSED.items()},
    **{name: literal(fields) for name, fields in TAKEN.items()},
}


@pytest.fixture(scope="module")
def apache():
    """Apache, which serves /ping; its address."""
    program, folder, port = installed("apache2"), Path(tempfile.mkdtemp(prefix="portico-h2c-")), free_port()
    (folder / "documents").mkdir()
    (folder / "documents" / "ping").write_text("pong")
    modules = ("mpm_event", "authz_core", "http2")
    lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
    lines += [f"ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nMutex file:{folder}"]
    lines += [f"ErrorLog {folder}/log\nServerName test\nListen {HOST}:{port}\nStartServers 1"]
    lines += [f"DocumentRoot {folder}/documents\nProtocols h2c http/1.1"]
    (folder / "main.conf").write_text("\n".join(lines) + "\n")
    privileges: dict = {}
    if os.geteuid() == 0:
        privileges = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        for path in [folder, *folder.rglob("*")]:
            shutil.chown(path, "nobody", "nogroup")
    with (folder / "out").open("wb") as out:
        command = [program, "-D", "FOREGROUND", "-f", str(folder / "main.conf")]
        process = subprocess.Popen(command, stdout=out, stderr=out, **privileges)
    try:
        wait_until(lambda: answers((HOST, port)) or process.poll() is not None, "Apache to listen")
        assert process.poll() is None, (folder / "out").read_text()
        yield (HOST, port)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def answers(address) -> bool:
    """Whether a server serves /ping."""
    try:
        with Http2Client(address) as client:
            return client.request("/ping").status == 200
    except OSError:
        return False


def outcome(address, data: bytes) -> str:
    """What comes of what is sent on stream 1: `taken`, `refused`, or `the end of the connection`."""
    with Http2Client(address) as client:
        client.send(data)
        answer = client.answers.setdefault(1, Answer())
        while not answer.ended and answer.reset is None:
            if not client.pump():
                return "the end of the connection"
        client.next_stream = 3
        if client.request("/ping").status != 200 or client.goaways:
            return "the end of the connection"
        # A method that nobody implements is Apache's to refuse, and the application's here.
        return "taken" if answer.status in (200, 405) else "refused"


def expect(server, apache, name: str, data: bytes) -> None:
    """Both do the same."""
    ours, theirs = outcome(server.address, data), outcome(apache, data)
    if name in STRICTER:
        assert (ours, theirs) in {("refused", "taken"), ("refused", "refused")}, STRICTER[name]
    elif name == "CONNECT":
        assert ours == "refused"
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", CASES)
def test_a_head(server, apache, name):
    expect(server, apache, name, frame(HEADERS, END_HEADERS | END_STREAM, 1, CASES[name]))


@pytest.mark.parametrize("name", TRAILERS)
def test_trailers(server, apache, name):
    head = frame(HEADERS, END_HEADERS, 1, literal(POST)) + frame(DATA, 0, 1, b"body")
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(TRAILERS[name]))
    expect(server, apache, name, head + trailers)


MUST_END = {
    "5.1.1 a stream below the last": "RFC 9113, 5.1.1: an unexpected number is an error of the connection",
    "6.9.2 settings that lift a window above the most": "RFC 9113, 6.9.2: an error of the connection",
}
"""What Apache lives on after, and we must not."""


def survives(address, steps) -> bool:
    """Whether a connection serves after these steps: bytes that are sent, or what does it."""
    with Http2Client(address) as client:
        client.raw_hello = lambda first: client.send(PREFACE + first)
        try:
            for step in steps:
                client.send(step) if isinstance(step, bytes) else step(client)
            client.ping()
            client.next_stream = 101
            return client.request("/ping").status == 200
        except (AssertionError, OSError):
            return False


@pytest.mark.parametrize("name", FRAMES)
def test_frames(server, apache, name):
    """A connection that goes on there goes on here."""
    _, *steps = FRAMES[name]
    if name in MUST_END:
        assert not survives(server.address, steps), MUST_END[name]
    elif survives(apache, steps):
        assert survives(server.address, steps)


def test_there_are_enough_of_them():
    """Apart from frames: the faults of one stream that could be taken for the connection's."""
    assert len(MALFORMED) + len(TRAILERS) >= 40
    assert len(CASES) + len(TRAILERS) >= 75
