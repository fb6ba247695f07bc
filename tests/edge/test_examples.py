"""The examples of examples/edge: each is started and asked, beside nginx with the configuration it replaces.

Those of a later version are refused by name, and that is what is tested of them.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.http_client import Client, Response, request_bytes
from harness.peers import certificate
from harness.ports import HOST, free_port
from harness.programs import installed
from harness.rendezvous import wait_until
from harness.scripts import load
from harness.server import TESTS, Server, run_to_end

EXAMPLES = TESTS.parent / "examples" / "edge"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
# What is said against them. Nothing else may be of a later version.
LATER = {
    "07-cache": "cache is not in this version",
    "08-websockets": "proxy is not in this version",
    "12-several-hosts": "acme is not in this version",
}
# Where the tree of an example is for nginx and Caddy, and where the applications are.
TREE = "/srv/app"
PORTS = ("127.0.0.1:8000", "127.0.0.1:8001")
# The applications behind nginx, where there are others than `app:app`, and what they speak with it.
APPLICATIONS = {
    "01-django": ["mysite.wsgi"],
    "02-single-page": ["api:app"],
    "03-two-apps": ["pages:app", "shop:app"],
}
PROTOCOLS = {"03-two-apps": "uwsgi"}
# Caddy's file needs a module that no package of it has.
OTHER_CADDY = {"06-login-limit", "07-cache"}
PATIENCE = 10.0


@dataclasses.dataclass(frozen=True)
class Ask:
    """A request, and what Portico responds."""

    target: str
    status: int
    method: str = "GET"
    host: str = "test"
    fields: tuple[tuple[str, str], ...] = ()
    # The whole body, or a part of it; None for any.
    body: bytes | None = None
    # Fields of the response, None for none.
    expect: tuple[tuple[str, str | None], ...] = ()
    # What nginx responds otherwise, and why; 0 where it must respond the same.
    nginx: int = 0
    why: str = ""


STYLES = b"body { font-family: sans-serif }\n"
PAGE = (EXAMPLES / "02-single-page/dist/index.html").read_bytes()
SCRIPT = (EXAMPLES / "02-single-page/dist/assets/app.js").read_bytes()
PDF = (EXAMPLES / "05-guarded-media/media/a b.pdf").read_bytes()
DOWN = (EXAMPLES / "10-maintenance/maintenance.html").read_bytes()
HTML = (("Accept", "text/html,*/*;q=0.8"),)
MEMBER = (("Cookie", "member=yes"),)
BOB = (("Authorization", "Basic Ym9iOmFuIGV4YW1wbGU="),)
MALLORY = (("Authorization", "Basic Ym9iOmEgZ3Vlc3M="),)
STAGING = "staging.example.com"

ASKS: dict[str, list[Ask]] = {
    "01-django": [
        Ask("/", 200, body=b"home\n"),
        Ask("/static/site.css", 200, body=STYLES, expect=(("Cache-Control", "max-age=60, public"),)),
        Ask("/static/site.css", 206, fields=(("Range", "bytes=0-3"),), body=b"body"),
        Ask("/static/none.css", 404),
        Ask("/static/../mysite/settings.py", 400),
        Ask("/none", 404),
    ],
    "02-single-page": [
        Ask("/", 200, body=PAGE),
        Ask("/assets/app.js", 200, body=SCRIPT),
        Ask("/users/17", 200, fields=HTML, body=PAGE),
        Ask("/api/users", 200, body=b"api /api/users\n"),
        Ask("/api", 200, body=b"api /api\n", nginx=301, why="it redirects to the slash"),
        Ask(
            "/assets/none.js",
            404,
            fields=HTML,
            nginx=200,
            why="try_files knows no types",
        ),
    ],
    "03-two-apps": [
        Ask("/about", 200, body=b"pages '' '/about'\n"),
        Ask("/shop/cart", 200, body=b"shop '/shop' '/cart'\n"),
        Ask("/shop", 200, body=b"shop '/shop' ''\n"),
        Ask("/shopping", 200, body=b"pages '' '/shopping'\n"),
    ],
    "04-old-urls": [
        Ask("/blog/2019/hello.html", 301, expect=(("Location", "/posts/hello"),)),
        Ask("/blog/2019/hello.html?a=b", 301, expect=(("Location", "/posts/hello?a=b"),)),
        Ask("/about.php", 301, expect=(("Location", "/about"),)),
        Ask("/contact.php?a=b", 301, expect=(("Location", "/contact?a=b"),)),
        Ask("/summer-sale", 302, expect=(("Location", "https://shop.example.com/sale"),)),
        Ask("/blog/2019/", 200, body=b"app /blog/2019/\n"),
    ],
    "05-guarded-media": [
        Ask("/download/a%20b.pdf", 200, fields=MEMBER, body=PDF, expect=(("X-Accel-Redirect", None),)),
        Ask("/download/a%20b.pdf", 206, fields=(*MEMBER, ("Range", "bytes=1-3")), body=b"PDF"),
        Ask("/download/a%20b.pdf", 403, body=b"members\n"),
        Ask("/download/none.pdf", 404, fields=MEMBER),
        Ask("/protected/a%20b.pdf", 404, fields=MEMBER),
    ],
    "06-login-limit": [
        *[Ask("/login", 200, "POST", body=b"app /login\n")] * 5,
        Ask("/login", 429, "POST"),
        Ask("/login", 200, body=b"app /login\n"),
        Ask("/", 200, "POST"),
    ],
    "09-staging-password": [
        Ask("/admin", 403, host=STAGING),
        Ask("/admin/x", 403, host=STAGING, fields=BOB),
        Ask("/", 200, host=STAGING, body=b"app /\n"),
        Ask("/admin", 200, body=b"app /admin\n"),
        Ask("//admin", 400, host=STAGING, nginx=403, why="it merges the slashes"),
    ],
    "10-maintenance": [Ask("/", 200, body=b"app /\n")],
    "11-security-headers": [
        Ask(
            "/",
            200,
            body=b"app /\n",
            expect=(
                ("X-Content-Type-Options", "nosniff"),
                ("Content-Security-Policy", "default-src 'self'"),
                ("Strict-Transport-Security", None),
                ("Server", None),
            ),
            nginx=200,
            why="it cannot leave Server out, and sends HSTS over http, which RFC 6797, section 7.2, forbids",
        ),
        Ask("/own", 200, expect=(("Content-Security-Policy", "default-src 'none'"),)),
    ],
}
# Of these, nginx is asked for the same fields.
SHARED_FIELDS = {"Location", "X-Accel-Redirect", "X-Content-Type-Options", "Content-Security-Policy"}


Copy = Callable[[str], Path]


def started(serve, folder: Path, *options: str) -> Server:
    """A server of this folder."""
    return serve.start(None, *options, cwd=folder).wait_ready()


@pytest.fixture
def copy(folders) -> Copy:
    """Copies an example to where the users of all servers may read it."""

    def copied(name: str) -> Path:
        folder = folders.make() / name
        shutil.copytree(EXAMPLES / name, folder)
        if name == "01-django":
            command = [sys.executable, "manage.py", "collectstatic", "--noinput"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    return copied


class Nginx:
    """nginx with the file of an example, which names this tree and these applications."""

    def __init__(self, folder: Path, upstreams: list[str]) -> None:
        self.port, self.tls_port, self.folder = free_port(), free_port(), folder.parent / "nginx"
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o777)
        self.site = self.folder / "site.conf"
        self.main = self.folder / "main.conf"
        self.log = self.folder / "log"
        pem, key = certificate()
        (self.folder / "pem").write_bytes(pem)
        (self.folder / "key").write_bytes(key)
        self.site.write_text(self.substituted(folder, upstreams))
        temporary = (
            f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        lines = [f"daemon off; worker_processes 1; pid pid; error_log {self.log} info; events {{}}", "http {"]
        lines += ["include /etc/nginx/mime.types; access_log off;", *temporary]
        self.main.write_text("\n".join([*lines, f"include {self.site};", "}"]))
        (self.folder / "uwsgi_params").symlink_to("/etc/nginx/uwsgi_params")

    def substituted(self, folder: Path, upstreams: list[str]) -> str:
        """The configuration with the addresses and folders of this test."""
        text = (folder / "nginx.conf").read_text()
        assert "listen 80" in text
        live = "/etc/letsencrypt/live/example.com"
        places = dict(zip(PORTS, upstreams, strict=False)) | {
            "listen 80": f"listen {HOST}:{self.port}",
            "listen 443": f"listen {HOST}:{self.tls_port}",
            f"{live}/fullchain.pem": f"{self.folder}/pem",
            f"{live}/privkey.pem": f"{self.folder}/key",
            "/var/cache/nginx": str(self.folder),
            TREE: str(folder),
        }
        for old, new in places.items():
            text = text.replace(old, new)
        return text

    def command(self) -> list[str]:
        return [installed("nginx"), "-e", str(self.log), "-p", f"{self.folder}/", "-c", str(self.main)]

    def check(self) -> None:
        """Asserts that nginx takes the configuration."""
        done = subprocess.run(
            [*self.command(), "-t"], check=False, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> subprocess.Popen:
        """Starts it and waits until it listens."""
        process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL)

        def listens() -> bool:
            assert process.poll() is None, self.log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        wait_until(listens, "nginx to listen", PATIENCE)
        return process


@pytest.fixture
def nginx(serve, tmp_path: Path) -> Iterator[Callable[[str, Path], tuple[str, int]]]:
    """Starts nginx in front of the applications of an example; returns where it listens."""
    started: list[subprocess.Popen] = []

    def start(name: str, folder: Path) -> tuple[str, int]:
        upstreams = []
        for number, target in enumerate(APPLICATIONS.get(name, ["app:app"])):
            (elsewhere := tmp_path / f"upstream-{number}").mkdir()
            bind = f"{PROTOCOLS.get(name, 'http')}://127.0.0.1:0"
            server = serve(target, "--pythonpath", str(folder), bind=bind, cwd=elsewhere)
            upstreams.append("{}:{}".format(*server.address))
        made = Nginx(folder, upstreams)
        started.append(made.start())
        return HOST, made.port

    yield start
    for process in started:
        process.terminate()
        process.wait(PATIENCE)


def asked(address: tuple[str, int] | str, ask: Ask) -> Response:
    """The response to one request on a connection of its own."""
    body = b"" if ask.method == "POST" else None
    with Client(address) as client:
        client.send(request_bytes(ask.method, ask.target, ask.fields, body=body, host=ask.host))
        return client.read_response(ask.method)


def check(response: Response, ask: Ask) -> None:
    """Asserts that it is the response that the example promises."""
    assert response.status == ask.status, (ask, response.body[:200])
    if ask.body is not None:
        assert response.body == ask.body, ask
    for name, value in ask.expect:
        assert response.get(name) == value, (ask, name)


def relative(location: str | None, address: tuple[str, int]) -> str | None:
    """A Location without the scheme and host that nginx adds of itself."""
    return location and re.sub(rf"^http://test(:{address[1]})?(?=/)", "", location)


def compare(address: tuple[str, int], ask: Ask) -> None:
    """Asserts that nginx responds as Portico does: status, bytes, and the fields that both are asked for."""
    response = asked(address, ask)
    assert response.status == (ask.nginx or ask.status), (ask, response.body[:200])
    if ask.nginx:
        return
    if ask.body is not None and ask.status < 400:
        assert response.body == ask.body, ask
    for name, value in ask.expect:
        if name in SHARED_FIELDS:
            assert relative(response.get(name), address) == value, (ask, name)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LATER])
def test_portico_does_what_the_example_says(serve, copy, name):
    folder = copy(name)
    if name == "01-django":
        # Its files need no setting, so this version is asked whether it serves files at all.
        started(serve, folder, "--static", "/asked=static")
    server = started(serve, folder)
    for ask in ASKS[name]:
        check(asked(server.address, ask), ask)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LATER])
def test_nginx_responds_the_same(copy, nginx, name):
    address = nginx(name, copy(name))
    for ask in ASKS[name]:
        compare(address, ask)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_three_configurations_that_are_taken(copy, name):
    folder = copy(name)
    Nginx(folder, ["127.0.0.1:1", "127.0.0.1:2"]).check()
    if name not in LATER:
        shown = run_to_end("config", cwd=folder)
        assert shown.returncode == 0, shown.stderr
    assert (folder / "Caddyfile").read_text()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHER_CADDY])
def test_caddy_takes_the_configuration(copy, name):
    command = [installed("caddy"), "validate", "--adapter", "caddyfile", "--config", "Caddyfile"]
    done = subprocess.run(command, cwd=copy(name), check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", LATER)
def test_what_comes_later_is_refused_by_name(copy, name):
    checked = run_to_end("check", cwd=copy(name))
    assert checked.returncode == 1
    assert LATER[name] in checked.stderr


def test_several_hosts_with_certificates_of_ones_own(serve, copy):
    folder = copy("12-several-hosts")
    configuration = folder / "portico.toml"
    lines = configuration.read_text().splitlines(keepends=True)
    assert lines[0].startswith("bind = ") and lines[1].startswith("acme = ")
    configuration.write_text("".join(lines[2:]))
    server = started(serve, folder)
    for ask in [
        Ask("/a", 200, host="example.com", body=b"pages /a\n"),
        Ask("/a?b", 308, host="www.example.com", expect=(("Location", "https://example.com/a?b"),)),
        Ask("/a", 200, host="api.example.com", body=b"api /a\n"),
        Ask("/a", 421, host="other.example.com"),
    ]:
        check(asked(server.address, ask), ask)


INSIDE = [
    Ask("/admin", 401, host=STAGING),
    Ask("/admin", 401, host=STAGING, fields=MALLORY),
    Ask("/admin", 200, host=STAGING, fields=BOB, body=b"app /admin\n"),
    Ask("/", 200, host=STAGING, body=b"app /\n"),
]


def let_in(folder: Path) -> None:
    """Has the example of a password let in the addresses of the tests."""
    for name in ("portico.toml", "nginx.conf"):
        text = (folder / name).read_text()
        assert "10.0.0.0/8" in text
        (folder / name).write_text(text.replace("10.0.0.0/8", "127.0.0.0/8"))


def test_the_password_is_asked_for_inside(serve, copy):
    folder = copy("09-staging-password")
    let_in(folder)
    server = started(serve, folder)
    for ask in INSIDE:
        check(asked(server.address, ask), ask)


def test_nginx_asks_for_the_password_too(copy, nginx):
    folder = copy("09-staging-password")
    let_in(folder)
    address = nginx("09-staging-password", folder)
    for ask in INSIDE:
        compare(address, ask)


MAINTENANCE = Ask("/x", 503, body=DOWN, expect=(("Retry-After", "600"),))


def test_maintenance_goes_on_and_off_with_the_file(serve, copy, nginx):
    folder = copy("10-maintenance")
    server = serve(None, cwd=folder)
    address = nginx("10-maintenance", folder)
    (folder / "MAINTENANCE").touch()
    wait_until(lambda: asked(server.address, MAINTENANCE).status == 503, "maintenance", PATIENCE)
    check(asked(server.address, MAINTENANCE), MAINTENANCE)
    check(asked(address, MAINTENANCE), MAINTENANCE)
    (folder / "MAINTENANCE").unlink()
    wait_until(lambda: asked(server.address, MAINTENANCE).status == 200, "its end", PATIENCE)
    assert asked(address, MAINTENANCE).status == 200


# What `portico migrate` can translate of nginx's configurations; of the others it says what is lost.
TRANSLATED = {"01-django", "02-single-page", "05-guarded-media"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LATER])
def test_what_migrate_makes_of_nginx_responds_the_same(serve, copy, name):
    folder = copy(name)
    (folder / "portico.toml").unlink()
    nginx = folder / "nginx.conf"
    nginx.write_text(nginx.read_text().replace(TREE, str(folder)))
    done = run_to_end("migrate", "nginx.conf", "-o", "portico.toml", cwd=folder)
    assert done.returncode == int(name not in TRANSLATED), done.stderr
    if name not in TRANSLATED:
        assert re.search(r"^portico: error: nginx\.conf:\d+: ", done.stderr, re.MULTILINE)
        return
    application = APPLICATIONS.get(name, ["app:app"])[0]
    checked = run_to_end("check", "--bind", "127.0.0.1:0", application, cwd=folder)
    assert checked.returncode == 0, checked.stderr
    server = started(serve, folder, application)
    for ask in ASKS[name]:
        check(asked(server.address, ask), ask)


def test_the_table_of_lines_is_true():
    table = load("count", EXAMPLES / "count.py").table(EXAMPLES)
    assert table in (EXAMPLES / "README.md").read_text()
    assert len(NAMES) == 12
