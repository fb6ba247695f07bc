"""The dashboard and the alerts of deploy/: valid, and of metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess

from harness.peers import DEPLOY
from harness.programs import installed
from harness.server import TESTS

RULES = DEPLOY / "prometheus" / "portico.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "portico.json"
REFERENCE = TESTS.parent / "docs" / "reference" / "metrics.md"
NAME = re.compile(r"\b(?:portico|http_server)_[a-z0-9_]+")


def documented() -> dict[str, set[str]]:
    """Each metric of the reference, which is made of the table, with its labels."""
    names: dict[str, set[str]] = {}
    labels: set[str] = set()
    for line in REFERENCE.read_text().splitlines():
        if heading := re.fullmatch(r"### `(.*)`", line):
            labels = names.setdefault(heading[1], set())
        elif label := re.match(r"\* Label `(\w+)`", line):
            labels.add(label[1])
    return names


def exposed() -> dict[str, set[str]]:
    """The same by the names of samples."""
    samples = {}
    for name, labels in documented().items():
        samples[name] = labels
        for suffix, more in (("_bucket", {"le"}), ("_count", set()), ("_sum", set())):
            samples[name + suffix] = labels | more
    return samples


def expressions() -> dict[str, str]:
    """Every expression of the dashboard and of the rules, by where it is."""
    found = {f"rules, line {number}": line for number, line in enumerate(rule_lines(), 1)}
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    for variable in dashboard["templating"]["list"]:
        found[variable["name"]] = variable["query"]
    for annotation in dashboard["annotations"]["list"]:
        found[annotation["name"]] = annotation["expr"]
    return found


def rule_lines() -> list[str]:
    """The lines of the rules, without their comments."""
    return [line for line in RULES.read_text().splitlines() if not line.lstrip().startswith("#")]


def test_promtool_takes_the_rules():
    promtool = installed("promtool")
    checked = subprocess.run(
        [promtool, "check", "rules", str(RULES)], check=False, capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS" in checked.stdout


def test_every_named_metric_is_in_the_table():
    samples, named = exposed(), set()
    for where, expression in expressions().items():
        for name in NAME.findall(expression):
            assert name in samples, f"{where}: {name}"
            named.add(name)
    # A name that nobody finds would make this test say yes to everything.
    assert len(named) > 25, named


def test_every_named_label_is_of_its_metric():
    samples, asked = exposed(), 0
    for where, expression in expressions().items():
        for name, selector in re.findall(r"\b((?:portico|http_server)_[a-z0-9_]+)\{([^}]*)\}", expression):
            for label in re.findall(r"(\w+)\s*=?[=~!]", selector):
                # Prometheus adds these two itself.
                assert label in samples[name] | {"job", "instance"}, f"{where}: {name}: {label}"
                asked += 1
    assert asked > 50


def test_the_dashboard_has_room_for_each_panel():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for index, one in enumerate(places):
        assert one["x"] + one["w"] <= 24
        for other in places[:index]:
            apart = (
                one["x"] >= other["x"] + other["w"]
                or other["x"] >= one["x"] + one["w"]
                or one["y"] >= other["y"] + other["h"]
                or other["y"] >= one["y"] + one["h"]
            )
            assert apart, f"{one} lies upon {other}"
