"""`portico check`, `config`, `completions` and `schema`, and configuration files in TOML."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from harness.peers import certificate
from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"


def test_config_tells_each_value_and_who_set_it(tmp_path):
    (tmp_path / "portico.toml").write_text("# mine\nthreads = 7\nkeepalive = '5s'\n")
    shown = run_to_end("config", "--workers", "2", cwd=tmp_path, environment={"PORTICO_BACKLOG": "9"})
    assert shown.returncode == 0, shown
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "threads = 7 # portico.toml:2; more of them need an upgrade" in lines
    assert 'keep_alive = "5s" # portico.toml:3' in lines
    assert "backlog = 9 # PORTICO_BACKLOG; changes need an upgrade" in lines
    assert "workers = 2 # command line" in lines
    assert "sendfile = true # default" in lines


def test_what_config_prints_is_a_configuration_file(tmp_path):
    first = run_to_end("config", "--threads", "9", "-b", "127.0.0.1:7", "a:b", cwd=tmp_path)
    (tmp_path / "portico.toml").write_text(first.stdout)
    again = json.loads(run_to_end("config", "--json", cwd=tmp_path).stdout)
    assert again["threads"]["value"] == 9
    assert again["bind"]["value"] == ["127.0.0.1:7"]
    assert again["app"] == {
        "value": "a:b",
        "source": "file",
        "file": "portico.toml",
        "line": 2,
        "column": 1,
        "applies": "reload",
    }


def test_a_file_serves(serve, tmp_path):
    (tmp_path / "settings.toml").write_text(f'app = "{ECHO}"\nthreads = 3\nchdir = "{TESTS}"\n')
    server = serve(None, "-c", str(tmp_path / "settings.toml"))
    assert "3 threads" in server.log_text
    assert server.request("GET", "/ping").status == 200


def test_portico_toml_takes_precedence_over_pyproject_toml(tmp_path):
    (tmp_path / "portico.toml").write_text("threads = 2\n")
    (tmp_path / "pyproject.toml").write_text("[tool.portico]\nthreads = 3\n")
    shown = run_to_end("config", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["threads"]["value"] == 2
    assert "portico.toml is the configuration file, and pyproject.toml counts for nothing" in shown.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("threads = 2\nthreds = 3\n", "portico.toml:2:1: threds is not a setting; did you mean threads?"),
        ("threads = true\n", "portico.toml:1:11: threads: this is a boolean; write a whole number"),
        ("\n threads = 0\n", "portico.toml:2:2: threads: 0 is out of range"),
        ("threads = \n", "portico.toml:1:"),
        ("dirty_apps = 'x'\n", "portico.toml:1:1: dirty_apps: Portico has no dirty workers"),
    ],
)
def test_mistake_in_a_file_is_reported_with_place(tmp_path, text, told):
    (tmp_path / "portico.toml").write_text(text)
    ended = run_to_end(ECHO, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"portico: error: {told}"), ended.stderr
    assert ended.stderr.count("\n") == 1


def test_check_finds_nothing_wrong(tmp_path):
    good = run_to_end("check", ECHO, "-b", f"unix:{tmp_path}/socket", "--spew", cwd=TESTS)
    assert good.returncode == 0, good
    assert "The configuration is good" in good.stdout
    assert "warning: --spew has no effect" in good.stdout
    assert not (tmp_path / "socket").exists()


def test_check_tells_all_that_is_wrong(tmp_path):
    path = tmp_path / "socket"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        binds = [
            "-b",
            f"127.0.0.1:{port}",
            "-b",
            f"unix:{path}",
            "-b",
            "unix:/no/such/folder/s",
            "-b",
            "fd://77",
        ]
        bad = run_to_end("check", "apps.no_such_module", *binds, cwd=TESTS)
        assert path.exists()
    assert bad.returncode == 1
    lines = bad.stderr.splitlines()
    assert len(lines) == 5, bad.stderr
    for place, line in zip(
        [f":{port}", str(path), "/no/such/", "fd://77", "no_such_module"], lines, strict=True
    ):
        assert line.startswith("portico: error: ")
        assert place in line


def test_check_is_1_for_wrong_settings_too():
    assert run_to_end("check", "--threads", "0", cwd=TESTS).returncode == 1
    assert run_to_end("check", ECHO, cwd=TESTS, environment={"PORTICO_THREADS": "0"}).returncode == 1


def test_print_config_prints_and_imports():
    good = run_to_end("--print-config", ECHO, cwd=TESTS)
    assert good.returncode == 0
    assert f'app = "{ECHO}"' in " ".join(good.stdout.split())
    assert run_to_end("--print-config", "apps.no_such_module", cwd=TESTS).returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    script = run_to_end("completions", shell, cwd=TESTS)
    assert script.returncode == 0
    assert "max-requests-jitter" in script.stdout


def test_schema_is_the_one_of_the_repository():
    printed = run_to_end("schema", cwd=TESTS)
    kept = Path(TESTS).parent / "docs" / "reference" / "portico.schema.json"
    assert json.loads(printed.stdout) == json.loads(kept.read_text())


def test_migrate_writes_what_serves(serve, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(
        "import os\nbind = ['127.0.0.1:0']\nworkers = 2\nthreads = 3\nkeepalive = 5\n"
        f"chdir = {str(TESTS)!r}\nwsgi_app = {ECHO!r}\n"
        "worker_tmp_dir = '/dev/shm'\ndef post_fork(server, worker):\n    pass\n"
    )
    written = tmp_path / "portico.toml"
    done = run_to_end("migrate", "gunicorn.conf.py", "-o", str(written), cwd=tmp_path)
    assert done.returncode == 0, done
    assert "gunicorn.conf.py:9: post_fork: a file in TOML has no functions" in done.stderr
    assert "worker_tmp_dir: left out" in done.stderr
    server = serve(None, "-c", str(written))
    assert "3 threads" in server.log_text
    assert server.request("GET", "/ping").status == 200
    again = run_to_end("migrate", "gunicorn.conf.py", "-o", str(written), cwd=tmp_path)
    assert again.returncode == 1
    assert "cannot be written" in again.stderr


def test_migrate_uwsgi(tmp_path):
    (tmp_path / "uwsgi.ini").write_text(
        f"[uwsgi]\nhttp-socket = 127.0.0.1:0\nmodule = apps.echo\nchdir = {TESTS}\n"
        "processes = 2\nthreads = 3\nmaster = true\nspooler = /tmp\n"
    )
    done = run_to_end("migrate", "uwsgi.ini", cwd=tmp_path)
    assert done.returncode == 0, done
    assert "uwsgi.ini:8: spooler: run it as a service of its own" in done.stderr
    (tmp_path / "portico.toml").write_text(done.stdout)
    assert run_to_end("check", cwd=tmp_path).returncode == 0


SECRET = "hunter2"


def test_secrets_are_shown_nowhere(serve, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(
        f"raw_env = ['API_KEY={SECRET}', 'PLAIN={SECRET}']\n"
        f"raw_paste_global_conf = ['secret={SECRET}', 'db=mysql://me:{SECRET}@db/x', 'debug=true']\n"
        "keyfile = '/etc/ssl/private.key'\ncertfile = '/etc/ssl/cert.pem'\n"
    )
    (tmp_path / "made.py").write_text(
        "def make(password):\n    from apps.echo import application\n    return application\n"
    )
    target = f"made:make('{SECRET}')"
    for command in (("config",), ("config", "--json"), ("--print-config",)):
        shown = run_to_end(*command, target, cwd=tmp_path)
        assert SECRET not in shown.stdout + shown.stderr, shown
        assert "API_KEY=\u2026" in shown.stdout and "PLAIN=\u2026" in shown.stdout
        assert "secret=\u2026" in shown.stdout and "mysql://me:\u2026@db/x" in shown.stdout
        assert "debug=true" in shown.stdout and "made:make(\u2026)" in shown.stdout
        assert "/etc/ssl/private.key" in shown.stdout, "where a key lies is no secret"
    (tmp_path / "gunicorn.conf.py").unlink()
    environment = {"PYTHONPATH": f"{TESTS}:{tmp_path}"}
    server = serve(target, "-e", f"API_KEY={SECRET}", cwd=tmp_path, environment=environment)
    assert server.request("GET", "/ping").status == 200
    assert "serves made:make(\u2026)" in server.log_text
    assert SECRET not in server.log_text


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("-e", SECRET), ""),
        (("-e", "A=1", "a:b", f"B={SECRET}"), ""),
        ((), f"raw_env = [('A', '{SECRET}')]"),
        ((), f"raw_env = ['{SECRET}']"),
    ],
)
def test_faulty_secret_is_reported_without_its_value(tmp_path, arguments, file):
    (tmp_path / "gunicorn.conf.py").write_text(file)
    told = run_to_end("config", *arguments, cwd=tmp_path)
    assert told.stderr and (told.returncode != 0 or "counts for nothing" in told.stderr)
    assert SECRET not in told.stdout + told.stderr, told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("processes\n", "processes: written as workers, but"),
        ("socket = %(run)/a.sock\n", "it is not known what %(run) stands for"),
        ("https = :443,/no/such.crt\nhttps = :444,/a.crt,/a.key\n", "name one for each"),
        ("ini = none.ini\n", "none.ini cannot be read"),
    ],
)
def test_migrate_reports_problems_and_exits_with_1(tmp_path, text, said):
    (tmp_path / "uwsgi.ini").write_text(f"[uwsgi]\nmodule = shop\n{text}")
    done = run_to_end("migrate", "uwsgi.ini", "-o", "portico.toml", cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "portico: error: " in done.stderr and said in done.stderr
    assert (tmp_path / "portico.toml").exists(), "to be mended"


def tree_of(text: str, folder: Path) -> str:
    """A configuration with its files in `folder`, where those that it names are made."""
    pem, key = certificate()
    made = {r"\S+\.(?:pem|crt)": pem, r"\S+\.key": key, r"\S*htpasswd": b"bob:{SHA}x\n"}
    for pattern, content in made.items():
        for named in set(re.findall(rf"(?<=\s)/{pattern}(?=;)", text)):
            path = folder / named.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key if "priv" in named else content)
            text = text.replace(f"{named};", f"{path};")
    for named in set(re.findall(r"(?:root|alias) (/\S+);", text)):
        path = folder / named.strip("/")
        (path if not path.suffix else path.parent).mkdir(parents=True, exist_ok=True)
        text = re.sub(rf"(root|alias) {re.escape(named)};", rf"\1 {folder}{named};", text)
        if not path.suffix:
            (path / "404.html").write_text("lost")
    return text


@pytest.mark.parametrize(
    "name", ["django", "certbot", "single-page", "several-sites", "uwsgi-pass", "redirects"]
)
def test_what_migrate_makes_of_nginx_passes_the_check(tmp_path, name):
    corpus = Path(TESTS).parent / "crates/portico-config/tests/nginx"
    shutil.copytree(corpus / "snippets", tmp_path / "snippets")
    text = (corpus / f"{name}.conf").read_text().replace("rewrite ^/internal/(.*)$ /hidden/$1 last;", "")
    (tmp_path / "nginx.conf").write_text(tree_of(text, tmp_path))
    done = run_to_end("migrate", "nginx.conf", "-o", "portico.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nginx.conf: names no application" in done.stderr
    checked = run_to_end("check", "--bind", "127.0.0.1:0", ECHO, cwd=tmp_path)
    assert checked.returncode == 0, (checked.stderr, (tmp_path / "portico.toml").read_text())
    assert "warning: portico.toml" not in checked.stderr, "each route can be had"


def test_migrate_tells_of_each_nginx_directive(tmp_path):
    (tmp_path / "site.conf").write_text(
        "server {\n    listen 8080;\n    sendfile on;\n"
        "    location / {\n        proxy_pass http://app;\n    }\n"
        "    location ~ \\.php$ {\n        fastcgi_pass unix:/run/php.sock;\n    }\n    brotli on;\n}\n"
    )
    done = run_to_end("migrate", "site.conf", cwd=tmp_path)
    assert done.returncode == 1
    for line in [
        "site.conf: app is taken for the application that Portico serves itself",
        "site.conf: not needed here, or always so, with their lines: sendfile (3)",
        "error: site.conf:8: fastcgi_pass unix:/run/php.sock: left out, it is no WSGI application",
        "error: site.conf:7: location ~ \\.php$: left out, a route is for paths, not for extensions",
        "site.conf:10: brotli on: left out, nothing is known of it here",
    ]:
        assert line in done.stderr, done.stderr
    assert "[[route]]  # site.conf:4\napp = true\n" in done.stdout
    # A file without an ending is told by what is in it.
    (tmp_path / "mysite").write_text("server { listen 8080; root /srv; }\n")
    assert 'static = "/srv"' in run_to_end("migrate", "mysite", cwd=tmp_path).stdout


def test_what_migrate_takes_is_taken_by_portico_too(tmp_path):
    """Every file of the corpus that is migrated without an error."""
    corpus = Path(TESTS).parent / "crates/portico-config/tests"
    files = [*sorted(corpus.glob("uwsgi/*.ini")), *sorted(corpus.glob("nginx/*.conf"))]
    assert len(files) >= 21
    environment = {"PORT": "9000", "STAGE": "production"}
    for file in files:
        out = tmp_path / f"{file.stem}.toml"
        done = run_to_end("migrate", str(file), "-o", str(out), cwd=tmp_path, environment=environment)
        assert done.returncode == int("# problem: " in file.with_suffix(".expected").read_text()), done.stderr
        if done.returncode == 0 and "there is no such folder here" not in done.stderr:
            shown = run_to_end("config", "-c", str(out), cwd=tmp_path)
            assert shown.returncode == 0, (file.name, shown.stderr)
