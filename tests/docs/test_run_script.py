"""What tests/run.py makes of tests that fail beside others."""

from __future__ import annotations

import pytest

from harness.scripts import load
from harness.server import TESTS

run = load("run_tests", TESTS / "run.py")


@pytest.mark.parametrize(
    ("failed", "again", "expected"),
    [
        (["a::b"], run.PASSED, run.PASSED),
        (["a::b", "a::b", "a::c", "a::d"], run.PASSED, run.PASSED),
        (["a::b"], run.FAILED, run.FAILED),
        (["a::a", "a::b", "a::c", "a::d"], run.PASSED, run.FAILED),
        ([], run.PASSED, run.FAILED),
    ],
    ids=["one passes alone", "three and one twice", "it fails again", "too many", "none is named"],
)
def test_failed_tests_are_run_once_more(monkeypatch, tmp_path, capsys, failed, again, expected):
    file = tmp_path / "failed"
    file.write_text("".join(f"{name}\n" for name in failed))
    runs = []

    def run_pytest(*tests: str, failed) -> int:
        runs.append(sorted(tests))
        return again

    monkeypatch.setattr(run, "run_pytest", run_pytest)
    assert run.run_again(file) == expected
    assert runs == ([sorted(set(failed))] if 0 < len(set(failed)) <= run.UNSTEADY_MAX else [])
    said = capsys.readouterr().out
    assert ("Unsteady" in said and all(name in said for name in failed)) == (expected == run.PASSED)
