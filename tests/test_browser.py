"""A real browser loads the example site: its page, all its parts, an upload and a stream of events."""

from __future__ import annotations

import pytest

from harness.browser import Browser
from harness.server import TESTS

SITE = TESTS.parent / "examples" / "site"


@pytest.mark.parametrize(("scheme", "protocol"), [("http", "http/1.1")])
def test_the_example_site(serve, scheme, protocol):
    server = serve(None, cwd=SITE)
    url = "{}://{}:{}/".format(scheme, *server.address)
    with Browser() as browser:
        for _ in range(2):
            browser.open(url)
            browser.wait_for("document.getElementById('upload').textContent != '…'")
            browser.wait_for("document.getElementById('events').textContent.includes('4')")
            told = browser.evaluate("document.body.innerText")
            assert "Hello from Portico" in told
            assert f"came by {protocol}, " in told
            assert f" over {scheme}." in told
            assert "as 1000000 bytes" in told
            assert "Events: 0 1 2 3 4" in told
            assert browser.evaluate("document.querySelector('img').naturalWidth") > 0
            colour = "getComputedStyle(document.querySelector('h1')).color"
            assert browser.evaluate(colour) == "rgb(0, 80, 120)"
            by = browser.evaluate(
                "performance.getEntries().map(entry => entry.nextHopProtocol).filter(Boolean)"
            )
            assert len(by) >= 5 and set(by) == {protocol}
