"""Routes at a reload: a mistake keeps the old ones, without one no request is lost."""

from __future__ import annotations

import os
import signal

import pytest

from harness.http2_client import Http2Client
from harness.load import Load
from harness.rendezvous import wait_until
from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"
OLD = "[[route]]\npath = '/a'\nrespond = 410\n"
LOAD_RATE = 150.0


def start(serve, folder, *options, **more):
    """A server of the routes in a folder."""
    return serve(ECHO, "--pythonpath", str(TESTS), *options, cwd=folder, **more)


def reload(server, folder):
    """Reloads by the command; its exit status."""
    return run_to_end("reload", str(server.pid), cwd=folder).returncode


MISTAKES = [
    pytest.param("[[route]]\npath = '/a'\nrespond = 404\n", {}, "", None, id="none"),
    pytest.param("[[route]]\npath = '/a'\nrespond = '404'\n", {}, "portico.toml:3:11: ", 1, id="type"),
    pytest.param("[[route]]\npath = '/a'\nrespnd = 404\n", {}, "did you mean respond", 1, id="key"),
    pytest.param("[[route]\n", {}, "portico.toml:1", 1, id="syntax"),
    pytest.param(OLD + OLD, {}, "two routes are equally specific", 1, id="tie"),
    pytest.param(
        "[[route]]\npath = '/a'\nredirects = 'r.txt'\n", {"r.txt": "/one\n"}, "r.txt:1: ", 1, id="redirects"
    ),
    pytest.param(
        "[[route]]\npath = '/a'\nredirects = 'gone.txt'\n",
        {},
        "gone.txt cannot be read",
        1,
        id="no-redirects",
    ),
    pytest.param(
        "[[route]]\npath = '/a'\nrespond = 503\npage = 'none.html'\n",
        {},
        "none.html cannot be read",
        1,
        id="page",
    ),
    pytest.param(
        "[[route]]\nerror_pages = 'errors'\n",
        {"errors/x.html": ""},
        "errors has no page",
        1,
        id="error-pages",
    ),
]


@pytest.mark.parametrize(("routes", "files", "told", "lines"), MISTAKES)
def test_a_mistake_keeps_the_old_routes(serve, tmp_path, routes, files, told, lines):
    (tmp_path / "portico.toml").write_text(OLD)
    server = start(serve, tmp_path, "--workers", "2")
    old = server.wait_workers(2)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "portico.toml").write_text(routes)
    if lines is None:
        assert reload(server, tmp_path) == 0
        assert server.request("GET", "/a").status == 404
        return
    assert reload(server, tmp_path) == 1
    record = server.expect_log("reload failed; the old configuration and code keep serving: ")
    assert told in record and record.count("\n") == 0
    assert len(server.find_records("ERROR")) == 1
    assert server.wait_workers(2) == old, "no worker is given up for it"
    assert server.request("GET", "/a").status == 410
    # A worker that dies afterwards is replaced by one with the old routes.
    os.kill(old[0].pid, signal.SIGKILL)
    server.expect_log("SIGKILL")
    wait_until(
        lambda: {process.pid for process in server.wait_workers(2)} != {one.pid for one in old}, "another"
    )
    assert {server.request("GET", "/a").status for _ in range(20)} == {410}
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/b'\nrespond = 410\n")
    assert reload(server, tmp_path) == 0
    assert (server.request("GET", "/a").status, server.request("GET", "/b").status) == (200, 410)


def test_a_missing_application_keeps_the_old_ones(serve, tmp_path):
    """It shows at the import in a worker: as with any code, the workers that serve go on."""
    (tmp_path / "portico.toml").write_text(OLD)
    server = start(serve, tmp_path, "--workers", "2")
    old = server.wait_workers(2)
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/a'\napp = 'missing_module:app'\n")
    assert reload(server, tmp_path) == 1
    server.expect_log('portico.toml:1: no module named "missing_module"')
    server.expect_log("reload failed; the old code keeps serving")
    assert server.wait_workers(2) == old
    assert server.request("GET", "/a").status == 410


@pytest.mark.parametrize("options", [[], ["--preload"]])
def test_no_request_is_lost(serve, tmp_path, options):
    configuration = tmp_path / "portico.toml"

    def routes(number):
        configuration.write_text(
            f"[[route]]\npath = '/a'\nrespond = 200\nheaders = {{ X-Number = '{number}' }}\n"
        )

    routes(0)
    server = start(serve, tmp_path, "--workers", "2", *options)
    server.wait_workers(2)
    with Load(server.address, LOAD_RATE, lambda number: "/a" if number % 2 else "/ping") as load:
        load.wait_answered(30)
        for number in (1, 2, 3):
            routes(number)
            assert reload(server, tmp_path) == 0
            assert server.request("GET", "/a").get("X-Number") == str(number)
            configuration.write_text("[[route]]\npath = '/a'\nrespond = 200\n" * 2)
            assert reload(server, tmp_path) == 1
            load.wait_answered(30)
    server.expect_log("equally specific", count=3)
    assert not load.failed, load.told()


def test_a_connection_has_one_workers_routes(serve, tmp_path):
    (tmp_path / "portico.toml").write_text(OLD)
    server = start(serve, tmp_path)
    with server.connect() as client, Http2Client(server.address) as http2:
        assert client.request("GET", "/a").status == http2.request("/a").status == 410
        (tmp_path / "portico.toml").write_text("[[route]]\npath = '/a'\nrespond = 404\n")
        assert reload(server, tmp_path) == 0
        # The kept connection has been handed over; the other is told to come again.
        assert client.request("GET", "/a").status == 404
    assert server.request("GET", "/a").status == 404


@pytest.mark.parametrize(
    ("arguments", "both"),
    [
        (["--mount", "/a=apps.echo:application"], ["--mount /a=apps.echo:application", "portico.toml:1"]),
        (["--redirect", "/b=/c"], ["--redirect /b=/c", "portico.toml:4"]),
        (["--header", "X-A: 2"], ["--header X-A: 2", "portico.toml:7"]),
        (["--mount", "/x=a:a", "--mount", "/x/=b:b"], ["--mount /x=a:a", "--mount /x/=b:b"]),
    ],
)
def test_an_option_that_ties_is_shown(tmp_path, arguments, both):
    (tmp_path / "portico.toml").write_text(
        "[[route]]\npath = '/a'\nrespond = 410\n"
        "[[route]]\nexact = '/b'\nrespond = 410\n"
        "[[route]]\nheaders = { X-A = '1' }\n"
    )
    ended = run_to_end(ECHO, "--pythonpath", str(TESTS), *arguments, cwd=tmp_path)
    assert ended.returncode != 0
    assert ended.stderr.count("\n") == 1
    for origin in both:
        assert origin in ended.stderr


def test_options_are_short_for_routes(serve, tmp_path):
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/shop'\nheaders = { X-B = 'of the file' }\n")
    options = [
        *("--mount", "/shop=apps.echo:application", "--mount", "/other=apps.echo:application"),
        *("--redirect", "/old/{rest...}=/new/{rest}", "--redirect", "/older=/old"),
        *("--header", "X-A: 1, 2", "--header", "X-C?: 3", "--header", "Server:"),
    ]
    server = start(serve, tmp_path, *options)
    shop = server.request("GET", "/shop/x")
    assert (shop.get("X-A"), shop.get("X-B"), shop.get("X-C"), shop.get("Server")) == (
        "1, 2",
        "of the file",
        "3",
        None,
    )
    assert b'"SCRIPT_NAME": "/shop"' in shop.body
    assert b'"SCRIPT_NAME": "/other"' in server.request("GET", "/other").body
    moved = server.request("GET", "/old/a/b?c")
    assert (moved.status, moved.get("Location"), moved.get("X-A")) == (302, "/new/a/b?c", "1, 2")
    assert server.request("GET", "/older").get("Location") == "/old"


# In development


def test_under_reload_routes_follow_their_file(serve, tmp_path):
    configuration = tmp_path / "portico.toml"
    configuration.write_text("[[route]]\npath = '/a'\nredirects = 'r.txt'\n")
    (tmp_path / "r.txt").write_text("/a /first\n")
    server = start(serve, tmp_path, "--reload")

    def location():
        return server.request("GET", "/a").get("Location")

    assert location() == "/first"
    (tmp_path / "r.txt").write_text("/a /second\n")
    wait_until(lambda: location() == "/second", "the new redirects")
    configuration.write_text("[[route]]\npath = '/a'\nredirect = '/third'\n")
    wait_until(lambda: location() == "/third", "the new route")
    configuration.write_text(OLD + OLD)
    record = server.expect_log("the old configuration counts on, portico.toml has a mistake: ")
    assert "equally specific" in record
    wait_until(lambda: location() == "/third", "the old route")
    configuration.write_text("[[route]]\npath = '/a'\nredirect = '/fourth'\n")
    wait_until(lambda: location() == "/fourth", "the mended route")


def test_under_reload_a_mistake_has_a_page(serve, tmp_path):
    (tmp_path / "portico.toml").write_text("[[route]]\npath = '/a'\nredirects = 'r.txt'\n")
    (tmp_path / "r.txt").write_text("/a /first\n")
    server = start(serve, tmp_path, "--reload")
    assert server.request("GET", "/a").status == 302
    (tmp_path / "r.txt").write_text("/a\n")
    server.expect_log("r.txt:1: ")
    page = server.request("GET", "/a")
    assert (page.status, b"r.txt:1: " in page.body) == (500, True)
    (tmp_path / "r.txt").write_text("/a /second\n")
    wait_until(lambda: server.request("GET", "/a").get("Location") == "/second", "the mended file")
