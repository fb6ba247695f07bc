"""What testssl.sh, an outside judge of TLS, finds: nothing above "low" that is the server's."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from harness.certificates import Authority
from harness.programs import installed

# What its severities are called that are above "low".
GRAVE = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
# The test's own authority tells nobody of revocations, and fields are the application's.
ELSEWHERE = re.compile("cert_revocation|security_headers|HSTS")
# Protocols, kinds of ciphers, vulnerabilities, each in no more connections than it takes.
SHORT = ("--fast", "--protocols", "--std", "--vulnerable")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checks", [SHORT, pytest.param((), marks=pytest.mark.slow)], ids=["short", "full"])
def test_testssl_finds_nothing(serve, tmp_path, checks):
    program = installed("testssl")
    authority, report = Authority(tmp_path / "authority"), tmp_path / "report.json"
    options = [*authority.issue("localhost").options, *authority.issue("localhost", kind="rsa").options]
    server = serve("apps.echo:application", *options)
    words = ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", str(report)]
    words += ["--add-ca", str(authority.certificate), *checks, f"localhost:{server.address[1]}"]
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=590, check=False)
    assert report.exists(), done
    found = json.loads(report.read_text())
    told = {entry["id"] for entry in found}
    assert {"TLS1_2", "TLS1_3", "cipherlist_NULL", "heartbleed"} <= told, done.stdout
    assert not [entry for entry in found if entry["severity"] in GRAVE and not ELSEWHERE.match(entry["id"])]
    assert not server.find_records("WARNING|ERROR")
