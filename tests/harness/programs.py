"""Programs that some tests run: those that are not installed skip their tests, or fail them.

Where PORTICO_TEST_PEERS is `required`, as for the CI, only those of OPTIONAL skip tests.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable

import pytest

# By program: the packages of Debian and its like that have it, and what it needs beside itself.
PACKAGES = {
    "apache2": "apache2",
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "fish": "fish",
    "h2load": "nghttp2-client",
    "haproxy": "haproxy",
    "lighttpd": "lighttpd lighttpd-mod-openssl",
    "nginx": "nginx",
    "openssl": "openssl",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "testssl": "testssl.sh bsdextrautils",
    "zsh": "zsh",
}
# What few need is not required of the CI either.
OPTIONAL = {"fish", "promtool", "systemd-analyze", "zsh"}
# Names a file to which a run of pytest adds the tests that failed.
FAILED_LIST = "PORTICO_TEST_FAILED_LIST"
# Names a file to which a run of pytest adds the program that each skipped test missed, instead of its advice.
SKIPPED_LIST = "PORTICO_TEST_SKIPPED_LIST"
MISSING = re.compile(r"(?:Skipped: )?the program (\S+) is not installed")


def installed(name: str) -> str:
    """Where a program of PACKAGES is; skips the test that asks, or fails it, where it is not."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        reason = f"the program {name} is not installed: {PACKAGES[name]}"
        assert name in OPTIONAL or os.environ.get("PORTICO_TEST_PEERS") != "required", reason
        pytest.skip(reason, allow_module_level=True)
    return found


def missing(reasons: Iterable[str]) -> list[str]:
    """The program of each of these reasons for which a test was skipped, where it is a missing program."""
    return [found[1] for reason in reasons if (found := MISSING.match(reason))]


def advice(skipped: list[str]) -> list[str]:
    """Two lines on the tests that were skipped for want of these programs, or none."""
    if not skipped:
        return []
    counts = sorted(Counter(skipped).items())
    packages = " ".join(PACKAGES[name] for name, _ in counts)
    return [
        f"Skipped for want of a program: {', '.join(f'{name} ({count} tests)' for name, count in counts)}.",
        f"To run them: apt-get install --no-install-recommends {packages}",
    ]
