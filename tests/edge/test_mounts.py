"""Several applications in one process: `app = "module:attribute"` in a route, and `--mount`."""

from __future__ import annotations

import json

import pytest

from harness.gateway_client import PROTOCOLS, ask, variables
from harness.http2_client import Http2Client
from harness.http_client import request_bytes
from harness.packages import skip_without
from harness.rendezvous import wait_until
from harness.server import run_to_end

# Each tells its name and what of its environ says where it is.
APPLICATIONS = """\
import json
import threading

KEYS = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_METHOD")


def named(name):
    def application(environ, start_response):
        told = {key: environ[key] for key in KEYS}
        told |= {"app": name, "thread": threading.current_thread().name}
        told["body"] = len(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]

    return application


site, shop, deep, api = map(named, ("site", "shop", "deep", "api"))


def create(name):
    return named(name)
"""

ROUTES = """
app = "several:site"

[[route]]
path = "/shop"
app = "several:shop"

[[route]]
path = "/shop/deep/down"
app = "several:deep"

[[route]]
host = "api.example.com"
app = "several:api"

[[route]]
path = "/shop/free"
app = true

[[route]]
path = "/shop/moved"
redirect = "/shop/new"

[[route]]
exact = "/shop/old/{id}"
rewrite = "/shop/new/{id}"

[[route]]
exact = "/shop/away/{id}"
rewrite = "/else/{id}"

[[route]]
path = "/sh\u00f6p"
app = "several:create('sh\u00f6p')"
"""

NAMES = ("app", "SCRIPT_NAME", "PATH_INFO")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the applications and their routes."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "portico.toml").write_text(ROUTES, encoding="utf-8")
    (folder / "several.py").write_text(APPLICATIONS)
    return folder


@pytest.fixture(scope="module", params=["each", "preload"])
def site(request, serve_module, folder):
    """A server of them that speaks every protocol, with and without preload."""
    binds = [f"{protocol}://unix:{folder}/{protocol}-{request.param}.sock" for protocol in PROTOCOLS]
    options = ["--preload"] if request.param == "preload" else []
    server = serve_module(None, "--threads", "2", *options, bind=["127.0.0.1:0", *binds], cwd=folder)
    server.sockets = {protocol: f"{folder}/{protocol}-{request.param}.sock" for protocol in PROTOCOLS}
    return server


def told(response):
    """Which application was called, and with what."""
    assert response.status == 200, response
    environ = json.loads(response.body)
    return tuple(environ[name] for name in NAMES)


def one(server, target, host="test", **more):
    """The response to one request on a connection of its own."""
    with server.connect() as client:
        client.send(request_bytes(more.pop("method", "GET"), target, host=host, **more))
        return client.read_response()


CALLS = [
    ("/", ("site", "", "/")),
    ("/shop", ("shop", "/shop", "")),
    ("/shop/", ("shop", "/shop", "/")),
    ("/shop/a%20b?c=d", ("shop", "/shop", "/a b")),
    ("/shop//a", ("shop", "/shop", "//a")),
    ("/shopping", ("site", "", "/shopping")),
    ("/shop/deep", ("shop", "/shop", "/deep")),
    ("/shop/deep/down/x", ("deep", "/shop/deep/down", "/x")),
    ("/shop/free/x", ("site", "", "/shop/free/x")),
    ("/shop/old/7", ("shop", "/shop", "/new/7")),
    ("/shop/away/7", ("shop", "", "/else/7")),
    ("/sh%C3%B6p/%C3%A4", ("sh\u00f6p", "/sh\xc3\xb6p", "/\xc3\xa4")),
]


@pytest.mark.parametrize(("target", "expected"), CALLS)
def test_http1(site, target, expected):
    response = one(site, target)
    assert told(response) == expected
    environ = json.loads(response.body)
    assert environ["RAW_URI"] == target
    assert environ["QUERY_STRING"] == target.partition("?")[2]


@pytest.mark.parametrize(("target", "expected"), CALLS)
def test_http2(site, target, expected):
    with Http2Client(site.addresses[0]) as client:
        assert told(client.request(target)) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_gateways(site, protocol):
    def asked(target, **more):
        return told(ask(site.sockets[protocol], protocol, variables(target, **more)))

    assert asked("/shop/x") == ("shop", "/shop", "/x")
    assert asked("/shop") == ("shop", "/shop", "")
    assert asked("/x") == ("site", "", "/x")
    assert asked("/shop/old/7") == ("shop", "/shop", "/new/7")
    # A gateway that says SCRIPT_NAME: nginx with the whole path beside it, and CGI as it is meant.
    assert asked("/shop/x", SCRIPT_NAME="/shop") == ("shop", "/shop", "/x")
    assert asked("/shop/x", SCRIPT_NAME="/shop", PATH_INFO="/x") == ("shop", "/shop", "/x")
    assert asked("/shop/deep/x", SCRIPT_NAME="/shop/deep", PATH_INFO="/x") == ("shop", "/shop", "/deep/x")
    assert asked("/a/shop/x", SCRIPT_NAME="/a", PATH_INFO="/shop/x") == ("site", "/a", "/shop/x")


def test_one_connection_has_responses_of_all(site):
    with site.connect() as client:
        targets = ["/shop/x", "/", "/shop/deep/down", "/shop/free", "/shop/y"] * 8
        client.send(b"".join(request_bytes("GET", target) for target in targets))
        names = [told(client.read_response())[0] for _ in targets]
        assert names == ["shop", "site", "deep", "site", "shop"] * 8
        posted = client.request("POST", "/shop/x", body=b"x" * 100_000)
        assert (told(posted)[0], json.loads(posted.body)["body"]) == ("shop", 100_000)
        assert client.request("GET", "/shop/moved").status == 302


def test_hosts_have_applications(site):
    assert told(one(site, "/x", host="api.example.com")) == ("api", "", "/x")
    assert told(one(site, "/shop/x", host="api.example.com")) == ("api", "", "/shop/x")
    assert told(one(site, "/x", host="other.example")) == ("site", "", "/x")


@pytest.mark.parametrize(
    "target", ["//shop/x", "/x/../shop", "/%73hop", "/shop/../shop2/../shop/x/../../shop"]
)
def test_no_other_spelling_leads_to_an_application(site, target):
    response = one(site, target)
    assert response.status == 400 or told(response)[1:] == ("/shop", target.removeprefix("/shop"))


def test_the_log_names_them_all(site):
    site.expect_text("several:site, several:shop for /shop, several:deep for /shop/deep/down, ")
    assert "several:create(\u2026) for" in site.log_text or "several:create('" not in site.log_text


def test_they_share_the_threads(site):
    def threads():
        return {json.loads(one(site, target).body)["thread"] for target in ("/", "/shop", "/sh%C3%B6p")}

    assert threads() <= {"portico-1", "portico-2"}


ROOTS = [
    # The proxy in front takes the prefix off, or it does not.
    ("/shop/x", ("shop", "/base/shop", "/x")),
    ("/base/shop/x", ("shop", "/base/shop", "/x")),
    ("/%62ase/shop", ("shop", "/base/shop", "")),
    ("/base", ("site", "/base", "")),
    ("/base/base/shop", ("site", "/base", "/base/shop")),
    ("/x", ("site", "/base", "/x")),
]


def test_below_a_root_path(serve, folder, tmp_path):
    binds = ["127.0.0.1:0", *(f"{protocol}://unix:{tmp_path}/{protocol}.sock" for protocol in PROTOCOLS)]
    server = serve(None, "--root-path", "/base", bind=binds, cwd=folder)
    for target, expected in ROOTS:
        assert told(one(server, target)) == expected, target
        with Http2Client(server.addresses[0]) as client:
            assert told(client.request(target)) == expected, target
        if "%" in target:
            continue
        for protocol in PROTOCOLS:
            asked = ask(f"{tmp_path}/{protocol}.sock", protocol, variables(target))
            assert told(asked) == expected, (protocol, target)
    for protocol in PROTOCOLS:
        told_by_gateway = variables("/own/shop/x", SCRIPT_NAME="/own", PATH_INFO="/shop/x")
        asked = ask(f"{tmp_path}/{protocol}.sock", protocol, told_by_gateway)
        assert told(asked) == ("site", "/own", "/shop/x"), "its own SCRIPT_NAME is a part of the path"


def test_a_believed_proxy_says_its_mount(serve, folder):
    server = serve(
        None, "--forwarded-allow-ips", "127.0.0.1", "--forwarder-headers", "SCRIPT_NAME,PATH_INFO", cwd=folder
    )
    fields = [("SCRIPT-NAME", "/front")]
    with server.connect() as client:
        for target in ("/shop/x", "/front/shop/x"):
            response = client.request("GET", target, [("SCRIPT_NAME", "/front")])
            assert told(response) == ("shop", "/front/shop", "/x"), (target, fields)


@pytest.mark.parametrize(
    "target", ["/base/admin", "/admin", "/%62ase/admin", "/base%2fadmin", "/base//admin"]
)
def test_no_root_path_leads_around_a_guard(serve, tmp_path, target):
    """The application takes the prefix off: what is below it is the path that routes are for."""
    (tmp_path / "several.py").write_text(APPLICATIONS)
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/admin'\ndeny = ['0.0.0.0/0']\n")
    bind = ["127.0.0.1:0", f"scgi://unix:{tmp_path}/scgi.sock"]
    server = serve("several:site", "--root-path", "/base", bind=bind, cwd=tmp_path)
    assert one(server, target).status in (400, 403)
    if "%" not in target:
        assert ask(f"{tmp_path}/scgi.sock", "scgi", variables(target)).status in (400, 403)


def test_a_redirect_has_the_whole_path(serve, tmp_path):
    (tmp_path / "several.py").write_text(APPLICATIONS)
    (tmp_path / "portico.toml").write_text(
        "[[route]]\nhost = 'www.example.com'\nredirect = 'https://example.com{path}'\n"
    )
    server = serve("several:site", "--root-path", "/base", cwd=tmp_path)
    for target in ("/base/x", "/x"):
        response = one(server, target, host="www.example.com")
        assert response.get("Location") == f"https://example.com{target}"


def test_routes_may_do_without_a_main_application(serve, tmp_path):
    (tmp_path / "several.py").write_text(APPLICATIONS)
    server = serve(None, "--mount", "/a=several:site", "--mount", "/b=several:shop", cwd=tmp_path)
    assert told(one(server, "/a/x")) == ("site", "/a", "/x")
    assert told(one(server, "/b")) == ("shop", "/b", "")
    assert one(server, "/c").status == 404
    (tmp_path / "portico.toml").write_text(
        "[[route]]\nhost = 'a.example'\napp = 'several:site'\n"
        "[[route]]\nhost = 'b.example'\napp = 'several:shop'\n"
    )
    server = serve(None, cwd=tmp_path)
    assert told(one(server, "/x", host="b.example")) == ("shop", "", "/x")
    assert one(server, "/x", host="c.example").status == 421


def test_one_application_may_be_mounted_twice(serve, tmp_path):
    (tmp_path / "counted.py").write_text(
        "print('imported', flush=True)\nfrom several import shop\n", encoding="utf-8"
    )
    (tmp_path / "several.py").write_text(APPLICATIONS)
    server = serve("several:site", "--mount", "/a=counted:shop", "--mount", "/b=counted:shop", cwd=tmp_path)
    assert told(one(server, "/a/x")) == ("shop", "/a", "/x")
    assert told(one(server, "/b/x")) == ("shop", "/b", "/x")
    assert server.stdout.lines.count("imported") == 1


def ended(tmp_path, *arguments, **more):
    """What becomes of a start, or a command, that ends by itself."""
    (tmp_path / "several.py").write_text(APPLICATIONS)
    return run_to_end(*arguments, cwd=tmp_path, **more)


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_a_mistake_in_one_names_its_route(tmp_path, options):
    (tmp_path / "portico.toml").write_text("\n[[route]]\npath = '/shop'\napp = 'missing_module:app'\n")
    start = ended(tmp_path, *options, "several:site")
    assert start.returncode == 3
    assert 'portico.toml:2: no module named "missing_module"' in start.stderr
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')\n")
    (tmp_path / "portico.toml").unlink()
    start = ended(tmp_path, *options, "--mount", "/shop=broken:app", "several:site")
    assert start.returncode == 3
    assert "--mount /shop=broken:app: importing broken failed: RuntimeError: planted" in start.stderr
    assert "Traceback" in start.stderr


def test_check_imports_them(tmp_path):
    checked = ended(tmp_path, "check", "--mount", "/shop=several:shop", "several:site")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "The application is several:site, several:shop for /shop" in checked.stdout
    checked = ended(tmp_path, "check", "--mount", "/shop=several:none", "several:site")
    assert checked.returncode == 1
    assert '--mount /shop=several:none: module "several" has no attribute "none"' in checked.stderr


def test_warm_up_requests_reach_them(serve, tmp_path):
    (tmp_path / "several.py").write_text(APPLICATIONS)
    (tmp_path / "warm.py").write_text(
        "def app(environ, start_response):\n"
        "    print('warmed', environ['SCRIPT_NAME'], environ['PATH_INFO'], flush=True)\n"
        "    start_response('204 No Content', [])\n"
        "    return []\n"
    )
    options = ["--mount", "/shop=warm:app", "--warmup", "/shop/warm"]
    server = serve("several:site", *options, cwd=tmp_path)
    wait_until(lambda: "warmed /shop /warm" in server.stdout.lines, "the warm-up")


def test_under_reload_one_page_stands_in_for_all(serve, tmp_path):
    (tmp_path / "several.py").write_text(APPLICATIONS)
    (tmp_path / "other.py").write_text("from several import shop as app\n")
    server = serve("several:site", "--reload", "--mount", "/shop=other:app", cwd=tmp_path)
    assert told(one(server, "/shop/x"))[0] == "shop"
    (tmp_path / "other.py").write_text("raise RuntimeError('planted')\n")
    server.expect_log("planted")
    assert one(server, "/shop/x").status == one(server, "/").status == 500
    (tmp_path / "other.py").write_text("from several import deep as app\n")
    wait_until(lambda: one(server, "/shop/x").status == 200, "the mended application")
    assert told(one(server, "/shop/x"))[0] == "deep"


WSGI = """\
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{0}.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
SETTINGS = """\
SECRET_KEY = "a key for tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "{0}.urls"
"""
URLS = """\
from django.conf import settings
from django.http import HttpResponse
from django.urls import path


def index(request):
    return HttpResponse(settings.ROOT_URLCONF + " " + request.path)


urlpatterns = [path("", index)]
"""


def django_project(folder, name):
    """A Django project of that name."""
    (folder / name).mkdir()
    for module, text in (("__init__", ""), ("wsgi", WSGI), ("settings", SETTINGS), ("urls", URLS)):
        (folder / name / f"{module}.py").write_text(text.format(name) if text is not URLS else text)


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_two_django_projects_are_refused(tmp_path, options):
    skip_without("django")
    for name in ("one", "two"):
        django_project(tmp_path, name)
    start = ended(tmp_path, *options, "--mount", "/two=two.wsgi", "one.wsgi")
    assert start.returncode == 4
    assert (
        "--mount /two=two.wsgi: two.wsgi is a Django project with the settings two.settings, and the main "
        "application has one.settings" in start.stderr
    )
    assert "a portico of its own" in start.stderr
    checked = ended(tmp_path, "check", "--mount", "/two=two.wsgi", "one.wsgi")
    assert (checked.returncode, "Django takes one settings module" in checked.stderr) == (1, True)


def test_one_django_project_beside_others(serve, tmp_path):
    skip_without("django")
    (tmp_path / "several.py").write_text(APPLICATIONS)
    django_project(tmp_path, "one")
    server = serve(
        "several:site", "--mount", "/one=one.wsgi", "--mount", "/again=one.wsgi:application", cwd=tmp_path
    )
    assert one(server, "/one/").body == b"one.urls /one/"
    assert one(server, "/again/").body == b"one.urls /again/"
    assert told(one(server, "/"))[0] == "site"


def test_access_log_divides_paths_as_the_application(serve, tmp_path):
    (tmp_path / "several.py").write_text(APPLICATIONS)
    (tmp_path / "portico.toml").write_text(ROUTES)
    told = ("--access-logfile", "-", "--access-logformat", "<%({SCRIPT_NAME}e)s|%(U)s>")
    server = serve(None, "--root-path", "/base", *told, cwd=tmp_path)
    with server.connect() as client:
        for path, line in [
            ("/base/shop/a", "</base/shop|/a>"),
            ("/base/shop/deep/down/x", "</base/shop/deep/down|/x>"),
            ("/base/b", "</base|/b>"),
            ("/base/shop", "</base/shop|>"),
        ]:
            response = client.request("GET", path)
            got = json.loads(response.body)
            assert f"<{got['SCRIPT_NAME']}|{got['PATH_INFO']}>" == line
            wait_until(lambda wanted=line: wanted in list(server.stdout.lines), f"{line} in the access log")
