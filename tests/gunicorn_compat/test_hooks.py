"""The hooks of gunicorn.conf.py: which process calls them, when and with what; what follows if they raise."""

from __future__ import annotations

import re
import signal
import textwrap

import pytest

from harness.rendezvous import wait_until
from harness.server import run_to_end
from harness.sources import source

APP = "apps.control"

# Every hook tells its name and its process.
TELLING = source("telling_hooks")


def write(folder, text: str) -> None:
    """Writes the configuration file."""
    (folder / "gunicorn.conf.py").write_text(textwrap.dedent(text))


def told(server) -> list[str]:
    """What the hooks have told, with process ids as words."""
    words = {str(server.pid): "supervisor"}
    out = []
    for line in server.rendezvous.events():
        if " " not in line:
            continue  # The application's own.
        name, pid, *rest = line.split()
        out.append(" ".join([name, words.get(pid, "worker"), *rest]))
    return out


def test_the_hooks_of_a_life(serve, tmp_path):
    write(tmp_path, TELLING)
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    assert server.request("GET", "/ping").status == 200
    server.stop()
    assert told(server) == [
        "nworkers_changed supervisor 1 None 1",
        "on_starting supervisor True 0",
        "when_ready supervisor 1 127.0.0.1",
        "pre_fork supervisor [booting] 1",
        "post_fork worker True True",
        "post_worker_init worker True False",
        "worker_exit worker 1",
        f"child_exit supervisor {worker.pid} False",
        "on_exit supervisor",
    ]


def test_with_preload_the_template_calls_the_fork_hooks(serve, tmp_path):
    write(tmp_path, TELLING + "\npreload_app = True\n")
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    server.stop()
    events = [event for event in told(server) if not event.startswith(("nworkers", "on_", "when"))]
    # The template is no supervisor; `worker` stands for it in the first line.
    assert events == [
        "pre_fork worker [booting] 1",
        "post_fork worker True True",
        "post_worker_init worker True False",
        "worker_exit worker 0",
        f"child_exit supervisor {worker.pid} False",
    ]


def test_reload_and_numbers(serve, tmp_path):
    write(tmp_path, TELLING)
    server = serve(APP, cwd=tmp_path)
    server.wait_workers(1)
    server.signal(signal.SIGTTIN)
    server.wait_workers(2)
    server.signal(signal.SIGHUP)
    server.expect_log("Reloaded")
    server.signal(signal.SIGTTOU)
    server.wait_workers(1)
    events = [event for event in told(server) if event.startswith(("nworkers", "on_reload"))]
    assert events == [
        "nworkers_changed supervisor 1 None 1",
        "nworkers_changed supervisor 2 1 2",
        "nworkers_changed supervisor 2 2 2",
        "on_reload supervisor",
        "nworkers_changed supervisor 1 2 1",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_worker_int_is_called_at_an_immediate_stop(serve, tmp_path, number):
    write(tmp_path, TELLING)
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    server.signal(number)
    server.wait_exit()
    events = told(server)
    assert events.count(f"worker_int worker {worker.pid}") == 1
    assert events.index(f"worker_int worker {worker.pid}") < events.index("worker_exit worker 0")


def test_worker_abort_at_sigabrt(serve, tmp_path):
    write(tmp_path, TELLING)
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    worker.signal(signal.SIGABRT)
    wait_until(lambda: f"worker_abort worker {worker.pid}" in told(server), "worker_abort")
    server.expect_log(rf"\(pid {worker.pid}\) died")
    wait_until(lambda: f"child_exit supervisor {worker.pid} False" in told(server), "child_exit")
    server.wait_workers(1)


def test_worker_abort_for_a_thread_that_is_stuck(serve, tmp_path):
    write(tmp_path, TELLING)
    server = serve(
        "apps.stuck:application",
        "--timeout",
        "0.3",
        "--timeout-grace",
        "0.3",
        "--graceful-timeout",
        "1",
        cwd=tmp_path,
    )
    (worker,) = server.wait_workers(1)
    server.expected.append(re.compile("timeout|did not end|died|stuck"))
    with server.connect() as client:
        client.send(b"GET /sleep?seconds=4 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: f"worker_abort worker {worker.pid}" in told(server), "worker_abort")


def test_pre_exec_at_an_upgrade(serve, tmp_path):
    write(tmp_path, TELLING + "\nbind = '127.0.0.1:1'\n")
    server = serve(APP, cwd=tmp_path)
    server.wait_workers(1)
    server.expected.append(re.compile("upgrade failed|Failed to read config"))
    write(tmp_path, "1 / 0")
    server.signal(signal.SIGUSR2)
    server.expect_log("upgrade failed")
    assert "pre_exec supervisor" in told(server)


def test_requests_are_told(serve, tmp_path):
    write(
        tmp_path,
        TELLING
        + """
def pre_request(worker, req):
    names = [name for name, _ in req.headers]
    tell("pre", req.method, req.path, req.query, req.version, "X-A" in names, worker.nr)
    if req.path == "/refuse":
        raise RuntimeError("not this one")

def post_request(worker, req, environ, resp):
    tell("post", req.uri, environ["PATH_INFO"], resp and resp.status.replace(" ", "_"), resp and resp.sent)
    if req.path == "/raise":
        raise RuntimeError("afterwards")
""",
    )
    server = serve("apps.echo", "--threads", "1", cwd=tmp_path)
    assert server.request("GET", "/a%20b?c=d", [("X-A", "1")]).status == 200
    assert server.request("GET", "/refuse").status == 500
    assert server.request("GET", "/raise").status == 200
    server.expect_log("Exception in post_request hook\n.*RuntimeError: afterwards")
    server.expect_log("GET /refuse: .*RuntimeError: not this one")
    events = [event.split() for event in server.rendezvous.events() if event.startswith(("pre ", "post "))]
    assert events[0][2:] == ["GET", "/a%20b", "c=d", "(1,", "1)", "True", "1"]
    assert events[1][2:5] == ["/a%20b?c=d", "/a", "b"]
    assert events[1][5] == "200_OK"
    assert int(events[1][6]) > 0
    assert events[3][2:] == ["/refuse", "/refuse", "None", "None"]


@pytest.mark.parametrize("arguments", ["worker, req", "worker, req, environ", "worker, *rest"])
def test_post_request_takes_what_it_has_room_for(serve, tmp_path, arguments):
    body = "tell('post', req.method)" if "req" in arguments else "tell('post', rest[0].method, len(rest))"
    write(tmp_path, TELLING + f"\ndef post_request({arguments}):\n    {body}\n")
    server = serve(APP, cwd=tmp_path)
    assert server.request("GET", "/ping").status == 200
    wait_until(lambda: any(event.startswith("post ") for event in server.rendezvous.events()), "post_request")


def test_an_import_string_names_a_hook(serve, tmp_path):
    (tmp_path / "deploy_hooks.py").write_text(TELLING)
    write(tmp_path, "post_fork = 'deploy_hooks.post_fork'\n")
    server = serve(APP, cwd=tmp_path, environment={"PORTICO_ON_STARTING": "deploy_hooks.on_starting"})
    server.wait_workers(1)
    assert told(server) == ["on_starting supervisor True 0", "post_fork worker True True"]


@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
def test_server_whose_first_hooks_raise_does_not_start(tmp_path, hook):
    write(tmp_path, f"def {hook}(server):\n    raise RuntimeError('no luck')\n")
    ended = run_to_end("-b", "127.0.0.1:0", APP, cwd=tmp_path)
    assert ended.returncode == 1
    assert f"the hook {hook} raised" in ended.stderr
    assert "RuntimeError: no luck" in ended.stderr


@pytest.mark.parametrize(
    ("hook", "arguments"), [("post_fork", "server, worker"), ("post_worker_init", "worker")]
)
def test_a_worker_whose_hooks_raise_does_not_boot(tmp_path, hook, arguments):
    write(tmp_path, f"def {hook}({arguments}):\n    raise RuntimeError('no luck')\n")
    ended = run_to_end("-b", "127.0.0.1:0", "apps.echo", cwd=tmp_path)
    assert ended.returncode == 3
    assert f"the hook {hook} raised" in ended.stderr
    assert "RuntimeError: no luck" in ended.stderr


@pytest.mark.parametrize("hook", ["child_exit", "worker_exit", "nworkers_changed", "on_exit", "on_reload"])
def test_what_later_hooks_raise_is_logged(serve, tmp_path, hook):
    write(
        tmp_path,
        f"def {hook}({{}}):\n    raise RuntimeError('no luck')\n".format(
            {"child_exit": "s, w", "worker_exit": "s, w", "nworkers_changed": "s, n, o"}.get(hook, "s")
        ),
    )
    server = serve(APP, cwd=tmp_path)
    server.wait_workers(1)
    server.expected.append(re.compile(f"the hook {hook} raised"))
    server.signal(signal.SIGHUP)
    server.expect_log("Reloaded")
    assert server.request("GET", "/ping").status == 200
    server.stop()
    assert server.find_records(f"the hook {hook} raised.*RuntimeError: no luck")


def test_worker_declared_dead_is_replaced(serve, tmp_path):
    write(
        tmp_path,
        """
        def post_request(worker, req):
            if req.path == "/last":
                worker.alive = False
        """,
    )
    server = serve(APP, cwd=tmp_path)
    (worker,) = server.wait_workers(1)
    assert server.request("GET", "/last").status in (200, 404)
    server.expect_log(r"worker\.alive was set to False")
    server.wait_replaced([worker])
    assert server.request("GET", "/ping").status == 200


def test_the_objects_have_what_hooks_look_at(serve, tmp_path):
    write(
        tmp_path,
        """
        proc = "shop"
        threads = 2
        timeout = 17
        max_requests = 100

        def when_ready(server):
            cfg = server.cfg
            assert cfg.threads == 2 and cfg.timeout == 17 and cfg.settings["timeout"].get() == 17
            assert cfg.worker_class_str == "gthread" and not cfg.is_ssl and cfg.env == {}
            assert cfg.bind and cfg.loglevel == "info" and cfg.post_fork and cfg.preload_app is False
            assert str(server.LISTENERS[0]).startswith("http://127.0.0.1:")
            assert server.LISTENERS[0].getsockname()[0] == "127.0.0.1"
            assert server.WORKERS == {} and server.num_workers and server.proc_name
            assert server.app.cfg is cfg
            server.log.warning("%s and %s", "one", "other", extra={"x": 1})
            server.log.log("info", "by name")
            assert server.log.error_log.name == "gunicorn.error"

        def post_fork(server, worker):
            assert worker.cfg is server.cfg and worker.log is server.log
            assert worker.max_requests >= 100 and worker.alive and not worker.aborted
            worker.notify()
            worker.tmp.last_update()
            assert worker.sockets[0].fileno() > 2
            worker.log.info("Worker spawned (pid: %s)", worker.pid)
        """,
    )
    server = serve(APP, cwd=tmp_path)
    server.expect_log(r"\[WARNING\] one and other")
    server.expect_log(r"\[INFO\] by name")
    (worker,) = server.wait_workers(1)
    server.expect_log(rf"\[{worker.pid}\] \[INFO\] Worker spawned \(pid: {worker.pid}\)")
