"""deploy/ and docs/runbook.md: rules, dashboard and runbook agree with each other; promtool checks what Prometheus
reads. `test_metrics_live` compares their metrics with a real scrape."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings

from healthcare.operations.metrics import SQLSTATES, WATCHED_SQLSTATES
from healthcare.tests.prometheus import needs_promtool, promtool
from healthcare.tests.test_docs import anchors

pytestmark = pytest.mark.slow

ROOT = Path(settings.BASE_DIR)
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
RUNBOOK = ROOT / "docs" / "runbook.md"
SELECTOR = re.compile(r"\b(healthcare_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that the server does not give


def alerts() -> dict[str, Any]:
    [group] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def dashboard() -> Any:
    return json.loads((ROOT / "deploy" / "grafana" / "healthcare.json").read_text(encoding="utf-8"))


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def expressions() -> list[str]:
    return [*(rule["expr"] for rule in alerts().values()), *dashboard_expressions()]


def metrics_and_labels(expression: str) -> set[tuple[str, str]]:
    """The pairs of a metric and a label by which an expression selects or groups it; one with an empty label each."""
    found = set()
    grouped = {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",")}
    for metric, matchers in SELECTOR.findall(expression):
        found |= {(metric, label) for label in {"", *MATCHER.findall(matchers), *grouped} - OF_PROMETHEUS}
    return found - {("up", "")}


def test_the_runbook_has_one_heading_for_each_alert_in_the_same_order():
    headings = re.findall(r"^## (Healthcare\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(alerts())


def test_each_alert_names_its_place_in_the_runbook_and_who_looks_at_it():
    for name, rule in alerts().items():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert ROOT / path == RUNBOOK
        assert anchor == name.lower()
        assert anchor in anchors(RUNBOOK)
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith((".", "}}"))


def test_each_alert_is_tested_to_be_silent_and_to_fire():
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())


@needs_promtool
def test_promtool_accepts_the_configuration_and_every_alert():
    printed = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert "SUCCESS: 1 rule files found" in printed
    assert f"SUCCESS: {len(alerts())} rules found" in printed


@needs_promtool
def test_promtool_has_nothing_to_object_to_in_the_alerts():
    printed = promtool("check", "rules", "--lint-fatal", ALERTS)
    assert f"SUCCESS: {len(alerts())} rules found" in printed


@needs_promtool
def test_the_tests_of_the_alerts_pass():
    printed = promtool("test", "rules", PROMETHEUS / "alerts.test.yml")
    assert re.findall("SUCCESS|FAILED", printed) == ["SUCCESS"]


@needs_promtool
def test_promtool_parses_the_expressions_of_the_dashboard(tmp_path: Path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, expression in enumerate(dashboard_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_shows_every_panel_in_its_own_place():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    for panel in panels:
        place = panel["gridPos"]
        assert place["w"] > 0 and place["h"] > 0 and place["x"] + place["w"] <= 24  # noqa: PT018
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["title"] and panel["description"] and panel["targets"]  # noqa: PT018
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in itertools.combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)


def test_each_sqlstate_of_the_alerts_has_a_sample_from_the_start():
    patterns = [pattern for rule in alerts().values() for pattern in re.findall(r'sqlstate=~?"([^"]+)"', rule["expr"])]
    assert patterns
    for pattern in patterns:
        named = re.findall(r"[0-9A-Z]{5}", pattern)  # those that no wildcard stands for
        assert set(named) <= WATCHED_SQLSTATES
        assert any(re.fullmatch(pattern, code) for code in WATCHED_SQLSTATES)
    assert set(SQLSTATES) >= WATCHED_SQLSTATES
