"""The alerts and what docs/operations.md says of them; the metrics that the dashboard asks for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from metrics_table import rows_in_page

ROOT = Path(__file__).parents[1]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
BOARD = json.loads((ROOT / "deploy" / "grafana" / "cxr-serve.json").read_text())
METRIC = re.compile(r"(?<![:\w])(?:cxr|rpc_server|process)_[a-z_]+\b(?!:)")
LABELS = re.compile(r'\{[^{}]*\}|\b(?:by|on|ignoring|group_left) ?\([^()]*\)|"[^"]*"')


def rules(kind: str) -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"] if kind in rule]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in (*rules("alert"), *rules("record")))
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_the_runbook_link_of_every_alert_leads_to_its_section() -> None:
    alerts = rules("alert")
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert [rule["alert"] for rule in alerts] == headings
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "warning")


def test_every_alert_has_a_unit_test() -> None:
    tests = yaml.safe_load((ROOT / "tests" / "operations" / "rules_test.yml").read_text())["tests"]
    assert [test["name"] for test in tests] == [rule["alert"] for rule in rules("alert")]
    for test in tests:
        asked, *_ = test["promql_expr_test"]
        assert f'alertname="{test["name"]}"' in asked["expr"]
        assert asked["exp_samples"]


def test_dashboard_and_rules_ask_for_metrics_that_are_listed() -> None:
    listed = {row.split("`")[1] for row in rows_in_page()}
    asked = {name for expr in expressions() for name in METRIC.findall(LABELS.sub("", expr))}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert families - listed == set()
    assert len(families) > 30
