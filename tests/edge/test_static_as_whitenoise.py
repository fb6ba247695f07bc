"""What WhiteNoise's own tests (6.12) hold of HTTP, asked of Portico: who takes WhiteNoise out finds the same.

Of its 80 cases those that are about HTTP stand here by their names; `DIFFERENT` has those where Portico does
something else, with the reason. The others are about its Python objects, its compression at build time, its
storages and its settings. What it does with Django's STATIC_ROOT is in test_django_static.py.
"""

from __future__ import annotations

import gzip
import os

import pytest

from harness.server import TESTS
from harness.static_site import StaticSite, let_changes_settle

SCRIPT = b"var a = 1; // twenty bytes and some more of them\n" * 3
STYLE = b".a { color: red }\n" * 60
IMAGE = b"GIF89a\x01\x00\x01\x00"
PAGE = b"<p>index</p>"

# WhiteNoise's tests say that the first is a Friday. A date with a wrong day is none for Portico.
FUTURE, PAST = "Sun, 11 Apr 2100 11:47:06 GMT", "Wed, 11 Apr 2001 11:47:06 GMT"


@pytest.fixture(scope="module")
def site(serve_module, tmp_path_factory):
    """Files like those of its tests, with an application behind them."""
    folder = tmp_path_factory.mktemp("site")
    files = folder / "files"
    for name, content in {
        "app.js": SCRIPT,
        "style.css": STYLE,
        "style.css.gz": gzip.compress(STYLE),
        "image.gif": IMAGE,
        "odd.foobar": b"odd",
        "caf\u00e9.txt": b"not of ASCII",
        "with-index/index.html": PAGE,
        "epoch.txt": b"no time",
    }.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(content)
    os.utime(files / "epoch.txt", (0, 0))
    (folder / "portico.toml").write_text(
        '[[route]]\npath = "/static"\nstatic = "files"\nfallback = "app"\n'
        'mime = { foobar = "application/x-foo-bar" }\nheaders = { X-Is-Css = "True" }\n'
    )
    let_changes_settle()
    server = serve_module("apps.accel:application", "--pythonpath", str(TESTS), cwd=folder)
    return StaticSite(server, folder)


def is_of_application(got):
    return (got.status, got.body) == (200, b"the application")


# By the name of the case: target, fields, status, content (`None`: not said), and fields of the response.
CASES = {
    "get_file": ("app.js", (), 200, SCRIPT, {"Content-Type": "text/javascript; charset=utf-8"}),
    "get_not_accept_gzip": ("style.css", ("Accept-Encoding: ",), 200, STYLE, {"Content-Encoding": None}),
    "get_accept_missing": ("style.css", (), 200, STYLE, {"Vary": "Accept-Encoding"}),
    "get_accept_gzip": (
        "style.css",
        ("Accept-Encoding: gzip, deflate",),
        200,
        gzip.compress(STYLE),
        {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
    ),
    "not_modified_future": ("app.js", (f"If-Modified-Since: {FUTURE}",), 304, b"", {}),
    "modified": ("app.js", (f"If-Modified-Since: {PAST}",), 200, SCRIPT, {}),
    "modified_mangled_date": (
        "app.js",
        ("If-Modified-Since: Fri, 16 Jul 2021 09:09:1626426577S GMT",),
        200,
        SCRIPT,
        {},
    ),
    "etag_doesnt_match": ("app.js", ('If-None-Match: "594bd1d1-36"',), 200, SCRIPT, {}),
    "etag_overrules_modified_since": (
        "app.js",
        ('If-None-Match: "594bd1d1-36"', f"If-Modified-Since: {FUTURE}"),
        200,
        SCRIPT,
        {},
    ),
    "max_age": ("app.js", (), 200, None, {"Cache-Control": "max-age=60, public"}),
    "response_has_correct_content_length_header": (
        "image.gif",
        (),
        200,
        IMAGE,
        {"Content-Length": str(len(IMAGE)), "Content-Type": "image/gif"},
    ),
    "custom_mimetype": ("odd.foobar", (), 200, b"odd", {"Content-Type": "application/x-foo-bar"}),
    "custom_headers": ("style.css", (), 200, STYLE, {"x-is-css": "True"}),
    "index_file_served_at_directory_path": ("with-index/", (), 200, PAGE, {}),
    "directory_path_without_trailing_slash_redirected": (
        "with-index",
        (),
        302,
        None,
        {"Location": "./with-index/"},
    ),
    "redirect_keeps_the_query": ("with-index?v=1", (), 302, None, {"Location": "./with-index/?v=1"}),
    "request_initial_bytes": ("app.js", ("Range: bytes=0-13",), 206, SCRIPT[:14], {"Content-Length": "14"}),
    "request_trailing_bytes": ("app.js", ("Range: bytes=-3",), 206, SCRIPT[-3:], {}),
    "request_middle_bytes": ("app.js", ("Range: bytes=21-30",), 206, SCRIPT[21:31], {}),
    "overlong_ranges_truncated": ("app.js", ("Range: bytes=21-100000",), 206, SCRIPT[21:], {}),
    "overlong_trailing_ranges_return_entire_file": (
        "app.js",
        ("Range: bytes=-100000",),
        206,
        SCRIPT,
        {},
    ),
    "out_of_range_error": (
        "app.js",
        ("Range: bytes=10000-11000",),
        416,
        None,
        {"Content-Range": f"bytes */{len(SCRIPT)}"},
    ),
    "get_nonascii_file": ("caf%C3%A9.txt", (), 200, b"not of ASCII", {}),
    "no_content_disposition_header": ("app.js", (), 200, None, {"Content-Disposition": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_as_whitenoise(site, case):
    target, fields, status, content, described = CASES[case]
    got = site.fetch(f"/static/{target}", fields=[tuple(field.split(": ", 1)) for field in fields])
    assert got.status == status
    if content is not None and got.get("Content-Encoding") == "gzip":
        assert gzip.decompress(got.body) == gzip.decompress(content)
    elif content is not None:
        assert got.body == content
    assert {name: got.get(name) for name in described} == described


def test_conditions_by_what_was_sent(site):
    """not_modified_exact, etag_matches, no_content_type_when_not_modified."""
    first = site.fetch("/static/app.js")
    for name, value in (("If-Modified-Since", "Last-Modified"), ("If-None-Match", "ETag")):
        again = site.fetch("/static/app.js", fields=[(name, first.get(value))])
        assert (again.status, again.body, again.get("Content-Type")) == (304, b"", None), name


def test_methods(site):
    """head_request_has_no_body; a POST is for the application where that has what is not there."""
    head = site.fetch("/static/app.js", "HEAD")
    assert (head.status, head.body, head.get("Content-Length")) == (200, b"", str(len(SCRIPT)))


@pytest.mark.parametrize(
    "target",
    ["/", "/other", "/static/none", "/static/caf%C3%A9", "/static/C:/Windows/System.ini", "/blah" * 1000],
)
def test_what_is_no_file_is_the_applications(site, target):
    """other_requests_passed_through, non_ascii_requests_safely_ignored, no_error_on_very_long_filename."""
    assert is_of_application(site.fetch(target))


DIFFERENT = {
    "get_accept_star": "`*` takes every coding (RFC 9110, section 12.5.3), the sidecar as well",
    "cannot_directly_request_gzipped_file": "a file is a file: who asks for style.css.gz gets it",
    "index_file_path_redirected": "with-index/index.html is what its name says; nginx and Caddy serve it too",
    "last_modified_not_set_when_mtime_is_zero": "the date is left out; the tag is of the content",
    "post_request_returns_405": 'with fallback = "app" it is the application\'s; of other routes it is 405',
    "response_has_allow_origin_header": "for Django's STATIC_ROOT alone, which fonts are used from elsewhere",
}


def test_what_is_different(site):
    star = site.fetch("/static/style.css", fields=[("Accept-Encoding", "*")])
    assert star.get("Content-Encoding") == "gzip"
    sidecar = site.fetch("/static/style.css.gz")
    assert (sidecar.status, sidecar.get("Content-Encoding")) == (200, None)
    assert gzip.decompress(sidecar.body) == STYLE
    assert site.fetch("/static/with-index/index.html").body == PAGE
    epoch = site.fetch("/static/epoch.txt")
    assert epoch.get("Last-Modified") is None and epoch.get("ETag")
    assert is_of_application(site.fetch("/static/app.js", "POST"))
    assert site.fetch("/static/app.js").get("Access-Control-Allow-Origin") is None
    assert all(DIFFERENT.values())
