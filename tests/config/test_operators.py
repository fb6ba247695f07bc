"""What an operator runs into: reloads that take back, what systemd says, near misses, commas, gevent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from harness.http_client import Client
from harness.packages import skip_without
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end, server_environment
from harness.sources import source
from harness.systemd import NotifySocket

ECHO = "apps.echo:application"

# Tells its environment.
TOLD = "apps.environment"


def environment_of(server) -> dict[str, str]:
    """What the application has."""
    return dict(line.partition("=")[::2] for line in server.request().body.decode().splitlines())


def reload(server, said: str = "Reloaded") -> None:
    """Has the configuration read again."""
    count = len(server.find_records(said))
    server.signal(signal.SIGHUP)
    server.expect_log(said, count + 1)


# A reload


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_reload_takes_back_what_raw_env_set(serve, tmp_path, preload):
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("raw_env = ['SHOP_A=1', 'SHOP_B=2', 'SHOP_GIVEN=3', 'WEB_CONCURRENCY=7']\n")
    given = {"PORTICO_WORKERS": None, "WEB_CONCURRENCY": "1", "SHOP_GIVEN": "given"}
    server = serve(TOLD, *preload, cwd=tmp_path, environment=given)
    server.wait_workers(1)
    said = environment_of(server)
    assert (said["SHOP_A"], said["SHOP_B"], said["SHOP_GIVEN"]) == ("1", "2", "3")
    conf.write_text("import os\nraw_env = ['SHOP_A=9', 'SHOP_SAW=' + os.environ['SHOP_GIVEN']]\n")
    reload(server)
    said = environment_of(server)
    assert (said["SHOP_A"], said["SHOP_SAW"], said["SHOP_GIVEN"]) == ("9", "given", "given")
    assert "SHOP_B" not in said
    server.wait_workers(1)  # What raw_env has said of WEB_CONCURRENCY is for the application.


def test_a_reload_that_fails_leaves_the_environment(serve, tmp_path):
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("raw_env = ['SHOP_A=1']\n")
    server = serve(TOLD, cwd=tmp_path)
    for broken in (
        "raw_env = ['SHOP_B=2']\nthreads = 'x'\n",
        "raw_env = ['SHOP_B=2']\npidfile = '/no/such/pid'\n",
    ):
        conf.write_text(broken)
        reload(server, "[Rr]eload.*(threads|/no/such/pid)")
    server.worker.kill()
    server.expect_log("died")
    server.wait_workers(1)
    said = environment_of(server)
    assert said["SHOP_A"] == "1" and "SHOP_B" not in said


def test_a_reload_moves_the_pid_file(serve, tmp_path):
    conf = tmp_path / "gunicorn.conf.py"
    one, two = tmp_path / "one.pid", tmp_path / "two.pid"
    conf.write_text(f"pidfile = {str(one)!r}\n")
    server = serve(ECHO, "-c", str(conf))
    assert one.read_text().strip() == str(server.pid)
    conf.write_text(f"pidfile = {str(two)!r}\n")
    reload(server)
    assert two.read_text().strip() == str(server.pid)
    assert not one.exists()
    conf.write_text(f"pidfile = '{tmp_path}/./two.pid'\n")
    reload(server)
    assert two.read_text().strip() == str(server.pid)
    conf.write_text("")
    reload(server)
    assert not two.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_reload_changes_whose_the_workers_are(serve, tmp_path, preload):
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("")
    server = serve(TOLD, "-c", str(conf), *preload, cwd=tmp_path)

    def group() -> int:
        return os.stat(f"/proc/{server.worker.pid}").st_gid

    assert group() == 0
    conf.write_text("group = 65534\n")
    reload(server)
    assert group() == 65534


# systemd


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_what_systemd_says_is_for_the_supervisor_alone(serve, tmp_path, preload):
    with NotifySocket(tmp_path / "notify") as manager:
        said = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "20000000",
            "LISTEN_PID": "1",
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "web",
        }
        server = serve(TOLD, *preload, cwd=tmp_path, environment=said)
        manager.wait_for("READY")
        assert not set(environment_of(server)) & set(said)
        reload(server)
        manager.wait_for("READY", 2)
        assert not set(environment_of(server)) & set(said)
        server.stop()
        manager.wait_for("STOPPING")
        server = serve(TOLD, "-e", "NOTIFY_SOCKET=mine", *preload, cwd=tmp_path, environment=said)
        assert environment_of(server)["NOTIFY_SOCKET"] == "mine"
        server.stop()


# Near misses


def test_a_misspelt_variable_is_told(serve, tmp_path):
    misspelt = {"PORTICO_WROKERS": "3", "PORTICO_DATABASE_URL": "x", "PORTICO_SERVICE_HOST": "10.0.0.1"}
    told = "PORTICO_WROKERS is no setting's variable and counts for nothing; did you mean PORTICO_WORKERS?"
    server = serve(ECHO, environment=misspelt)
    server.expect_log(rf"\[WARNING\] {told[:-1]}")
    assert len(server.find_records("WARNING")) == 1
    server.stop()
    shown = run_to_end("config", cwd=tmp_path, environment=misspelt)
    assert shown.stderr == f"portico: {told}\n"
    checked = run_to_end("check", ECHO, cwd=TESTS, environment=misspelt)
    assert f"warning: {told}" in checked.stdout
    assert run_to_end("schema", cwd=tmp_path, environment=misspelt).stderr == ""


def test_check_and_config_report_near_misses(tmp_path):
    (tmp_path / "g.py").write_text(
        "threads = 2\nmax_request = 9\n"
        "def post_frok(server, worker): pass\ndef thread(): pass\ndef worker_abort(worker): pass\n"
        "def worker_aborts(worker): pass\n"
    )
    told = "max_request is not a setting and counts for nothing; did you mean max_requests?"
    assert told in run_to_end("check", "-c", str(tmp_path / "g.py"), ECHO, cwd=TESTS).stdout
    shown = run_to_end("config", "-c", str(tmp_path / "g.py"), cwd=TESTS).stderr
    assert told in shown
    assert "g.py:3: post_frok is not a setting and counts for nothing; did you mean post_fork?" in shown
    assert shown.count("\n") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--user", "nosuchuser"), '--user: there is no user "nosuchuser"'),
        (("--group", "nosuchgroup"), '--group: there is no group "nosuchgroup"'),
        (("--pid", "/no/such/pid"), "--pid: /no/such/pid cannot be written: No such file"),
        (("--access-logfile", "/no/such/log"), "--access-logfile: /no/such/log cannot be written"),
        (("--error-logfile", "/no/such/log"), "--error-logfile: /no/such/log cannot be written"),
        (("--log-config", "nosuch.ini"), "--log-config: nosuch.ini cannot be read"),
        (("--log-config-json", "nosuch.json"), "--log-config-json: nosuch.json cannot be read"),
        (("--logger-class", "no.such"), "logger_class: no.such cannot be imported"),
        (("--tmp-upload-dir", "/nosuch"), "--tmp-upload-dir: /nosuch is not a folder"),
    ],
)
def test_check_looks_at_what_is_named(options, told):
    checked = run_to_end("check", ECHO, "-b", "127.0.0.1:0", *options, cwd=TESTS)
    assert checked.returncode == 1
    assert checked.stderr.startswith(f"portico: error: {told}"), checked.stderr
    assert checked.stderr.count("\n") == 1


def test_check_makes_nothing(tmp_path):
    names = ("error.log", "access.log", "pid")
    error, access, pid = (str(tmp_path / name) for name in names)
    options = ("--error-logfile", error, "--access-logfile", access, "--pid", pid)
    assert run_to_end("check", ECHO, "-b", "127.0.0.1:0", *options, cwd=TESTS).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_boolean_is_no_text(tmp_path):
    (tmp_path / "g.py").write_text("import os\naccesslog = True\n")
    ended = run_to_end("check", "-c", "g.py", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (
        1,
        "portico: error: g.py:2: accesslog: True is no text; write a string\n",
    )


def test_error_in_a_file_shows_only_that_file(tmp_path):
    (tmp_path / "g.py").write_text("import os\nraise ValueError('planted')\n")
    ended = run_to_end(ECHO, "-c", "g.py", cwd=tmp_path)
    assert ended.returncode == 1
    assert 'File "g.py", line 2, in <module>' in ended.stderr
    assert "conf_file.py" not in ended.stderr
    (tmp_path / "g.py").write_text("x = (\n")
    ended = run_to_end(ECHO, "-c", "g.py", cwd=tmp_path)
    assert "SyntaxError" in ended.stderr and "conf_file.py" not in ended.stderr


@pytest.mark.parametrize("name", ["threads", "--threads", "PORTICO_THREADS"])
def test_help_tells_of_one_setting(tmp_path, name):
    told = run_to_end("help", name, cwd=tmp_path)
    assert told.returncode == 0
    assert told.stdout.startswith("`--threads`\n") and "PORTICO_THREADS" in told.stdout
    wrong = run_to_end("help", "thraeds", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean threads?" in wrong.stderr


def test_config_shows_the_threads_that_there_are(tmp_path):
    def threads(*options: str) -> int:
        return json.loads(run_to_end("config", "--json", *options, cwd=tmp_path).stdout)["threads"]["value"]

    assert (threads(), threads("-k", "sync"), threads("-k", "gevent")) == (4, 1, 32)
    (tmp_path / "gunicorn.conf.py").write_text("")
    assert threads() == 1


def test_discovered_application_is_named_with_its_place(serve, tmp_path):
    (tmp_path / "wsgi.py").write_text("from apps.environment import application\n")
    server = serve(None, "-w", "2", cwd=tmp_path)
    server.expect_log(r"serves wsgi:application \(found through wsgi.py\) with 4 threads", count=2)
    assert len(server.wait_workers(2)) == len(server.find_records("serves wsgi:application")) == 2
    assert not server.find_records("No application")


# Commas


def test_a_comma_in_an_item_of_a_list(serve, tmp_path):
    path = tmp_path / "a,b.socket"
    escaped = str(path).replace(",", r"\,")
    toml = tmp_path / "portico.toml"
    toml.write_text(f'bind = ["unix:{path}"]\nraw_env = ["A=1,2"]\n')
    conf = tmp_path / "gunicorn.conf.py"
    hook = "def on_starting(server):\n    assert server.cfg.env['A'] == '1,2', server.cfg.env\n"
    conf.write_text(f"bind = ['unix:{path}']\nraw_env = ['A=1,2']\n{hook}")
    hooks = tmp_path / "hooks.py"
    hooks.write_text(hook)
    served = tmp_path / "served.py"
    served.write_text(f"import portico\nportico.serve('{ECHO}', bind=['unix:{path}'])\n")
    for options in (
        ("-c", str(toml)),
        ("-c", str(conf)),
        ("-b", f"unix:{escaped}", "-e", "A=1,2", "-c", str(hooks)),
    ):
        server = serve(ECHO, *options, bind=None)
        with Client(str(path)) as client:
            assert client.request("GET", "/ping").status == 200, options
        server.stop()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("portico.toml", "forwarded_allow_ips = []\n"),
        ("gunicorn.conf.py", "forwarded_allow_ips = []\nbind = []\nraw_env = []\n"),
    ],
)
def test_an_empty_list_of_the_believed_believes_nobody(serve, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    server = serve("apps.environment:of_request", cwd=tmp_path)
    told = server.request("GET", "/", [("X-Forwarded-Proto", "https")]).body.decode().splitlines()
    assert "wsgi.url_scheme=http" in told
    server.stop()


# gevent

GREEN = source("green_conf")


def test_a_configuration_that_patches_with_gevent(serve, tmp_path):
    skip_without("gevent")
    (tmp_path / "gunicorn.conf.py").write_text(GREEN)
    server = serve(TOLD, cwd=tmp_path, environment={"PORTICO_WORKERS": None})
    server.wait_workers(2)
    for _ in range(8):
        assert server.request().status == 200
    reload(server)
    server.wait_workers(2)
    assert server.request().status == 200
    server.stop()
    assert not server.find_records("died")


# A program that is its own server, as gunicorn's documentation has it


def test_a_program_that_is_its_own_server(serve, tmp_path):
    (tmp_path / "workers").write_text("2")
    server = serve(
        None,
        program=[sys.executable, str(TESTS / "apps" / "standalone.py")],
        bind=None,
        cwd=tmp_path,
        environment={"PORTICO_WORKERS": None},
    )
    workers = server.wait_workers(2)
    server.expect_text("2 threads")
    server.expect_log("forked", count=2)
    assert len(server.find_records("forked")) == 2
    multiprocess, pid = server.request().body.decode().split()
    assert multiprocess == "True" and int(pid) in {worker.pid for worker in workers}
    (tmp_path / "workers").write_text("1")
    reload(server)
    server.wait_workers(1)
    assert server.request().body.startswith(b"False")


# PasteDeploy


def test_logging_of_a_paste_file_counts(serve, tmp_path):
    skip_without("PasteDeploy")
    (tmp_path / "site.ini").write_text(
        "[app:main]\npaste.app_factory = apps.environment:make\n"
        "[loggers]\nkeys = root, error\n[handlers]\nkeys = file\n[formatters]\nkeys = plain\n"
        "[logger_root]\nlevel = INFO\nhandlers = file\n"
        "[logger_error]\nqualname = gunicorn.error\nlevel = INFO\nhandlers = file\npropagate = 0\n"
        "[handler_file]\nclass = FileHandler\nargs = ('%(here)s/paste.log',)\nformatter = plain\n"
        "[formatter_plain]\nformat = paste: %(message)s\n"
    )
    server = serve.start(None, "--paste", "site.ini", cwd=tmp_path)
    server.error_log = tmp_path / "paste.log"
    wait_until(lambda: "Listening at" in server.log_text, "the log")
    server.wait_ready()
    assert "paste: made" in server.log_text
    assert server.request().status == 200


def test_portico_as_the_server_of_a_paste_file(serve, tmp_path):
    skip_without("PasteDeploy")
    ini = tmp_path / "site.ini"
    ini.write_text(
        "[app:main]\npaste.app_factory = apps.environment:make\n"
        "[server:main]\nuse = egg:portico#main\nhost = 127.0.0.1\nport = 0\nthreads = 3\nconfig = more.py\n"
    )
    (tmp_path / "more.py").write_text("threads = 7\nkeepalive = 9\nhelper = 1\n")
    program = [sys.executable, str(TESTS / "apps" / "pserve.py"), str(ini)]
    server = serve(None, program=program, bind=None, cwd=tmp_path)
    assert "with 3 threads" in server.log_text
    assert server.request().status == 200


# Completions


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_load(tmp_path, shell):
    if shell != "bash":
        installed(shell)
    script = tmp_path / "completions"
    script.write_text(run_to_end("completions", shell, cwd=tmp_path).stdout)
    if shell != "bash":
        before = "autoload -Uz compinit; compinit -u; " if shell == "zsh" else ""
        program = [shell, "-c", f"{before}source {script}"]
        done = subprocess.run(program, capture_output=True, text=True, check=False, env=server_environment())
        assert (done.returncode, done.stderr) == (0, "")
        return

    def offered(*words: str) -> list[str]:
        asked = " ".join(f"'{word}'" for word in words)
        ask = (
            f"source {script}; COMP_WORDS=({asked}); COMP_CWORD={len(words) - 1}; "
            f"_portico portico '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        return subprocess.run(["bash", "-uc", ask], capture_output=True, text=True, check=True).stdout.split()

    assert offered("portico", "--max-re") == ["--max-requests", "--max-requests-jitter"]
    assert "check" in offered("portico", "ch")
    assert "--certfile" in offered("portico", "--cert")
    assert offered("portico", "--dirty") == []
