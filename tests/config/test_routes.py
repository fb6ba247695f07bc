"""Routes before they are served: `portico route`, `portico check` of them, `portico hash-password`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.server import TESTS, run_to_end

ECHO = "apps.echo:application"

ROUTES = """
app = "site:app"
[[route]]
headers = { X-Frame-Options = "DENY" }
[[route]]
path = "/shop"
app = "shop:app"
timeout = "5m"
[[route]]
host = "www.example.com"
redirect = "https://example.com{path}"
status = 308
[[route]]
path = "/"
methods = ["GET"]
redirects = "redirects.txt"
"""


def ended_of(command, told):
    """What becomes of a program that reads `told`."""
    return subprocess.run(
        command, check=False, cwd=TESTS, input=told, capture_output=True, text=True, timeout=30
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "portico.toml").write_text(ROUTES)
    (tmp_path / "redirects.txt").write_text("/old /new 301\n")
    return tmp_path


def explained(folder, *words):
    ended = run_to_end("route", *words, cwd=folder)
    assert ended.returncode == 0, ended
    return ended.stdout


def test_a_route_is_explained_with_its_lines(folder):
    page = explained(folder, "POST", "https://example.com/shop/cart?x=1")
    assert "route     /shop (portico.toml:5)\n" in page
    assert "responds  application shop:app, SCRIPT_NAME /shop\n" in page
    assert "before    / (portico.toml:3), because its path is longer\n" in page
    lines = [" ".join(line.split()) for line in page.splitlines()]
    assert 'headers.x-frame-options = "DENY" # portico.toml:3' in lines
    assert "timeout = 300s # portico.toml:5" in lines


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/"], "responds  the application\n"),
        (["/old?x"], "responds  301 to /new?x\n"),
        (["POST", "/old"], "responds  the application\n"),
        (["http://WWW.example.com:80/a//b"], "responds  308 to https://example.com/a/b\n"),
        (
            ["/%73hop"],
            "responds  400: the path as it was sent has another route than the path that it means\n",
        ),
        (["/a%00"], "responds  400: the path can be read in two ways\n"),
    ],
)
def test_what_responds_is_told(folder, words, told):
    assert told in explained(folder, *words)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[[route]]\npath = '/a'\nproxy = 'http://x'\n",
            "portico.toml:3:1: route: proxy is not in this version",
        ),
        ("[[route]]\npth = '/a'\n", "portico.toml:2:1: route: pth is no key of a route; did you mean path?"),
        (
            "[[route]]\npath = '/a'\napp = true\n[[route]]\npath = '/a/'\nrespond = 204\n",
            "two routes are equally specific: that for /a (portico.toml:1) and that for /a (portico.toml:4)",
        ),
        ("[[route]]\nredirects = 'none.txt'\n", "portico.toml:1: none.txt cannot be read: No such file"),
    ],
)
def test_mistakes_are_told_by_check_and_route(tmp_path, text, told):
    (tmp_path / "portico.toml").write_text(text)
    for words in (["route", "/"], ["check", ECHO, "--chdir", str(TESTS)]):
        if "none.txt" in text:
            words = [*words[:2]]
        ended = run_to_end(*words, cwd=tmp_path)
        assert ended.returncode == 1
        assert told in ended.stderr, ended


def test_a_line_of_a_redirect_file_is_named(folder):
    (folder / "redirects.txt").write_text("# moved\n/old\n")
    ended = run_to_end("route", "/", cwd=folder)
    assert "redirects.txt:2: a line is FROM TO [STATUS]" in ended.stderr


def test_check_finds_routes_that_no_request_can_get(tmp_path):
    (tmp_path / "portico.toml").write_text(
        "[[route]]\npath = '/a/b'\napp = true\n[[route]]\nexact = '/a/{rest…}'\nrespond = 204\n"
    )
    options = ["--allowed-hosts", "example.com", "--redirect", "/x=/y"]
    ended = run_to_end("check", ECHO, "--chdir", str(TESTS), *options, cwd=tmp_path)
    assert "warning: portico.toml:1: no request can get the route for /a/b: others take all" in ended.stdout


def test_short_spellings_come_from_every_source(tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(
        "static = 'a variable of its own'\nstatic_routes = ['/s=dist']\n"
        "routes = ['{ path = \"/r\", respond = 204 }']\n"
    )
    environment = {"PORTICO_REDIRECT": "/old=/new", "PORTICO_HEADER": "X-A: 1, 2"}
    options = ["config", "--json", "--limit", "/login=5/m"]
    shown = json.loads(run_to_end(*options, cwd=tmp_path, environment=environment).stdout)
    assert shown["static"]["value"] == ["/s=dist"]
    assert shown["route"]["value"] == [{"path": "/r", "respond": 204}]
    assert shown["redirect"]["value"] == ["/old=/new"]
    assert shown["header"]["value"] == ["X-A: 1, 2"]
    assert shown["limit"]["value"] == ["/login=5/m"]


def test_a_password_becomes_a_users_line(tmp_path):
    command = [sys.executable, "-m", "portico", "hash-password", "alice"]
    made = ended_of(command, "secret\n")
    assert made.returncode == 0, made
    assert made.stdout.startswith("alice:$2y$10$")
    again = ended_of(command, "secret\n")
    assert again.stdout != made.stdout, "each has a salt of its own"
    empty = ended_of(command, "")
    assert (empty.returncode, empty.stdout) == (1, "")
    assert "a password has 1 to 512 bytes" in empty.stderr
