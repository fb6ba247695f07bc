"""The rule on commits: what `make commits` accepts and refuses, and from where on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.scripts import load_script

commits = load_script("commits")
BODY = "A server that reads it differently can be made to see another request."


def findings(message: str, *files: str, is_merge: bool = False) -> list[str]:
    return list(commits.findings(commits.Commit("0", message, files, is_merge)))


@pytest.mark.parametrize(
    "message",
    [
        f"http1: refuse bare CR\n\n{BODY}",
        f"http1, http2: pass long extensions over\n\n{BODY}",
        f"request ids: process them in bounded time\n\n{BODY}",
        f"tests: need no network\n\n{BODY}",
        f"gateway: discuss `environ`: what it has\n\n{BODY}",
        f"h1: {'x' * 68}\n\n{BODY}",
        'Revert "http1: refused bare CR."\n\nThis reverts commit 0.',
    ],
)
def test_accepted(message):
    assert findings(message, "crates/portico-proto/src/lib.rs") == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (f"refuse bare CR\n\n{BODY}", "no scope"),
        (f"http1: refuse bare CR.\n\n{BODY}", "full stop"),
        (f"h1: {'x' * 69}\n\n{BODY}", "73 characters"),
        (f"http1: refused bare CR\n\n{BODY}", "“refused”"),
        (f"http1: refuses bare CR\n\n{BODY}", "“refuses”"),
        (f"http1: refusing bare CR\n\n{BODY}", "“refusing”"),
        (f"http1: a bare CR is refused\n\n{BODY}", "“a”"),
        (f"http1: refuse bare CR\n{BODY}", "not empty"),
        ("http1: refuse bare CR", "no body"),
        ("http1: refuse bare CR\n\nSigned-off-by: Jo <jo@example.org>", "no body"),
    ],
)
def test_refused(message, why):
    (finding,) = findings(message, "crates/portico-proto/src/http1/head.rs")
    assert why in finding


@pytest.mark.parametrize(
    ("name", "needs_body"),
    [
        ("docs/index.md", False),
        ("bench/runs/x/raw.json", False),
        ("Cargo.lock", False),
        ("tests/test_http1.py", True),
        ("Makefile", True),
        (".ci/run", True),
        ("requirements/lint.txt", False),
    ],
)
def test_code_needs_a_body(name, needs_body):
    assert bool(findings("http1: refuse bare CR", name)) is needs_body


def test_merges_are_let_through():
    assert findings("Merge branch 'x'", "a.rs", is_merge=True) == []


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Jo", "-c", "user.email=jo@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "commit", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


def test_counts_from_base_or_last_tag(repository, capsys):
    commit(repository, "Anything went before the rule.")
    base = commit(repository, "This as well.")
    assert commits.main(repository, base) == 0
    commit(repository, "not so here")
    commit(repository, "docs: name the last version")
    assert commits.main(repository, base) == 1
    said = capsys.readouterr()
    assert "2 since " + base[:12] in said.out
    assert "not so here\n    the subject has no scope" in said.err
    git(repository, "tag", "v0.1.0")
    assert commits.main(repository, base) == 0
    commit(repository, "docs: added more")
    assert commits.main(repository, base) == 1
    assert "1 since v0.1.0" in capsys.readouterr().out


def test_says_that_it_checks_nothing_when_shallow(repository, tmp_path, capsys):
    base = commit(repository, "docs: begin")
    commit(repository, "bad")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth=1", repository.as_uri(), str(clone))
    assert commits.main(clone, base) == 0
    said = capsys.readouterr().out
    assert "nothing is checked" in said and "shallow" in said


def test_says_that_it_checks_nothing_without_git(tmp_path, capsys):
    assert commits.main(tmp_path, commits.BASE) == 0
    assert "nothing is checked: this is no git repository" in capsys.readouterr().out
