"""A real browser loads the example site: its page, all its parts, an upload and a stream of events."""

from __future__ import annotations

import pytest

from harness.browser import Browser, trust_flag
from harness.peers import certificate
from harness.server import TESTS

SITE = TESTS.parent / "examples" / "site"


@pytest.mark.parametrize(
    ("scheme", "protocol", "flags"),
    [("http", "http/1.1", ()), ("https", "http/1.1", ("--disable-http2",)), ("https", "h2", ())],
)
def test_the_example_site(serve, tmp_path, scheme, protocol, flags):
    pem = tmp_path / "pem"
    pem.write_bytes(b"".join(certificate()))
    tls = ("--certfile", str(pem), "--keyfile", str(pem)) if scheme == "https" else ()
    server = serve(None, *tls, bind=f"{scheme}://127.0.0.1:0", cwd=SITE)
    url = "{}://{}:{}/".format(scheme, *server.address)
    with Browser(trust_flag(), *flags) as browser:
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
