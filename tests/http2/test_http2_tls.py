"""HTTP/2 within TLS: agreed on in the handshake, and through a transport that keeps bytes back."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
from hyperframe.frame import SettingsFrame

from harness.http2_client import PREFACE, PROTOCOL_ERROR, Http2Client
from harness.process import read_or_empty
from harness.programs import installed
from harness.sockets import wait_blocked, wait_closed, wait_read

STUCK = "apps.stuck:application"
CONTROL = "apps.control:application"


@pytest.fixture
def context(authority) -> ssl.SSLContext:
    """A client's, that asks for HTTP/2."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.set_alpn_protocols(["h2"])
    return context


def test_each_stream_knows_of_tls(serve, pair, context):
    server = serve("apps.echo:application", *pair.options)
    with Http2Client(server.address, tls=context) as client:
        assert client.socket.selected_alpn_protocol() == "h2"
        for _ in range(3):
            environ = json.loads(client.request("/").body)["environ"]
            assert environ["SERVER_PROTOCOL"] == "HTTP/2.0"
            assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")


def test_cleartext_off_is_not_off_within_tls(serve, pair, context):
    server = serve(CONTROL, *pair.options, "--http2-cleartext", "off")
    with Http2Client(server.address, tls=context) as client:
        client.expect_alive()


def test_the_preface_without_the_agreement_is_505(serve, pair, context):
    server = serve(CONTROL, *pair.options)
    context.set_alpn_protocols(["http/1.1"])
    with Http2Client(server.address, tls=context, hello=False) as client:
        client.send(PREFACE)
        assert client.socket.recv(100).startswith(b"HTTP/1.1 505 ")


def test_http1_after_the_agreement_on_http2_is_closed(serve, pair, context):
    """RFC 9113, section 3.4: what does not begin with the preface is a connection error."""
    server = serve("apps.echo:application", *pair.options, "--log-level", "debug")
    for sent in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"P", PREFACE[:-1] + b"!"):
        with Http2Client(server.address, tls=context, hello=False) as client:
            client.send(sent[:1])
            wait_read(client)
            client.send(sent[1:] or b"OST / HTTP/1.1\r\n")
            assert client.wait_end() in (None, PROTOCOL_ERROR)
            assert not any(answer.status for answer in client.answers.values())
        server.expect_log(r"closed the HTTP/2 connection of 127\.0\.0\.1: no preface")
    with Http2Client(server.address, tls=context) as client:
        client.expect_alive()


def test_silent_client_after_the_handshake_delays_no_stop(serve, pair, context):
    server = serve(CONTROL, *pair.options)
    with Http2Client(server.address, tls=context, hello=False) as client:
        wait_read(client)
        server.signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        client.wait_end()


def test_much_both_ways_through_a_reader_that_dawdles(serve, pair, context):
    server = serve(STUCK, *pair.options, "--threads", "2")
    with Http2Client(
        server.address, tls=context, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30}
    ) as client:
        client.update_window(0, 1 << 30)
        streams = [client.open("/large?blocks=100") for _ in range(4)]
        wait_blocked(client)
        for stream in streams:
            assert client.answer(stream).body == b"x" * 6_553_600
        assert client.request("/ping", "POST", body=b"y" * 200_000).status == 200


def test_an_upload_by_curl(serve, authority, pair, tmp_path):
    curl = installed("curl")
    server = serve(CONTROL, *pair.options)
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 1_000_000)
    command = [curl, "-sS", "--http2", "--cacert", str(authority.certificate), "--data-binary", f"@{body}"]
    url = f"https://localhost:{server.address[1]}/ping"
    done = subprocess.run(
        [*command, "-w", " %{http_version} %{http_code}", url], capture_output=True, check=True
    )
    assert done.stdout.endswith(b" 2 200"), done


@pytest.mark.parametrize("streamed", [False, True], ids=["stored", "streamed"])
@pytest.mark.parametrize("secure", [False, True], ids=["cleartext", "tls"])
def test_an_upload_of_100_mb_takes_bounded_memory(serve, authority, pair, tmp_path, secure, streamed):
    curl = installed("curl")
    options = [*(pair.options if secure else ()), *(["--stream-request-body=always"] if streamed else [])]
    server = serve(CONTROL, *options, "--limit-request-body", "200m")
    before = peak(server.worker.pid)
    size = 100 << 20
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(size)
    way = ["--http2", "--cacert", str(authority.certificate)] if secure else ["--http2-prior-knowledge"]
    url = f"{'https' if secure else 'http'}://localhost:{server.address[1]}/consume"
    command = [curl, "-sS", *way, "-4", "-T", str(body), "-w", " %{http_version} %{http_code}", url]
    done = subprocess.run(command, capture_output=True, timeout=50, check=True, text=True)
    assert done.stdout == f"{size} 2 200", done
    assert peak(server.worker.pid) - before < 16 << 20


def peak(pid: int) -> int:
    """The most memory that a process has had."""
    (line,) = [line for line in read_or_empty(Path(f"/proc/{pid}/status")).splitlines() if "VmHWM" in line]
    return int(line.split()[1]) << 10


def test_a_reset_a_stop_and_the_end(serve, pair, context):
    server = serve(STUCK, *pair.options, "--threads", "1")
    with Http2Client(server.address, tls=context) as client:
        running = client.open("/sleep?seconds=0.7")
        server.rendezvous.wait_for("sleeps")
        client.reset(client.open("/ping"))
        server.signal(signal.SIGTERM)
        client.wait(lambda: client.goaways, "GOAWAY")
        assert client.answer(running).body == b"slept"
        assert client.wait_end() == 0
    assert server.process.wait(10) == 0


def test_zero_window_and_idle_session_are_closed(serve, pair, context):
    server = serve(CONTROL, *pair.options, "--write-timeout", "1", "--keep-alive", "1")
    with Http2Client(server.address, tls=context, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as client:
        assert client.answer(client.open("/ping")).reset is not None
        assert client.wait_end() == 0


def test_a_client_that_never_reads_is_cut(serve, pair, context):
    server = serve(STUCK, *pair.options, "--threads", "2", "--write-timeout", "1")
    with Http2Client(
        server.address, tls=context, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 30}
    ) as client:
        client.update_window(0, 1 << 30)
        for _ in range(4):
            client.open("/large?blocks=1000")
        wait_closed(client)
        with Http2Client(server.address, tls=context) as other:
            other.expect_alive()


def test_h2load(serve, pair):
    h2load = installed("h2load")
    server = serve(CONTROL, *pair.options, "--workers", "2")
    url = f"https://localhost:{server.address[1]}/ping"
    command = [h2load, "-n", "5000", "-c", "4", "-m", "32", url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True)
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
