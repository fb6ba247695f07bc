"""Configurations in the manner of popular deployments: each starts, serves, and does what it says."""

from __future__ import annotations

import json
import multiprocessing
import signal
from pathlib import Path

import pytest

from harness.datagrams import Receiver
from harness.http_client import Client
from harness.rendezvous import wait_until

CONFIGS = Path(__file__).parent / "gunicorn_configs"
FREE = {"PORTICO_WORKERS": None}

# Stands for packages that are not installed: each tells what it was asked to do.
FAKE = """
import os

def tell(*said):
    with open("told", "a") as file:
        file.write(" ".join(map(str, said)) + "\\n")
"""

FAKES = {
    "fake.py": FAKE,
    "prometheus_client/__init__.py": "",
    "prometheus_client/multiprocess.py": """
from fake import os, tell

def mark_process_dead(pid):
    tell("dead", pid, os.getpid())
""",
    "newrelic/__init__.py": "",
    "newrelic/agent.py": """
from fake import os, tell

def initialize(path):
    tell("initialize", os.getpid())

def register_application(timeout):
    tell("register", os.getpid())
""",
    "opentelemetry/__init__.py": "",
    "opentelemetry/trace.py": """
from fake import os, tell

def set_tracer_provider(provider):
    tell("provider", provider.resource["worker"], os.getpid())
""",
    "opentelemetry/sdk/__init__.py": "",
    "opentelemetry/sdk/trace.py": """
class TracerProvider:
    def __init__(self, resource):
        self.resource = resource
""",
    "psycogreen/__init__.py": "",
    "psycogreen/gevent.py": """
from fake import os, tell

def patch_psycopg():
    tell("green", os.getpid())
""",
    "sentry_sdk.py": """
from fake import os, tell

def init(dsn, release):
    tell("sentry", os.getpid())
""",
    "shop.py": """
import os, sys
from apps.routes import plain

def application(environ, start_response):
    if environ["PATH_INFO"] == "/print":
        print("printed", flush=True)
    if environ["PATH_INFO"] == "/environ":
        return plain(start_response, os.environ.get("SHOP_TOKEN", "") + " " + ",".join(sys.path[:3]))
    return plain(start_response, environ["wsgi.url_scheme"] + " " + environ["REMOTE_ADDR"])
""",
}


@pytest.fixture
def start(serve, tmp_path):
    """Starts the shop with one of the configurations."""
    for name, text in FAKES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(name: str, bind: str | None = "127.0.0.1:0", **environment: str):
        return serve(
            "shop", "-c", str(CONFIGS / f"{name}.py"), bind=bind, cwd=tmp_path, environment=FREE | environment
        )

    return start


def told(folder: Path) -> list[list[str]]:
    """What the packages were asked to do."""
    path = folder / "told"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_there_are_twenty():
    assert len(list(CONFIGS.glob("*.py"))) == 20


def test_heroku(start):
    server = start("heroku", WEB_CONCURRENCY="3")
    server.wait_workers(3)
    fields = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.1")]
    assert server.request("GET", "/", fields).body.startswith(b"https ")


def test_docker(start):
    server = start("docker", bind=None)
    server.wait_workers(max(multiprocessing.cpu_count(), 2))
    server.request("GET", "/x")
    wait_until(lambda: any('"GET /x ' in line for line in server.stdout.lines), "the access")
    assert json.loads(server.stdout.lines[0])["loglevel"] == "info"


def test_prometheus(start, tmp_path):
    server = start("prometheus")
    workers = server.wait_workers(2)
    server.stop()
    assert sorted(told(tmp_path)) == sorted(["dead", str(pid.pid), str(server.pid)] for pid in workers)


def test_newrelic(start, tmp_path):
    server = start("newrelic")
    pid = str(server.worker.pid)
    assert told(tmp_path) == [["initialize", pid], ["register", pid]]
    server.expect_log(rf"\[{pid}\] \[INFO\] New Relic agent registered in worker {pid}")


def test_opentelemetry(start, tmp_path):
    server = start("opentelemetry")
    pid = str(server.worker.pid)
    assert told(tmp_path) == [["provider", pid, pid]]


def test_psycogreen(start, tmp_path):
    server = start("psycogreen")
    server.expect_log("Made Psycopg2 Green")

    def patched() -> bool:
        return {pid for _, pid in told(tmp_path)} == {str(worker.pid) for worker in server.workers()}

    wait_until(patched, "all workers")


def test_sentry(start, tmp_path):
    server = start("sentry")
    server.expect_log("Sentry is on in")
    assert told(tmp_path)[0][0] == "sentry"


def test_nginx_buildpack(start, tmp_path):
    socket, ready = tmp_path / "nginx.socket", tmp_path / "app-initialized"
    start("nginx_buildpack", bind=None, SOCKET=str(socket), READY_FILE=str(ready))
    assert ready.exists()
    with Client(str(socket)) as client:
        assert client.request("GET", "/").status == 200


def test_cpu_count(start):
    server = start("cpu_count")
    server.wait_workers(multiprocessing.cpu_count() * 2 + 1)
    server.expect_log("with 2 threads")


def test_access_log(start):
    server = start("access_log")
    server.request("GET", "/x", [("X-Forwarded-For", "192.0.2.1"), ("User-Agent", "probe")])
    wait_until(lambda: any("/x" in line for line in server.stdout.lines), "the access")
    (line,) = [line for line in server.stdout.lines if "/x" in line]
    assert '"GET /x HTTP/1.1" 200 ' in line
    assert '"-" "probe" ' in line
    assert line.endswith("192.0.2.1")


def test_environment(start):
    server = start("environment")
    body = server.request("GET", "/environ").body.decode()
    assert body.startswith("a=b ")
    assert "/lib," in body


def test_preload(start):
    server = start("preload")
    server.wait_workers(2)
    server.expect_log("closing what the parent has opened, before worker 2")


def test_recycling(start):
    server = start("recycling")
    old = server.workers()
    for _ in range(30):
        assert server.request().status == 200
    wait_until(lambda: not all(worker.alive for worker in old), "a worker to be replaced")


def test_json_logs(start):
    server = start("json_logs")
    server.request("GET", "/x")
    wait_until(lambda: "/x" in server.log_text, "the access")
    server.stop()
    entries = [json.loads(line) for line in server.log_lines]
    (access,) = [entry for entry in entries if entry["logger"] == "gunicorn.access"]
    assert (access["status"], access["path"]) == ("200", "/x")
    assert any(entry["message"].startswith("Booting worker with pid") for entry in entries)


def test_django(start, serve, tmp_path):
    options = ["-c", str(CONFIGS / "django.py"), "-b", "127.0.0.1:0"]
    server = serve.start(None, *options, bind=None, cwd=tmp_path, environment=FREE)
    server.error_log = tmp_path / "error.log"
    server.wait_ready()
    server.wait_workers(3)
    assert (tmp_path / "shop.pid").read_text().strip() == str(server.pid)
    server.request("GET", "/print")
    wait_until(lambda: "printed\n" in (tmp_path / "error.log").read_text(), "the output")
    wait_until(lambda: "GET /print " in (tmp_path / "access.log").read_text(), "the access")


def test_statsd(start):
    receiver = Receiver()
    server = start("statsd", STATSD_ADDRESS=f"127.0.0.1:{receiver.port}")
    receiver.expect(r"shop\.gunicorn\.workers:[1-9]\d*\|g")
    assert server.request().status == 200
    receiver.expect(r"shop\.gunicorn\.requests:1\|c")
    receiver.expect(r"shop\.gunicorn\.request\.status\.200:1\|c")
    receiver.expect(r"shop\.gunicorn\.request\.duration:\d+\.\d{3}\|ms")


def test_all_hooks(start):
    server = start("all_hooks")
    server.expect_log("Server is ready. Spawning workers")
    server.expect_log("Worker spawned")
    server.signal(signal.SIGQUIT)
    server.wait_exit()
    server.expect_log("worker received INT or QUIT signal")


def test_health_checks(start):
    server = start("health_checks")
    server.request("GET", "/healthz")
    server.request("GET", "/x")
    wait_until(lambda: any("/x" in line for line in server.stdout.lines), "the access")
    assert not any("/healthz" in line for line in server.stdout.lines)


def test_timing(start):
    server = start("timing")
    server.request("GET", "/x")
    server.expect_log(r"GET /x 200 OK took 0\.0")


def test_memory(start):
    server = start("memory")
    old = server.workers()
    server.request("GET", "/large")
    server.expect_log("is too large")
    wait_until(lambda: not all(worker.alive for worker in old), "a worker to be replaced")
    assert server.request().status == 200
