"""Whatever starts under gunicorn starts; where something else counts than what is written, that is said."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from harness.http_client import request_bytes
from harness.server import run_to_end, server_environment

# What a configuration says, and what the warning about it has in it; None where there is none.
CONFIGURATIONS = {
    "underscores": ("workers = '1_0'\nmax_requests = '1_000'\n", None),
    "hexadecimal": ("workers = '0x2'\nkeepalive = ' 0b11 '\n", None),
    "booleans for numbers": ("workers = True\ntimeout = False\nkeepalive = True\n", None),
    "backlog": ("backlog = 1_000_000\n", "backlog: 1000000 is beyond what there is here; 65535 counts"),
    "backlog of none": ("backlog = 0\n", "backlog: 0 is beyond"),
    "times": ("graceful_timeout = 10**9\n", "24h counts"),
    "long timeout": ("timeout = 10**12\n", "timeout: 1000000000000 is beyond"),
    "keepalive": ("keepalive = 10**8\n", "keepalive"),
    "workers": ("workers = 600\n", "512 counts"),
    "threads of none": ("threads = 0\n", "1 counts"),
    "worker connections": ("worker_class = 'gevent'\nworker_connections = 10**7\n", "worker_connections: 1"),
    "warn": ("loglevel = 'warn'\n", '"warn" is no level, and means info as for gunicorn; write warning'),
    "fatal": ("loglevel = 'FATAL'\n", "write critical"),
    "any level": ("loglevel = 'verbose'\n", "is no level"),
    "quoted level": ("loglevel = '\"info\"'\n", "is no level"),
    "blanks": ("loglevel = ' debug '\nbind = ' 127.0.0.1:0 '\n", None),
    "width": ("accesslog = '-'\naccess_log_format = '%(h)15s %(s)-5s %(D)08d %(L).3s'\n", None),
    "unknown atom": ("access_log_format = '%(h)s %(zz)s'\n", "- stands for what is not known here: %(zz)s"),
    "unknown key": ("access_log_format = '%({wsgi.input}e)s %(h)s'\n", "%({wsgi.input}e)s"),
    "no format": ("access_log_format = '%h %l'\n", "lines are those of combined"),
    "constant line": ("access_log_format = 'hit'\n", "lines are those of combined"),
    "no limit of a line": ("limit_request_line = 0\n", "a head may have 16m here"),
    "no limit of a field": ("limit_request_field_size = 0\n", "a head may have 16m here"),
    "a long line": ("limit_request_line = 100000\n", None),
    "a short line": ("limit_request_line = 10\n", "64 counts"),
    "fields": ("limit_request_fields = 100000\n", "32768 counts"),
    "trailing comma": ("forwarded_allow_ips = '127.0.0.1,10.0.0.0/8,'\n", None),
    "umask": ("umask = 0o1022\n", "umask"),
    "threads beside gevent": (
        "worker_class = 'gevent'\nthreads = 4\n",
        "threads does nothing with this worker class",
    ),
    "an option's name": ("preload = True\n", "did you mean preload_app?"),
    "another option's name": ("log_level = 'debug'\n", "did you mean loglevel?"),
    "pid": ("pid = '/tmp/x'\n", "did you mean pidfile?"),
    "no TLS": ("def ssl_context(config, factory):\n    return factory()\n", "ssl_context does nothing"),
}

# What gunicorn needs installed for some of them.
NEEDS = {"gevent": "gevent"}

COMMAND_LINES = {
    "level": (["--log-level", '"debug"'], "is no level"),
    "number": (["--workers", "1_0"], None),
    "backlog": (["--backlog", "99999999"], "--backlog: 99999999 is beyond"),
    "words": (["--preload", "apps.echo", "True"], '"True" counts for nothing'),
    "format": (["--access-logformat", "%(h)5s %(nope)s"], "%(nope)s"),
}


def installed(module: str) -> bool:
    """Whether it can be imported here."""
    return importlib.util.find_spec(module) is not None


def gunicorn_takes(folder, *arguments: str) -> bool:
    """Whether gunicorn would start so."""
    command = [sys.executable, "-m", "gunicorn", "--check-config", *arguments]
    environment = server_environment({"PORTICO_WORKERS": None})
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=60, check=False)
    return ended.returncode == 0


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_configurations(tmp_path, case):
    text, warning = CONFIGURATIONS[case]
    (tmp_path / "gunicorn.conf.py").write_text(text)
    if installed("gunicorn") and all(installed(NEEDS[word]) for word in NEEDS if word in text):
        assert gunicorn_takes(tmp_path, "apps.echo")
    check(tmp_path, warning, "apps.echo")


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_command_lines(tmp_path, case):
    arguments, warning = COMMAND_LINES[case]
    application = [] if "apps.echo" in arguments else ["apps.echo"]
    if installed("gunicorn"):
        assert gunicorn_takes(tmp_path, *arguments, *application)
    check(tmp_path, warning, *arguments, *application)


def check(folder, warning: str | None, *arguments: str) -> None:
    """Portico would serve, and says this."""
    ended = run_to_end(
        "check", "-b", "127.0.0.1:0", *arguments, cwd=folder, environment={"PORTICO_WORKERS": None}
    )
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if line.startswith("warning")]
    expected = ("not by greenlets", "does nothing: connections that wait")
    said = [line for line in said if not any(words in line for words in expected)]
    if warning is None:
        assert not said, said
    else:
        assert sum(warning in line for line in said) == 1, (warning, said)


def test_last_of_several_values_counts_and_is_logged(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(
        "timeout = 30,\nloglevel = ['info', 'debug']\nbind = ('127.0.0.1:0',)\n"
    )
    ended = run_to_end("config", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "gunicorn.conf.py:1: timeout is one value, and its only item counts" in ended.stderr
    assert "gunicorn.conf.py:2: loglevel is one value, and the last of its items counts" in ended.stderr
    assert "bind is one value" not in ended.stderr


def test_our_own_ways_stay_strict(tmp_path):
    for environment, options in [
        ({"PORTICO_BACKLOG": "1_000"}, []),
        ({"PORTICO_LOG_LEVEL": "warn"}, []),
        ({"PORTICO_CMD_ARGS": "--threads 0"}, []),
        ({}, ["--max-queue", "1_000"]),
    ]:
        ended = run_to_end("check", *options, "apps.echo", cwd=tmp_path, environment=environment)
        assert ended.returncode != 0, (environment, options)
    (tmp_path / "portico.toml").write_text("backlog = 100000\n")
    assert run_to_end("check", "apps.echo", cwd=tmp_path).returncode == 1


def test_lines_have_the_widths(serve, tmp_path):
    template = "[%(h)12s] [%(m)-6s] [%(s)05d] [%(nope)3s]"
    (tmp_path / "gunicorn.conf.py").write_text(f"accesslog = '-'\naccess_log_format = {template!r}\n")
    server = serve("apps.echo", cwd=tmp_path)
    server.request("GET", "/")
    server.stop()
    assert server.stdout.lines[-1] == "[   127.0.0.1] [GET   ] [00200] [  -]"


@pytest.mark.parametrize("name", ["limit_request_line", "limit_request_field_size"])
def test_unlimited_means_as_much_as_a_head_holds(serve, tmp_path, name):
    (tmp_path / "gunicorn.conf.py").write_text(f"{name} = 0\n")
    server = serve("apps.echo", cwd=tmp_path)
    long = "x" * 1_000_000
    target, fields = (f"/?{long}", []) if name == "limit_request_line" else ("/", [("X-Long", long)])
    assert server.request("GET", target, fields).status == 200


def test_command_arguments_have_carriage_returns(serve, tmp_path):
    server = serve(
        "apps.echo", cwd=tmp_path, environment={"GUNICORN_CMD_ARGS": "--threads=3\r\n--backlog 9\r\n"}
    )
    server.expect_log("with 3 threads")


def test_requests_beside_gevent_and_threads_run_at_once(serve, tmp_path):
    """Five of seventeen public files have both."""
    (tmp_path / "gunicorn.conf.py").write_text(
        "worker_class = 'gevent'\nthreads = 4\nworker_connections = 1000\n"
    )
    server = serve("apps.control", cwd=tmp_path)
    with server.connections(24) as clients:
        for client in clients:
            client.send(request_bytes(target="/hold?gate=all"))
        server.rendezvous.wait_for("holding all", 24)
        server.rendezvous.open("all")
        assert {client.read_response().body for client in clients} == {b"held all"}
    assert server.find_records("threads does nothing with this worker class, as for gunicorn")


# The Server field


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import gunicorn\ngunicorn.SERVER = 'shop'\n", "shop"),
        ("import gunicorn\ngunicorn.SERVER_SOFTWARE = 'shop 2'\n", "shop 2"),
        ("import gunicorn\ngunicorn.SERVER_SOFTWARE = ''\n", None),
        ("import gunicorn\ngunicorn.SERVER = 'a'\nserver_header = 'b'\n", "b"),
        ("import gunicorn\n", "portico"),
        ("from gunicorn import SERVER\n", "portico"),
    ],
)
def test_server_field_follows_the_configured_name(serve, tmp_path, text, expected):
    (tmp_path / "gunicorn.conf.py").write_text(text)
    server = serve("apps.echo", cwd=tmp_path)
    assert dict(server.request("GET", "/").fields).get("Server") == expected
    # What the server answers itself.
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        refusal = client.read_response()
    assert refusal.status == 400
    assert dict(refusal.fields).get("Server") == expected


def test_a_reload_hears_what_is_said_now(serve, tmp_path):
    import signal

    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("import gunicorn\ngunicorn.SERVER = 'shop'\n")
    server = serve("apps.echo", cwd=tmp_path)
    conf.write_text("import gunicorn\n")
    before = server.wait_workers(1)
    server.signal(signal.SIGHUP)
    server.wait_replaced(before)
    assert dict(server.request("GET", "/").fields)["Server"] == "portico"
