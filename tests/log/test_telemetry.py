"""What statsd and syslog are told, and that nothing waits for them."""

from __future__ import annotations

import re
import signal
import socket
import socketserver
import threading

import pytest

from harness.certificates import Authority
from harness.datagrams import Receiver
from harness.http_client import FramingError, request_bytes
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

CONTRACT = "apps.contract:application"
CONTROL = "apps.control:application"


# statsd


def test_metrics_have_gunicorns_names(serve):
    receiver = Receiver()
    options = ("--statsd-host", f"127.0.0.1:{receiver.port}", "--statsd-prefix", "shop.", "--workers", "2")
    server = serve(CONTRACT, *options, "--enable-backlog-metric")
    receiver.expect(r"shop\.gunicorn\.workers:2\|g")
    receiver.expect(r"shop\.gunicorn\.backlog:0\|h", 2)
    with server.connect() as client:
        client.send(request_bytes("GET", "/ping") * 50)
        for _ in range(50):
            assert client.read_response().status == 200
    server.request("GET", "/raise?error=Exception&at=call")
    server.expect_log("planted error")
    receiver.expect(r"shop\.gunicorn\.request\.status\.500:1\|c")
    receiver.expect(r"shop\.gunicorn\.log\.exception:1\|c")
    times = receiver.expect(r"shop\.gunicorn\.request\.duration:(\d+\.\d{3})\|ms", 51)
    assert len(times) == 51 and all(float(time[1]) < 10_000 for time in times)
    wait_until(lambda: counted(receiver, r"shop\.gunicorn\.requests:(\d+)\|c") == 51, "51 requests", 5)
    assert counted(receiver, r"shop\.gunicorn\.request\.status\.200:(\d+)\|c") == 50
    assert len(receiver.datagrams) < 100, "requests share datagrams"
    server.signal(signal.SIGTTIN)
    receiver.expect(r"shop\.gunicorn\.workers:3\|g")


def counted(receiver: Receiver, pattern: str) -> int:
    """The sum of a counter."""
    return sum(int(match[1]) for match in receiver.expect(pattern))


def test_metrics_of_certificates(serve, tmp_path):
    pair = Authority(tmp_path / "authority").issue("localhost", days=20)
    receiver = Receiver()
    server = serve(CONTROL, *pair.options, "--statsd-host", f"127.0.0.1:{receiver.port}")
    (days,) = receiver.expect(r"portico\.certificate\.days:(\d+)\|g")
    assert days[1] in ("19", "20")
    receiver.expect(r"portico\.certificate\.stale:0\|g")
    good = pair.certificate.read_text()
    pair.certificate.write_text("nonsense")
    receiver.expect(r"portico\.certificate\.stale:1\|g")
    server.expect_log("the former certificates stay")
    pair.certificate.write_text(good)
    receiver.expect(r"portico\.certificate\.stale:0\|g", 2)


def test_metrics_go_to_a_unix_socket_with_tags(serve, tmp_path):
    receiver = Receiver(f"{tmp_path}/statsd")
    server = serve(
        CONTROL, "--statsd-host", f"unix://{tmp_path}/statsd", "--dogstatsd-tags", "env:test,team:a"
    )
    receiver.expect(r"gunicorn\.workers:1\|g\|#env:test,team:a")
    server.request("GET", "/ping")
    receiver.expect(r"gunicorn\.requests:1\|c\|#env:test,team:a")
    receiver.expect(r"gunicorn\.request\.status\.200:1\|c\|#env:test,team:a")
    receiver.expect(r"gunicorn\.request\.duration:[0-9.]+\|ms\|#env:test,team:a")
    assert server.stdout.lines == [], "metrics need no access log"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "unix:///nobody/is/here", "no-such-host.invalid:8125"])
def test_statsd_that_is_not_there_is_done_without(serve, host):
    server = serve(CONTROL, "--statsd-host", host)
    for _ in range(20):
        assert server.request("GET", "/ping").status == 200
    if "invalid" in host:
        server.expect_log("no metrics are sent to statsd at no-such-host.invalid:8125")


def test_metrics_count_what_a_logger_of_python_writes(serve, tmp_path):
    receiver = Receiver()
    (tmp_path / "gunicorn.conf.py").write_text(
        f"""
statsd_host = "127.0.0.1:{receiver.port}"
logconfig_dict = {{
    "handlers": {{"all": {{"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}}}},
    "root": {{"level": "INFO", "handlers": ["all"]}},
    "loggers": {{
        "gunicorn.error": {{"level": "INFO", "handlers": ["all"], "propagate": False}},
        "gunicorn.access": {{"level": "INFO", "handlers": ["all"], "propagate": False}},
    }},
}}
"""
    )
    server = serve(CONTRACT, "--pythonpath", TESTS, cwd=tmp_path)
    server.request("GET", "/raise?error=Exception&at=call")
    receiver.expect(r"gunicorn\.log\.exception:1\|c")
    receiver.expect(r"gunicorn\.request\.status\.500:1\|c")
    server.expect_log("planted error")


def test_a_configuration_sends_metrics_of_its_own(serve, tmp_path):
    receiver = Receiver()
    (tmp_path / "gunicorn.conf.py").write_text(
        f"""
statsd_host = "127.0.0.1:{receiver.port}"
statsd_prefix = "shop"

def post_request(worker, req, environ, resp):
    for kind in ("gauge", "counter", "histogram", "timer"):
        worker.log.info("", extra={{"metric": f"own.{{kind}}", "value": 3, "mtype": kind}})
    worker.log.info("said and counted", extra={{"metric": "own.both", "value": 1, "mtype": "gauge"}})
    worker.log.increment("own.method", 2)
    worker.log.warning("a warning of the hook")
"""
    )
    server = serve(CONTROL, "--pythonpath", TESTS, cwd=tmp_path)
    server.request("GET", "/ping")
    server.expect_log("said and counted")
    server.expect_log("a warning of the hook")
    for metric in (
        "gauge:3|g",
        "counter:3|c|@1.0",
        "histogram:3|h",
        "timer:3|ms",
        "both:1|g",
        "method:2|c|@1.0",
    ):
        receiver.expect(rf"shop\.own\.{re.escape(metric)}")
    receiver.expect(r"shop\.gunicorn\.log\.warning:1\|c\|@1\.0")


def test_a_reload_sends_elsewhere(serve, tmp_path):
    former, latter = Receiver(), Receiver()
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(f'statsd_host = "127.0.0.1:{former.port}"\n')
    server = serve(CONTROL, cwd=tmp_path)
    former.expect(r"gunicorn\.workers:1\|g")
    address = f"udp://127.0.0.1:{latter.port}"
    lines = f'statsd_host = "127.0.0.1:{latter.port}"', f'syslog_addr = "{address}"'
    conf.write_text("\n".join([*lines, "syslog = True", 'syslog_prefix = "a"', "workers = 2"]))
    assert run_to_end("reload", str(server.pid), cwd=tmp_path).returncode == 0
    server.request("GET", "/ping")
    latter.expect(r"gunicorn\.requests:1\|c")
    latter.expect(r"gunicorn\.workers:[2-4]\|g")
    latter.expect(rf"<14>gunicorn\.a\.error: \[{server.pid}\] .*\0")
    latter.expect(r"<14>gunicorn\.a\.access: \[\d+\] .* 200 .*\0")
    assert not any("requests" in line for line in former.lines)


def test_request_that_dies_with_its_worker_is_sent(serve):
    receiver = Receiver()
    address = f"127.0.0.1:{receiver.port}"
    options = ("--statsd-host", address, "--log-syslog", "--log-syslog-to", f"udp://{address}")
    server = serve("apps.processes:application", *options)
    pid = server.worker.pid
    with server.connect() as client:
        client.send(request_bytes(target="/exit?status=5"))
        with pytest.raises((FramingError, ConnectionResetError)):
            client.read_response()
    server.expect_log("died")
    receiver.expect(r"gunicorn\.request\.status\.502:1\|c")
    receiver.expect(
        rf'<14>gunicorn\.apps\.processes\.application\.access: \[{pid}\] .*"GET /exit\?status=5" 502 .*\0'
    )


# syslog


def test_both_logs_go_to_syslog_as_gunicorns_do(serve):
    receiver = Receiver()
    address = f"udp://127.0.0.1:{receiver.port}"
    server = serve(CONTRACT, "--log-syslog", "--log-syslog-to", address)
    server.request("GET", "/ping", [("User-Agent", "agent")])
    pid = server.worker.pid
    [match] = receiver.expect(rf"<14>gunicorn\.apps\.contract\.application\.access: \[{pid}\] (.*)\0")
    assert re.fullmatch(r'127\.0\.0\.1 - - \[.*\] "GET /ping HTTP/1\.1" 200 5 "-" "agent"', match[1])
    receiver.expect(rf"<14>gunicorn\.apps\.contract\.application\.error: \[{server.pid}\] Listening at: .*\0")
    assert server.stdout.lines == [], "syslog needs no file"
    server.request("GET", "/raise?error=Exception&at=call")
    server.expect_log("planted error")
    wait_until(lambda: any("planted error" in datagram for datagram in receiver.datagrams), "the traceback")
    [traceback] = [datagram for datagram in receiver.datagrams if "planted error" in datagram]
    assert traceback.startswith(f"<11>gunicorn.apps.contract.application.error: [{pid}] ")
    assert "Traceback (most recent call last)" in traceback


def test_prefix_facility_and_the_error_log_alone(serve, tmp_path):
    receiver = Receiver(f"{tmp_path}/log")
    options = ("--log-syslog-prefix", "shop", "--log-syslog-facility", "LOG_LOCAL3")
    address = ("--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log#dgram")
    server = serve(CONTROL, *address, *options, "--disable-redirect-access-to-syslog")
    server.request("GET", "/ping")
    receiver.expect(r"<158>gunicorn\.shop\.error: \[\d+\] Worker .*\0")
    server.stop()
    assert not any("access" in line for line in receiver.lines)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_syslog_over_a_stream(serve, tmp_path, kind):
    received: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            received.extend(line.decode() for line in self.rfile)

    if kind == "tcp":
        listener = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        address = f"tcp://127.0.0.1:{listener.server_address[1]}"
    else:
        listener = socketserver.ThreadingUnixStreamServer(f"{tmp_path}/log", Handler)
        address = f"unix://{tmp_path}/log#stream"
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    server = serve(CONTROL, "--log-syslog", "--log-syslog-to", address, "--access-logformat", "json")
    with server.connect() as client:
        client.send(request_bytes("GET", "/ping") * 100)
        for _ in range(100):
            client.read_response()

    def access() -> list[str]:
        return [line for line in received if re.match(r"<14>gunicorn\.\S+\.access: \[\d+\] {.*}\n$", line)]

    server.stop()  # What still waits is sent.
    wait_until(lambda: len(access()) == 100, f"100 lines in {received}", 5)
    assert any(".error: [" in line for line in received)
    assert all(re.match(r"<\d+>gunicorn\.", line) for line in received), "no message is cut"
    listener.shutdown()
    listener.server_close()


@pytest.mark.parametrize(
    "address",
    ["udp://127.0.0.1:1", "tcp://127.0.0.1:1", "unix:///nobody/is/here", "udp://no-such-host.invalid:514"],
)
def test_syslog_that_is_not_there_is_done_without(serve, address):
    server = serve(CONTROL, "--log-syslog", "--log-syslog-to", address)
    for _ in range(20):
        assert server.request("GET", "/ping").status == 200
    if "invalid" in address:
        server.expect_log("nothing is sent to syslog at no-such-host.invalid:514")


def test_syslog_that_takes_nothing_blocks_no_request(serve, tmp_path):
    """Nobody reads the datagrams: the kernel's queue is full soon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(f"{tmp_path}/log")
        options = ("--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log", "--threads", "2")
        server = serve(CONTRACT, *options)
        with server.connect() as client:
            for _ in range(200):
                client.send(request_bytes("GET", "/ping") * 50)
                for _ in range(50):
                    assert client.read_response().status == 200
        assert server.request("GET", "/raise?error=Exception&at=call").status == 500
        server.expect_log("planted error")


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--statsd-host", "a:b", "unix://PATH"),
        ("--log-syslog-to", "localhost:514", "udp://HOST:PORT"),
        ("--log-syslog-facility", "mine", "local7"),
        ("--log-syslog-prefix", "a b", "write letters"),
    ],
)
def test_wrong_addresses_are_told_in_a_line(option, value, remedy):
    process = run_to_end(option, value, "apps.echo", cwd=TESTS)
    assert process.returncode == 2
    assert option in process.stderr and remedy in process.stderr
    assert process.stderr.count("\n") == 1
