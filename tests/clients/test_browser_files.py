"""A real browser and files of routes: a single-page application, ranges of media, passwords and its cache."""

from __future__ import annotations

import shutil
import wave

import pytest

from harness.browser import Browser, trust_flag
from harness.peers import certificate
from harness.rendezvous import wait_until
from harness.server import TESTS
from harness.static_site import let_changes_settle

APPLICATION = "apps.accel:application"
SITE = TESTS / "apps" / "single_page"

ROUTES = """
[[route]]
static = "site"
fallback = "/index.html"

[[route]]
path = "/api"
app = true

[[route]]
path = "/media"
static = "media"

[[route]]
path = "/admin"
static = "admin"
auth = "users"
"""

# Of "secret", with so few rounds that it costs nothing.
BOB = "bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n"

# More than a browser reads ahead, so that it has to ask for what it is told to play.
SECONDS, FRAMES_A_SECOND = 300, 44_100

# How a page is loaded, by which protocol, and how the browser is told to.
CONNECTIONS = [("http", "http/1.1"), ("https", "h2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site, a sound of some minutes, and what only a user may have."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(SITE, folder / "site")
    for name in ("media", "admin"):
        (folder / name).mkdir()
    with wave.open(str(folder / "media" / "sound.wav"), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(FRAMES_A_SECOND)
        sound.writeframes(bytes(4 * FRAMES_A_SECOND * SECONDS))
    (folder / "admin" / "index.html").write_text(
        '<title>Admin</title><link rel="stylesheet" href="own.css"><p>for bob alone'
    )
    (folder / "admin" / "own.css").write_text("p { color: rgb(1, 2, 3) }")
    (folder / "users").write_text(BOB)
    (folder / "portico.toml").write_text(ROUTES)
    (folder / "pem").write_bytes(b"".join(certificate()))
    let_changes_settle()
    return folder


class Visited:
    """A server of the site and a browser that visits it."""

    def __init__(self, server, browser, scheme, protocol):
        self.server, self.browser, self.scheme, self.protocol = server, browser, scheme, protocol
        self.host = "{}:{}".format(*server.address)

    def url(self, path, user=""):
        return f"{self.scheme}://{user}{self.host}{path}"

    def asked(self, path):
        """Range and status of each request for a path that has ended, in their order."""
        lines = [line.split(" ") for line in list(self.server.stdout.lines)]
        return [(asked, int(status)) for _, target, asked, status in lines if target == path]

    def expect_statuses(self, path, *expected):
        """Waits until the log has the requests for a path, and they have these statuses."""
        wait_until(lambda: len(self.asked(path)) >= len(expected), f"{len(expected)} requests for {path}")
        assert [status for _, status in self.asked(path)] == list(expected)

    def expect_protocol(self):
        """All that the present page consists of has come by the protocol that was meant."""
        self.browser.wait_for("performance.getEntries().some(entry => entry.nextHopProtocol)")
        by = self.browser.evaluate("performance.getEntries().map(entry => entry.nextHopProtocol)")
        assert {protocol for protocol in by if protocol} == {self.protocol}


@pytest.fixture(params=CONNECTIONS, ids=[protocol for _, protocol in CONNECTIONS])
def visited(request, serve, folder):
    scheme, protocol = request.param
    tls = ("--certfile", "pem", "--keyfile", "pem") if scheme == "https" else ()
    told = ("--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %({Range}i)s %(s)s")
    options = ["--pythonpath", str(TESTS), *tls, *told]
    server = serve(APPLICATION, *options, bind=f"{scheme}://127.0.0.1:0", cwd=folder)
    with Browser(trust_flag(), "--autoplay-policy=no-user-gesture-required", "--mute-audio") as browser:
        yield Visited(server, browser, scheme, protocol)


def test_a_single_page_application(visited):
    """Links, the history and addresses that are opened directly show the same."""
    browser = visited.browser
    shows = "document.querySelector('main').textContent === '{}, the application'".format
    browser.open(visited.url("/"))
    browser.wait_for(shows("all notes"))
    colour = "getComputedStyle(document.querySelector('main')).color"
    assert browser.evaluate(colour) == "rgb(0, 80, 120)"
    visited.expect_protocol()
    browser.evaluate("document.getElementById('seven').click()")
    browser.wait_for(shows("note 7"))
    assert browser.evaluate("location.pathname") == "/notes/7"
    browser.evaluate("window.stays = true; history.back()")
    browser.wait_for(shows("all notes"))
    assert browser.evaluate("window.stays"), "no other document was loaded"
    visited.expect_statuses("/notes/7")
    browser.open(visited.url("/notes/9"))
    browser.wait_for(shows("note 9"))
    browser.evaluate("window.stays = true")
    browser.call("Page.reload")
    browser.wait_for("!window.stays")
    browser.wait_for(shows("note 9"))
    visited.expect_statuses("/notes/9", 200, 304)
    # What is no page of the application is none of the site either.
    for target, method, status in [
        ("/missing.js", "GET", 404),
        ("/notes/9", "POST", 405),
        ("/api/missing", "GET", 200),
    ]:
        asked = f"fetch('{target}', {{method: '{method}'}}).then(response => response.status)"
        assert browser.evaluate(asked) == status, target
    told = "fetch('/api/missing').then(response => response.text())"
    assert browser.evaluate(told) == "the application"


def test_media_is_played_from_where_one_wants(visited):
    browser, path = visited.browser, "/media/sound.wav"
    browser.open(visited.url("/player.html"))
    browser.evaluate(f"video = document.querySelector('video'); video.src = '{path}'; video.play()")
    browser.wait_for("video.currentTime > 0.2")
    assert browser.evaluate("Math.round(video.duration)") == SECONDS
    assert browser.evaluate("video.seekable.end(0) > 299"), "so it has learnt that it may ask for parts"
    browser.evaluate(f"video.currentTime = {SECONDS - 20}")
    browser.wait_for(f"!video.seeking && video.currentTime > {SECONDS - 20} + 0.2")
    assert browser.evaluate("video.error") is None
    visited.expect_protocol()
    # The log has a request as soon as it has ended.
    browser.open("about:blank")
    wait_until(lambda: len(visited.asked(path)) >= 2, "the log")
    asked = visited.asked(path)
    firsts = [int(value.removeprefix("bytes=").partition("-")[0]) for value, _ in asked]
    assert {status for _, status in asked} == {206}, asked
    far = 4 * FRAMES_A_SECOND * (SECONDS - 30)
    assert 0 in firsts and max(firsts) > far, asked


def test_password_opens_a_page_and_its_files(visited):
    browser = visited.browser
    text = "document.body.innerText"
    browser.call("Page.navigate", url=visited.url("/admin/", "bob:wrong@"))
    browser.wait_for("document.readyState === 'complete'")
    assert "for bob" not in browser.evaluate(text)
    browser.open(visited.url("/admin/", "bob:secret@"))
    assert "for bob alone" in browser.evaluate(text)
    colour = "getComputedStyle(document.querySelector('p')).color"
    assert browser.evaluate(colour) == "rgb(1, 2, 3)", "the style sheet came with the same password"
    visited.expect_protocol()
    # A browser may ask without the password first, and learn that there is one.
    for path in ("/admin/", "/admin/own.css"):
        statuses = [status for _, status in visited.asked(path)]
        assert statuses[-1] == 200 and set(statuses[:-1]) <= {401}, (path, statuses)
    assert visited.asked("/admin/")[0] == ("-", 401), "of the wrong one"


def test_cached_files_are_asked_for_by_tag(visited):
    browser = visited.browser
    shown = "document.querySelector('main').textContent.startsWith('all notes')"
    for visit in range(3):
        browser.open(visited.url("/"))
        browser.wait_for(shown)
        visited.expect_statuses("/", *[200, 304, 304][: visit + 1])
    visited.expect_protocol()
    # It is fresh for a minute.
    visited.expect_statuses("/style.css", 200)
    kept = "performance.getEntriesByType('resource').find(entry => entry.name.endsWith('style.css'))"
    assert browser.evaluate(f"{kept}.transferSize") == 0
    browser.call("Page.reload", ignoreCache=True)
    visited.expect_statuses("/style.css", 200, 200)
    visited.expect_statuses("/", 200, 304, 304, 200)
