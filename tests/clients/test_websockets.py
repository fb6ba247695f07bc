"""WebSockets: `environ["gunicorn.socket"]`, used by flask-sock, Flask-SocketIO and by itself."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.packages import skip_without
from harness.rendezvous import wait_until, wait_until_steady
from harness.server import run_to_end
from harness.sources import program
from harness.websocket_client import PING, PONG, TEXT, WebSocketClient, frame

skip_without("flask-sock")

APP = "apps.websockets:application"
CPU_WINDOW = 1  # Second over which the CPU time of a server that has nothing to do is taken.
SHORTEST_TIMEOUT = 1  # Second; what the settings allow that count in whole ones.
UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
TIMEOUTS = [f"{name}={SHORTEST_TIMEOUT}" for name in ("--timeout", "--write-timeout", "--keep-alive")]
WAYS = ("tcp", "unix", "tls", "proxy")
PROXY_HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 80\r\n"


class Way:
    """How clients reach a server."""

    def __init__(self, serve, name, folder, authority=None, pair=None):
        self.serve, self.name = serve, name
        self.bind = f"unix:{folder}/ws.sock" if name == "unix" else "127.0.0.1:0"
        self.context = authority.context() if name == "tls" else None
        self.options = {
            "tls": pair.options if pair else [],
            "proxy": ["--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1"],
        }.get(name, [])

    def start(self, *options, **more):
        """A server that is reached so."""
        self.server = self.serve(APP, *self.options, *options, bind=self.bind, **more)
        return self.server

    def connect(self, target="/echo", **more):
        """A client."""
        before = PROXY_HEADER if self.name == "proxy" else b""
        return WebSocketClient(self.server.address, target, context=self.context, before=before, **more)


@pytest.fixture(params=WAYS)
def way(request, serve, tmp_path):
    """Each way."""
    secured = request.param == "tls"
    authority = request.getfixturevalue("authority") if secured else None
    pair = request.getfixturevalue("pair") if secured else None
    return Way(serve, request.param, tmp_path, authority, pair)


def test_flask_sock_echoes(way):
    server = way.start("--threads", "2")
    with way.connect() as client:
        assert client.status == 101
        for payload in ("hello", "", "gr\u00fc\u00dfe", b"\x00\xff" * 10, b"x" * 200_000, "y" * 70_000):
            client.echo(payload)
        assert client.close(1000) == 1000
    server.rendezvous.wait_for("echo has ended ")
    assert not server.find_records("StopIteration|Traceback")


def test_an_open_websocket_costs_nothing(way):
    server = way.start("--threads", "2")
    with way.connect(ahead=frame(TEXT, b"ahead")) as one, way.connect() as two:
        assert one.receive() == "ahead"
        two.echo("x")
        before = server.worker.cpu_seconds()
        time.sleep(CPU_WINDOW)
        assert server.worker.cpu_seconds() - before < 0.2


def test_bytes_sent_with_the_handshake_are_kept(way):
    server = way.start("--threads", "2")
    ahead = b"".join(frame(TEXT, b"ahead %d" % number) for number in range(100))
    with way.connect(ahead=ahead) as client:
        assert [client.receive() for _ in range(100)] == [f"ahead {number}" for number in range(100)]
        client.echo(b"z" * 300_000)
        assert client.close() == 1000
    server.rendezvous.wait_for("echo has ended ")


def test_the_application_ends_the_websocket(way):
    way.start("--threads", "2")
    with way.connect("/three") as client:
        assert [client.receive() for _ in range(3)] == [f"message {number}" for number in range(3)]
        assert client.expect_close() == 1000


def test_socket_is_real_and_the_return_is_dropped(way):
    server = way.start("--threads", "2")
    with way.connect("/bare") as client:
        told = re.search("X-Told: (.*)\r\n", client.head).group(1)
        client.socket.sendall(b"12345")
        assert client.take(7) == b"<12345>"
        client.expect_end()
    family, peer, timeout, client_address, thread = told.split("|")
    assert (timeout, thread in ("portico-1", "portico-2")) == ("None", True)
    if way.name in ("unix", "tls"):
        assert (family, peer) == ("AF_UNIX", "")
    else:
        assert family == "AF_INET" and peer.startswith("('127.0.0.1', ")
    expected = {"unix": "", "proxy": "192.0.2.7"}.get(way.name, "127.0.0.1")
    assert client_address == expected
    server.rendezvous.wait_for("bare has ended")


def test_fifty_websockets_take_none_of_two_threads(serve):
    server = serve(APP, "--threads", "2")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(WebSocketClient(server.address)) for _ in range(50)]
        assert {client.status for client in clients} == {101}
        for number, client in enumerate(clients):
            client.send(f"number {number}")
        for _ in range(20):
            assert server.request("GET", "/ping", timeout=2).body == b"pong"
        assert [client.receive() for client in clients] == [f"number {number}" for number in range(50)]
        listed = run_to_end("status", str(server.pid), cwd=server.rendezvous.folder).stdout
        assert listed.count("websocket") == 50 and " 0/2 " in listed, listed
        for client in clients[:25]:
            assert client.close() == 1000
        for client in clients[25:]:
            client.echo("still")
    wait_until(lambda: server.scoreboard().busy_threads(server.worker.pid) == 0, "calls to end")
    wait_until(lambda: threads_of(server) <= 8, "their threads to end")
    assert server.request("GET", "/ping").body == b"pong"


def threads_of(server) -> int:
    return len(server.worker.thread_names())


def test_place_of_a_thread_is_refilled_repeatedly(serve):
    """One thread; each WebSocket has another one come, and numbers are used again."""
    server = serve(APP, "--threads", "1", "--max-streams", "3")
    for _ in range(20):
        with WebSocketClient(server.address) as client:
            client.echo("x")
            assert server.request("GET", "/ping", timeout=2).body == b"pong"
            client.close()
        server.rendezvous.wait_for("echo has ended ")
    wait_until(lambda: threads_of(server) <= 8, "their threads to end")


def test_no_timeout_applies(way):
    server = way.start(*TIMEOUTS, "--threads", "1")
    with way.connect() as client:
        client.echo("before")
        time.sleep(3 * SHORTEST_TIMEOUT)
        client.echo("after")
        client.close()
    server.rendezvous.wait_for("echo has ended ")
    assert not server.find_records("(?i)timeout: |WORKER TIMEOUT")


def test_pings_of_the_server(way):
    server = way.start("--threads", "1", "--graceful-timeout", "20", environment={"PING_INTERVAL": "0.5"})
    with way.connect() as client:
        for _ in range(3):
            client.echo("x")
            opcode, payload = client.receive_frame()
            assert opcode == PING
            client.socket.sendall(frame(PONG, payload))
        server.signal(signal.SIGTERM)
        assert client.expect_close() == 1001
    assert server.wait_exit() == 0


def test_client_that_ignores_pings_is_disconnected(way):
    server = way.start("--threads", "1", environment={"PING_INTERVAL": "0.3"})
    with way.connect() as client:
        assert client.expect_close() == 1008  # Policy violation, as simple-websocket has it.
    server.rendezvous.wait_for("echo has ended ")


def test_call_without_the_socket_keeps_its_timeout(serve):
    server = serve("apps.control:application", "--timeout", "1", "--threads", "1")
    with server.connect() as client:
        response = client.request("GET", "/hold?gate=never", UPGRADE)
    assert response.status == 504
    server.expect_log("timeout: GET /hold")
    server.expected.append(re.compile("WORKER TIMEOUT|RequestTimeout"))


def test_max_streams(serve):
    server = serve(APP, "--threads", "2", "--max-streams", "2")
    with WebSocketClient(server.address) as one, WebSocketClient(server.address) as two:
        one.echo("x")
        two.echo("x")
        with WebSocketClient(server.address) as three:
            assert three.status == 503
            assert "Retry-After: 1\r\n" in three.head
        server.expect_log(r"2 WebSockets are open \(--max-streams\)")
        assert server.request("GET", "/ping").body == b"pong"
        two.close()
        server.rendezvous.wait_for("echo has ended ")

        def is_taken() -> bool:
            with WebSocketClient(server.address) as client:
                return client.status == 101

        wait_until(is_taken, "a place")


def test_without_streams_there_is_no_socket(serve):
    server = serve(APP, "--max-streams", "0")
    assert server.request("GET", "/unused", UPGRADE).body == b"False False None"


def test_call_without_the_socket_responds_as_usual(serve):
    server = serve(APP, "--threads", "1", "--max-streams", "1")
    with server.connect() as client:
        for _ in range(3):
            body = client.request("GET", "/unused", UPGRADE).body
            assert body.startswith(b"True True <portico."), body
        assert client.request("GET", "/unused").body == b"False False None"
        assert client.request("GET", "/unused", [("Upgrade", "h2c")]).body == b"False False None"
        assert client.request("POST", "/unused", UPGRADE, b"x").body == b"False False None"
        response = client.request("GET", "/late", UPGRADE)
        assert response.body == b"begun OSError"
        assert client.request("GET", "/ping").body == b"pong"


def test_kept_socket_leads_to_no_other_request(serve):
    server = serve(APP, "--threads", "1")
    with server.connect() as client:
        assert client.request("GET", "/keep", UPGRADE).body == b"kept"
        assert client.request("GET", "/use-kept", UPGRADE).body == b"OSError"
        assert client.request("GET", "/ping").body == b"pong"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways_have_none(serve, protocol):
    server = serve(APP, bind=f"{protocol}://127.0.0.1:0")
    answer = ask(server.address, protocol, variables("/unused", HTTP_UPGRADE="websocket"))
    assert answer.body == b"False False None"


def test_a_trusted_proxy_tells_of_the_client(serve):
    server = serve(APP, "--forwarded-allow-ips", "127.0.0.1")
    with WebSocketClient(server.address, "/bare", fields=[("X-Forwarded-For", "192.0.2.9")]) as client:
        assert "|192.0.2.9|" in client.head
        client.socket.sendall(b"12345")
        assert client.take(7) == b"<12345>"


@pytest.mark.parametrize("leaving", ["fin", "reset"])
def test_a_client_that_vanishes(way, leaving):
    server = way.start("--threads", "1")
    client = way.connect()
    client.echo("x")
    client.vanish() if leaving == "reset" else client.socket.close()
    server.rendezvous.wait_for("echo has ended ")
    wait_until(lambda: "websocket" not in status(server), "the call to end")
    with way.connect() as client:
        client.echo("x")
    assert not server.find_records("Traceback")


def test_client_that_vanishes_while_being_sent_to(way):
    server = way.start("--threads", "1")
    with way.connect("/push") as client:
        client.take(200_000)
        client.vanish()
    server.rendezvous.wait_for("push has ended")
    wait_until(lambda: "websocket" not in status(server), "the call to end")


def status(server) -> str:
    return run_to_end("status", str(server.pid), cwd=server.rendezvous.folder).stdout


def test_client_that_does_not_read_blocks_the_application(way):
    server = way.start("--threads", "2")
    with way.connect("/push") as client:
        client.take(100)
        before = server.worker.memory()
        wait_until_steady(server.worker.memory)
        assert server.worker.memory() - before < 4 << 20
        total = 0
        while total < 20 << 20:
            total += len(client.socket.recv(1 << 20))
    server.rendezvous.wait_for("push has ended")


def test_application_that_does_not_read_blocks_the_client(way):
    server = way.start("--threads", "2")
    with way.connect("/hoard") as client:
        server.rendezvous.wait_for("holding hoard")
        before, total, size = server.worker.memory(), 0, 64 << 20
        client.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while total < size:
                total += client.socket.send(b"x" * (1 << 18))
        assert total < size, "it was all taken"
        assert server.worker.memory() - before < 4 << 20
        client.socket.settimeout(10)
        server.rendezvous.open("hoard")
        if client.socket.family != socket.AF_UNIX and way.name != "tls":
            client.socket.shutdown(socket.SHUT_WR)
            assert int(client.read_until(str(total).encode())) == total


def test_stop_tells_clients_that_it_goes_away(way):
    # Longer than it is waited for: a server that waits for its clients fails.
    server = way.start("--threads", "2", "--graceful-timeout", "30")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(way.connect()) for _ in range(10)]
        for client in clients:
            client.echo("x")
        server.signal(signal.SIGTERM)
        assert [client.expect_close() for client in clients] == [1001] * 10
        assert server.wait_exit() == 0
    # Those that are left after the graceful timeout are told in the log.
    assert not server.unexpected_records()


def test_reload_moves_clients_on(way):
    server = way.start("--threads", "2", "--graceful-timeout", "20")
    old = server.wait_workers(1)
    with way.connect() as client, way.connect("/push") as pushed:
        client.echo("x")
        assert len(pushed.receive()) == 65536
        server.signal(signal.SIGHUP)
        drained = threading.Thread(target=pushed.expect_close)
        drained.start()
        assert client.expect_close() == 1001
        drained.join(10)
        assert not drained.is_alive()
    server.wait_replaced(old)
    with way.connect() as client:
        client.echo("again")


def test_recycling_ends_websockets(serve):
    server = serve(APP, "--threads", "2", "--max-requests", "3", "--max-requests-jitter", "0")
    old = server.wait_workers(1)
    with WebSocketClient(server.address) as client:
        client.echo("x")
        for _ in range(4):
            assert server.request("GET", "/ping").body == b"pong"
        assert client.expect_close() == 1001
    server.wait_replaced(old)


def test_unending_websocket_ends_after_the_graceful_timeout(serve):
    server = serve(APP, "--threads", "1", "--graceful-timeout", "1")
    with WebSocketClient(server.address, "/deaf") as client:
        server.rendezvous.wait_for("deaf has begun")
        server.signal(signal.SIGTERM)
        client.expect_end()
        assert server.wait_exit() == 0
    server.expect_log("cut GET /deaf")


def test_a_failure_of_the_application_is_told_once(serve):
    server = serve(APP, "--threads", "1")
    with WebSocketClient(server.address, "/broken") as client:
        assert client.receive() == "here"
        client.expect_end()
    server.expect_log("planted error")
    assert server.request("GET", "/ping").body == b"pong"


@pytest.mark.parametrize("secured", [False, True])
def test_access_log_has_its_line_at_the_end(serve, tmp_path, authority, pair, secured):
    way = Way(serve, "tls" if secured else "tcp", tmp_path, authority, pair)
    server = way.start("--access-logfile", "-", "--access-logformat", "%(r)s %(s)s %(B)s")
    with way.connect() as client:
        client.echo("x")
        with way.connect("/three"):
            pass
        wait_until(lambda: any("/three" in line for line in server.stdout.lines), "the line of a later one")
        assert not server.find_records("/echo") and not any("/echo" in line for line in server.stdout.lines)
        client.close()
    wait_until(lambda: any("/echo" in line for line in server.stdout.lines), "the line")
    (line,) = [line for line in server.stdout.lines if "/echo" in line]
    assert line.startswith("GET /echo HTTP/1.1 101 ")
    # What goes over a socket of the application's own is not counted.
    assert (int(line.split()[-1]) > 0) == secured


def test_flask_socketio_with_its_own_client(serve):
    skip_without("flask-socketio")
    server = serve("apps.socketio_app:application", "--threads", "4")
    ended = run_client("socketio_client", "http://{}:{}".format(*server.address))
    assert ended.returncode == 0 and ended.stdout.strip() == "done", ended.stderr
    assert server.request("GET", "/ping").body == b"pong"
    assert not server.find_records("Traceback")


def test_simple_websocket_with_its_own_client(serve):
    server = serve(APP, "--threads", "1")
    ended = run_client("simple_websocket_client", "ws://{}:{}/echo".format(*server.address))
    assert ended.returncode == 0 and ended.stdout.strip() == "done", ended.stderr


def run_client(name: str, url: str) -> subprocess.CompletedProcess[str]:
    """Runs a client of a library's to its end."""
    return subprocess.run([*program(name), url], capture_output=True, text=True, timeout=60, check=False)
