"""What an application can do to other workers, the supervisor and clients: it may cost its own worker."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import time

import pytest

from harness.http2_client import Http2Client
from harness.http_client import Client, request_bytes
from harness.ports import free_port
from harness.process import Process
from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sockets import wait_read
from harness.sources import program

APP = "apps.meddling:application"
SUPERVISOR_TICK = 1  # Second after which the supervisor reads the scoreboard again.


def ask(server, target: str) -> str:
    """The body of an answer, which is 200."""
    response = server.request("GET", target)
    assert response.status == 200, (response, server.log_text)
    return response.body.decode()


# Shared memory


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_no_worker_shortens_what_all_have_mapped(serve, pair, options):
    server = serve(APP, "--workers", "2", *options, *pair.options, bind="https://127.0.0.1:0")
    before = server.wait_workers(2)
    context = ssl.create_default_context(cafile=None)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = Client(server.address)
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    told = client.request("GET", "/shorten").body.decode().splitlines()
    client.close()
    assert sum("portico-scoreboard" in line for line in told) == 3, told
    assert sum("portico-tls" in line for line in told) == 3, told
    assert all(line.endswith(": Operation not permitted") for line in told), told
    time.sleep(SUPERVISOR_TICK + 0.5)
    assert server.wait_workers(2) == before


def test_huge_file_of_stacks_is_not_read_whole(serve):
    server = serve(APP, "--workers", "1", "--boot-timeout", "60")
    (worker,) = server.wait_workers(1)
    assert ask(server, "/stretch-stacks") == str(worker.pid)
    command = [sys.executable, "-m", "portico", "stacks", str(server.pid)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 0, told.stderr
    assert server.supervisor.resident_memory() < 200_000_000


# What was judged of a client


@pytest.mark.parametrize("way", ["idle", "begun", "waiting"])
@pytest.mark.parametrize(
    ("header", "trusted"),
    [(b"PROXY UNKNOWN\r\n", False), (b"PROXY TCP4 192.0.2.7 198.51.100.2 4711 443\r\n", True)],
)
def test_trust_does_not_grow_when_a_connection_moves(serve, tmp_path, way, header, trusted):
    """One of whom the balancer says that it knows nothing is believed by no worker."""
    (tmp_path / "told.py").write_text(
        "import os\n"
        "from apps.meddling import routes\n"
        "@routes('/who')\n"
        "def who(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    told = [environ['REMOTE_ADDR'], environ['portico.peer'], environ.get('PROXY_ADDR')]\n"
        "    return [repr([*told, os.getpid()]).encode()]\n"
        "application = routes.application\n"
    )
    options = ("--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1")
    options += ("--forwarded-allow-ips", "127.0.0.1,192.0.2.7", "--workers", "2", "--threads", "1")
    server = serve("told", *options, cwd=tmp_path)
    workers = server.wait_workers(2)
    forwarded = [("X-Forwarded-For", "203.0.113.9")]

    def connect() -> Client:
        client = server.connect()
        client.send(header)
        return client

    def who(client) -> list:
        return eval(client.request("GET", "/who", forwarded).body.decode())

    with connect() as client:
        *told, pid = who(client)
        assert told[0] == ("203.0.113.9" if trusted else "127.0.0.1"), told
        leaving = next(worker for worker in workers if worker.pid == pid)
        request = request_bytes("GET", "/who", forwarded)
        if way == "waiting":
            # Its only thread is taken: the request moves to the other worker.
            holding = connect()
            while int(holding.request("GET", "/pid").body) != pid:
                holding.close()
                holding = connect()
            holding.send(request_bytes("GET", "/hold?gate=only"))
            server.rendezvous.wait_for("holding only")
            client.send(request)
        else:
            if way == "begun":
                client.send(request[:40])
                wait_read(client)
            leaving.signal(signal.SIGTERM)
            wait_until(lambda: not leaving.alive, "the worker to have handed it over")
            client.send(request[40:] if way == "begun" else request)
        *after, moved_to = eval(client.read_response().body.decode())
        assert moved_to != pid, "the connection has moved"
        assert after == told
        if way == "waiting":
            server.rendezvous.open("only")
            assert holding.read_response().status == 200
            holding.close()


# Descriptors 0 to 2


def silent_clients(server, count: int = 4) -> list[Client]:
    """Clients that have connected, and whose connections the worker has accepted."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        assert client.request("GET", "/ping").status == 200
    return clients


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1,2"])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix"])
def test_descriptors_closed_by_the_application_reach_no_client(serve, tmp_path, closed, bind):
    bind = f"unix:{tmp_path}/socket" if bind == "unix" else bind
    server = serve(APP, "--access-logfile", "-", bind=bind)
    ask(server, f"/close?what={closed}")
    clients = silent_clients(server)
    ask(server, "/say")
    opened = ask(server, "/descriptors?numbers=0,1,2").split(",")
    for number in closed.split(","):
        assert opened[int(number)] in ("/dev/null", "nothing"), opened
    assert not any(link.startswith(("socket:", "anon_inode:", "/memfd:")) for link in opened)
    for client in clients:
        client.expect_silence(0)
        client.expect_in_sync()
        client.close()
    # The logs have descriptors of their own.
    wait_until(lambda: any("/say" in line for line in server.stdout.lines), "the access log goes on")
    ask(server, "/log?text=after")
    server.expect_text("after 0")


def test_closed_log_descriptors_reach_no_client(serve, tmp_path):
    access, error = tmp_path / "access.log", tmp_path / "error.log"
    server = serve(APP, "--access-logfile", str(access), error_log=error)
    (worker,) = server.wait_workers(1)
    ask(server, f"/close?what={access},{error}")
    clients = silent_clients(server)
    ask(server, "/log?text=after&token=secret")
    wait_until(lambda: "token=secret" in access.read_text(), "the access log goes on")
    server.expect_text("after 0")
    for client in clients:
        client.expect_silence(0)
        client.expect_in_sync()
        client.close()
    assert server.wait_workers(1) == [worker]


def test_unopenable_log_is_never_written_to_a_client(serve, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    server = serve(APP, error_log=folder / "error.log")
    server.wait_workers(1)
    ask(server, f"/close?what={folder}/error.log")
    folder.rename(tmp_path / "elsewhere")
    clients = silent_clients(server)
    ask(server, "/log?text=after")
    server.expect_text("after 0")
    assert any("after 0" in line for line in server.stderr.lines), "standard error is left"
    for client in clients:
        client.expect_silence(0)
        client.expect_in_sync()
        client.close()


def test_moved_bodies_and_connections_avoid_standard_descriptors(serve):
    server = serve(APP, "--workers", "2", "--threads", "1")
    workers = server.wait_workers(2)
    closed: set[int] = set()
    while len(closed) < 2:
        closed.add(int(ask(server, "/pid")))
    for pid in closed:
        with server.connect() as client:
            while int(client.request("GET", "/pid").body) != pid:
                client.close()
                client = server.connect()
            assert client.request("GET", "/close?what=0,1,2").status == 200
            # A body that goes to a file, of which the application prints nothing into the next ones.
            body = b"b" * 1_000_000
            assert client.request("POST", "/pid", body=body).status == 200
            assert client.request("GET", "/descriptors?numbers=0,1,2").body.count(b"/dev/null") == 3
            client.close()
    leaving, staying = workers
    with server.connect() as client:
        while int(client.request("GET", "/pid").body) != leaving.pid:
            client.close()
            client = server.connect()
        leaving.signal(signal.SIGTERM)
        wait_until(lambda: not leaving.alive, "the worker to end")
        assert client.request("GET", "/say").status == 200
        client.expect_in_sync()
        client.close()
    assert staying.alive


@pytest.mark.parametrize("redirections", ["<&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
def test_descriptors_closed_at_the_start_stay_harmless(serve, tmp_path, redirections):
    prefix = ("/bin/sh", "-c", f'exec "$@" {redirections}', "sh")
    log = tmp_path / "error.log"
    server = serve(APP, "--access-logfile", str(tmp_path / "access.log"), prefix=prefix, error_log=log)
    (worker,) = server.wait_workers(1)
    clients = silent_clients(server)
    ask(server, "/say")
    for client in clients:
        client.expect_silence(0)
        client.close()
    for process in (server.supervisor, worker):
        links = [os.readlink(process.folder / "fd" / str(number)) for number in (0, 1, 2)]
        assert links.count("/dev/null") >= redirections.count("&-"), links
        assert not any(link.startswith(("socket:", "anon_inode:", "/memfd:")) for link in links), links


# Descriptors that the server needs

LOST = "this process cannot go on"


@pytest.mark.parametrize(
    "what",
    ["eventpoll", "eventfd", "listener", "line", "portico-stacks", "everything"],
)
@pytest.mark.parametrize("options", [("--threads", "1"), ("--threads", "3", "--preload")])
def test_unable_worker_is_replaced_with_one_reason(serve, what, options):
    server = serve(APP, "--workers", "2", *options)
    workers = server.wait_workers(2)
    with server.connect() as client:
        client.send(request_bytes("GET", f"/close?what={what}"))
        server.rendezvous.wait_for_prefix("closes ")
        record = server.expect_log(LOST)
        assert "closes descriptors that are not its own" in record
    crippled = next(worker for worker in workers if f"[{worker.pid}]" in record)
    wait_until(lambda: crippled.pid not in server.states(), "the worker to end", 5)
    died = server.expect_log(f"pid {crippled.pid}.* died")
    assert "see above in this log" in died
    after = server.wait_workers(2)
    assert crippled not in after and len(set(after) & set(workers)) == 1
    assert server.answering_pids() <= {worker.pid for worker in after}
    assert len(server.find_records(LOST)) == 1
    troubles = [record for record in server.records if "[ERROR]" in record or "[WARNING]" in record]
    assert len(troubles) <= 3, troubles


def test_worker_with_a_closed_log_still_explains_itself(serve, tmp_path):
    server = serve(APP, error_log=tmp_path / "error.log")
    (worker,) = server.wait_workers(1)
    with server.connect() as client:
        client.send(request_bytes("GET", "/close?what=everything"))
        server.expect_log(f"\\[{worker.pid}\\].*{LOST}")
    server.expect_log("died")
    server.wait_replaced([worker])


def test_the_scoreboard_is_needed_mapped_and_not_open(serve):
    server = serve(APP)
    (worker,) = server.wait_workers(1)
    ask(server, "/close?what=portico-scoreboard")
    time.sleep(2 * SUPERVISOR_TICK + 0.5)
    assert server.wait_workers(1) == [worker]
    assert ask(server, "/pid") == str(worker.pid)


@pytest.mark.parametrize("what", ["eventpoll", "listener", "everything"])
def test_serve_raises_where_it_cannot_go_on(tmp_path, what):
    port = free_port()
    environment = {"TEST_RENDEZVOUS": str(tmp_path)}
    command = [*program("serve_meddling"), str(port), what]
    ended = run_to_end(program=command, cwd=tmp_path, environment=environment)
    assert ended.stdout.startswith("raised this process cannot go on"), (ended.stdout, ended.stderr)


# Processes that the application forks


def wait_child(server) -> Process:
    """The process that was left behind."""
    server.rendezvous.wait_for_prefix("child ")
    return Process(int(server.rendezvous.matching("child ")[-1].split()[1]))


CLOSING = [("Connection", "close")]


@pytest.fixture
def children(serve):
    """Ends what the application has left behind."""
    yield
    for server in serve.servers:
        for event in server.rendezvous.matching("child "):
            Process(int(event.split()[1])).kill()


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix"])
def test_a_forked_process_keeps_no_client_waiting(serve, tmp_path, bind):
    bind = f"unix:{tmp_path}/socket" if bind == "unix" else bind
    server = serve(APP, "--keep-alive", "1", bind=bind)
    with server.connect(3) as kept, server.connect(3) as closing:
        assert kept.request("GET", "/ping").status == 200
        assert closing.request("GET", "/leave-child", CLOSING).status == 200
        child = wait_child(server)
        closing.expect_end()
        # One that is idle, and one that is refused.
        kept.expect_end()
        with server.connect(3) as refused:
            refused.send(b"NOT HTTP\r\n\r\n")
            assert refused.read_response().status == 400
            refused.expect_end()
    with server.connect(3) as last:
        assert last.request("GET", "/leave-child").status == 200
        server.signal(signal.SIGTERM)
        last.expect_end()
    assert server.wait_exit() == 0
    assert child.alive


def assert_is_cut(client) -> None:
    """Its chunked response has all that was given, and no end; then the connection ends."""
    received = b"".join(iter(client.receive, b""))
    assert b"a beginning" in received and not received.endswith(b"0\r\n\r\n")


@pytest.mark.usefixtures("children")
def test_cut_response_looks_cut_despite_a_fork(serve):
    server = serve(APP)
    with server.connect(3) as client:
        client.send(request_bytes("GET", "/leave-child?way=cut"))
        assert_is_cut(client)
        assert wait_child(server).alive
    server.expect_log("planted error")


@pytest.mark.usefixtures("children")
def test_fork_takes_nothing_from_tls_and_http2_endings(serve, pair):
    server = serve(APP, "--keep-alive", "1", *pair.options, bind="https://127.0.0.1:0")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with server.connect(3) as client:
        client.socket = context.wrap_socket(
            client.socket, server_hostname="localhost", suppress_ragged_eofs=False
        )
        assert client.request("GET", "/leave-child", CLOSING).status == 200
        child = wait_child(server)
        client.expect_end()  # By close_notify: else it raises.
    with server.connect(3) as client:
        client.socket = context.wrap_socket(
            client.socket, server_hostname="localhost", suppress_ragged_eofs=False
        )
        client.send(request_bytes("GET", "/leave-child?way=cut"))
        assert_is_cut(client)
    server.expect_log("planted error")
    context.set_alpn_protocols(["h2"])
    with Http2Client(server.address, 3, tls=context) as client:
        assert client.request("/leave-child").status == 200
        client.wait_end()
    assert child.alive


@pytest.mark.usefixtures("children")
def test_connection_shared_with_a_fork_still_moves(serve):
    server = serve(APP, "--workers", "2")
    workers = server.wait_workers(2)
    with server.connect() as client:
        pid = int(client.request("GET", "/leave-child").body)
        child = wait_child(server)
        leaving = next(worker for worker in workers if worker.pid == pid)
        leaving.signal(signal.SIGTERM)
        wait_until(lambda: not leaving.alive, "the worker to end")
        client.expect_silence(0)
        assert int(client.request("GET", "/pid").body) != pid
        assert child.alive


def test_junk_between_workers_costs_few_lines(serve):
    server = serve(APP, "--workers", "2")
    workers = server.wait_workers(2)
    ask(server, "/junk")
    server.expect_log("is not one of ours")
    clients = silent_clients(server, 20)
    server.signal(signal.SIGHUP)
    server.wait_replaced(workers)
    for client in clients:
        client.expect_in_sync()
        client.close()
    # The connections have come through the same socket, behind the junk.
    assert len(server.find_records("is not one of ours")) < 20


# The control socket


@pytest.mark.parametrize("message", ["xreason", "?", "cfile.py", "r"])
def test_worker_flooding_its_socket_is_killed_alone(serve, message):
    server = serve(APP, "--workers", "2")
    workers = server.wait_workers(2)
    used = server.supervisor.cpu_seconds()
    with server.connect() as client:
        client.send(request_bytes("GET", f"/flood?message={message}"))
        record = server.expect_log("flooded its control socket", patience=10)
    pid = int(re.search(r"\(pid (\d+)\)", record)[1])
    wait_until(lambda: pid not in server.states(), "the worker to end")
    after = server.wait_workers(2)
    assert len(set(after) & set(workers)) == 1
    assert server.supervisor.cpu_seconds() - used < 2
    assert len(server.find_records("flooded")) == 1
    if message == "?":
        server.expect_log("unknown kind")
        assert len(server.find_records("unknown kind")) == 1
    server.signal(signal.SIGHUP)
    server.wait_replaced(after)
