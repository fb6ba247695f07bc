"""Where the server listens: TCP, UNIX sockets, inherited descriptors, and what is said when it cannot."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat

import pytest

from harness.http_client import Client
from harness.ports import free_port_everywhere
from harness.server import TESTS, run_to_end
from harness.sources import program

ECHO = "apps.echo:application"


def ping(address) -> int:
    """Status of a request to this address."""
    with Client(address) as client:
        return client.request("GET", "/ping").status


def test_port_0_tells_the_port(serve):
    server = serve(ECHO, bind="127.0.0.1:0")
    host, port = server.address
    assert (host, ping((host, port))) == ("127.0.0.1", 200)
    assert port > 0


def test_start_up_lines_tell_application_address_and_threads(serve):
    server = serve(ECHO, "--threads", "3")
    assert ECHO in server.log_text
    assert f"http://127.0.0.1:{server.address[1]}" in server.log_text
    assert "3 threads" in server.log_text
    assert "ortico" in server.log_text
    assert str(server.pid) in server.log_text
    assert "\x1b" not in server.log_text, "colours are for terminals"
    assert server.stdout.lines == []


def test_one_thread_is_not_called_threads(serve):
    server = serve(ECHO, "--threads", "1")
    assert "1 thread" in server.log_text
    assert "1 threads" not in server.log_text


def test_several_addresses(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve(ECHO, bind=["127.0.0.1:0", "127.0.0.1:0", f"unix:{path}"])
    assert len(server.addresses) == 3
    assert [ping(address) for address in server.addresses] == [200] * 3


def test_ipv6(serve):
    server = serve(ECHO, bind="[::1]:0")
    assert server.address[0] == "::1"
    assert ping(server.address) == 200
    with server.connect() as client:
        environ = json.loads(client.request("GET", "/").body)["environ"]
    assert environ["SERVER_NAME"] == "[::1]", "as RFC 3875, section 4.1.14, writes it"


def test_host_name(serve):
    server = serve(ECHO, bind="localhost:0")
    assert all(ping(address) == 200 for address in server.addresses)


def test_environment_gives_the_port(serve):
    port = free_port_everywhere()
    server = serve(ECHO, bind=None, environment={"PORT": str(port)})
    assert ping(("127.0.0.1", port)) == 200
    assert server.addresses[0][1] == port


def test_unix_socket_mode_and_removal(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve(ECHO, "--socket-mode", "640", bind=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert ping(str(path)) == 200
    server.stop()
    assert not path.exists()


def test_stale_unix_socket_is_replaced(serve, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert path.exists()
    serve(ECHO, bind=f"unix:{path}")
    assert ping(str(path)) == 200


def test_unix_socket_in_use_is_left_alone(serve, tmp_path):
    path = tmp_path / "socket"
    serve(ECHO, bind=f"unix:{path}")
    inode = path.stat().st_ino
    check_refusal(run_to_end("--bind", f"unix:{path}", ECHO, cwd=TESTS), str(path), "listening")
    assert path.stat().st_ino == inode
    assert ping(str(path)) == 200


def test_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    check_refusal(run_to_end("--bind", f"unix:{path}", ECHO, cwd=TESTS), str(path))
    assert path.read_text() == "data"


def test_stop_leaves_the_socket_of_another_server(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve(ECHO, bind=f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        server.stop()
        assert path.exists()


def test_inherited_descriptor(serve):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        number = listener.fileno()
        server = serve(ECHO, bind=f"fd://{number}", pass_fds=(number,))
        assert ping(listener.getsockname()) == 200
        server.stop()


# What systemd does between fork and exec: the sockets become 3 and up, and LISTEN_PID says whose they are.
ACTIVATE = program("activate")


@pytest.mark.parametrize(("bind", "served"), [(None, ["web", "admin"]), ("fd://admin", ["admin"])])
def test_sockets_of_systemd(serve, bind, served):
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as admin:
        # High enough that none of them is among those that they become.
        passed = [fcntl.fcntl(listener, fcntl.F_DUPFD, 10) for listener in (web, admin)]
        server = serve(
            ECHO,
            bind=bind,
            pass_fds=passed,
            prefix=(*ACTIVATE, ",".join(map(str, passed))),
            environment={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:admin"},
        )
        for descriptor in passed:
            os.close(descriptor)
        listeners = {"web": web, "admin": admin}
        assert [ping(listeners[name].getsockname()) for name in served] == [200] * len(served)
        if served == ["admin"]:
            server.expect_log("WARNING.*fd://3")
        server.stop()


def test_inherited_descriptor_that_is_none(tmp_path):
    check_refusal(run_to_end("--bind", "fd://77", ECHO, cwd=TESTS), "77")


def test_port_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        check_refusal(run_to_end("--bind", address, ECHO, cwd=TESTS), address, "listening")


def test_address_that_is_not_ours():
    check_refusal(run_to_end("--bind", "192.0.2.1:8000", ECHO, cwd=TESTS), "192.0.2.1:8000")


def test_unix_socket_in_a_folder_that_is_missing(tmp_path):
    path = tmp_path / "missing" / "socket"
    check_refusal(run_to_end("--bind", f"unix:{path}", ECHO, cwd=TESTS), str(path))


def check_refusal(process, *words: str) -> None:
    """One clear line that has these words, no traceback, and a status of failure."""
    assert process.returncode == 1, process
    lines = [line for line in process.stderr.splitlines() if all(word in line for word in words)]
    assert lines, process.stderr
    assert "Traceback" not in process.stderr
    assert "panicked" not in process.stderr
    assert process.stdout == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_port_that_needs_privileges():
    check_refusal(run_to_end("--bind", "127.0.0.1:1", ECHO, cwd=TESTS), "127.0.0.1:1", "ermission")
