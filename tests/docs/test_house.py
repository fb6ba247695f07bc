"""The tests' own rules: names that can be read at once, folders by subject."""

from __future__ import annotations

import ast
import sys

import pytest

from harness.server import TESTS

ROOT = TESTS.parent

NAME_WORDS_MAX = 8
MODULES = sorted(TESTS.rglob("test_*.py"))


def test_names_have_at_most_eight_words():
    names = [
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert not [name for name in names if len(name.removeprefix("test_").split("_")) > NAME_WORDS_MAX]


def test_each_folder_is_in_the_readme():
    text = (TESTS / "README.md").read_text()
    folders = {path.relative_to(TESTS).parts[0] for path in MODULES}
    assert len(folders) > 10
    assert not [folder for folder in folders if f"`{folder}/`" not in text]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its standard library reads no TOML")
def test_checks_compile_every_crate_with_assertions():
    import tomllib

    profiles = tomllib.loads((ROOT / ".ci" / "checks.toml").read_text())["profile"]["ci"]["package"]
    crates = {path.parent.name for path in (ROOT / "crates").glob("*/Cargo.toml")}
    assert len(crates) > 10
    checked = {name for name, profile in profiles.items() if profile.get("strip") == "none"}
    asserting = {name for name, profile in profiles.items() if profile.get("debug-assertions")}
    overflowing = {name for name, profile in profiles.items() if profile.get("overflow-checks")}
    assert checked <= asserting & overflowing
    assert checked == crates
