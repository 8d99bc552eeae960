"""The rules for Prometheus: each alert is known to fire and to be quiet, and asks only for what is published."""

import re
import runpy
import subprocess
from collections.abc import Callable
from pathlib import Path

import promql_parser
import pytest
import yaml
from alert_tables import FILES, RULES, Rule, rules, thresholds

from exporter.metrics.catalogue import CATALOGUE, DEFAULT_CHARGE_LABELS

Program = Callable[[str, str], str]

ALERTS = tuple(rules("alerts"))
RECORDED = {rule.name for file in ("thresholds", "recording") for rule in rules(file)}
CASES = sorted((RULES / "tests").glob("*.yaml"))
TARGET = {"job", "instance"}
EACH_RULE = pytest.mark.parametrize(
    "rule", [rule for file in FILES for rule in rules(file)], ids=lambda rule: rule.name
)
EACH_ALERT = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.labels['severity']}")


def run(promtool: str, *arguments: str | Path) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong(program: Program) -> None:
    files = [RULES / f"{file}.yaml" for file in FILES]
    run(program("promtool", "prometheus"), "check", "rules", "--lint=all", "--lint-fatal", *files)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_rules_do_in_each_case_what_was_written_down_by_hand(case: Path, program: Program) -> None:
    run(program("promtool", "prometheus"), "test", "rules", case)


@EACH_ALERT
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet(alert: Rule) -> None:
    tests = [test for case in CASES for test in yaml.safe_load(case.read_text(encoding="utf-8"))["tests"]]
    judged = [
        it["exp_alerts"] for test in tests for it in test.get("alert_rule_test", ()) if it["alertname"] == alert.name
    ]
    severities = [{it["exp_labels"]["severity"] for it in expected} for expected in judged]
    assert any(alert.labels["severity"] in firing for firing in severities)
    assert any(alert.labels["severity"] not in firing for firing in severities)


def labels_of(node: promql_parser.Expr | None) -> set[str]:
    """Return every label that a result can have; fail on a metric or label that nobody publishes."""
    labels = set[str]()
    match node:
        case promql_parser.VectorSelector():
            labels = selected(node)
        case promql_parser.MatrixSelector():
            labels = selected(node.vector_selector)
        case promql_parser.AggregateExpr():
            inner = labels_of(node.expr)
            labels = set(node.modifier.labels) if node.modifier else inner if str(node.op) == "topk" else set()
            assert labels <= inner, f"{node.prettify()} groups by labels that are not there"
        case promql_parser.BinaryExpr():
            left, right = labels_of(node.lhs), labels_of(node.rhs)
            matching = node.modifier.matching if node.modifier else None
            if matching is not None:
                assert set(matching.labels) <= left & right, f"{node.prettify()} matches on labels of one side only"
            labels = left | right if str(node.op) == "or" else left or right
        case promql_parser.Call():
            labels = labels.union(*map(labels_of, node.args))
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            labels = labels_of(node.expr)
    return labels


def selected(selector: promql_parser.VectorSelector) -> set[str]:
    asked = {matcher.name for matcher in selector.matchers.matchers}
    name = selector.name or ""
    if name in CATALOGUE:
        labels = set(CATALOGUE[name].labels_with(DEFAULT_CHARGE_LABELS)) | TARGET
    elif name in RECORDED:
        labels = {"account"}
    else:
        assert name == "up" or asked == {"__name__"}, f"nobody publishes {name}"
        labels = TARGET | {"__name__"}
    assert asked <= labels, f"{selector.prettify()} asks for labels that {name} does not have"
    return labels


@EACH_RULE
def test_every_metric_and_label_that_a_rule_uses_is_published(rule: Rule) -> None:
    found = labels_of(promql_parser.parse(rule.expression))
    text = " ".join(rule.annotations.values())
    for query in re.findall(r'printf\s+"([^"]*%q[^"]*)"', text):
        found |= labels_of(promql_parser.parse(query.replace("%q", '"x"')))
    assert set(re.findall(r"\.Labels\.(\w+)", text)) <= found


@EACH_ALERT
def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(alert: Rule) -> None:
    assert re.fullmatch(r"Fal[A-Z]\w+", alert.name)
    assert alert.labels["severity"] in {"critical", "warning", "info"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert alert.annotations["summary"].endswith(".")
    assert alert.annotations["description"].endswith(".")
    assert alert.annotations["runbook_url"] == f"README.md#{alert.name.lower()}"


@EACH_ALERT
def test_every_alert_has_a_runbook_in_the_readme(alert: Rule, repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    runbook = re.search(rf"^#+ {alert.name}\n\n(.+?)\n\n", text, flags=re.MULTILINE | re.DOTALL)
    assert runbook is not None, f"README.md has no heading {alert.name} with a paragraph below it"


def test_every_threshold_is_explained_used_and_missed_when_it_is_not_there() -> None:
    known = list(thresholds())
    assert len(known) == len(list(rules("thresholds")))
    expressions = {rule.name: rule.expression for file in ("recording", "alerts") for rule in rules(file)}
    for threshold in known:
        user = re.split(r"[:,]", threshold.meaning)[0]
        by_account = f"account:fal_threshold_{threshold.name}"
        asked = by_account if by_account in expressions else f"fal:threshold_{threshold.name}"
        assert any(asked in alert.expression for alert in ALERTS if alert.name == user), threshold
        assert "account:" not in asked or f"fal:threshold_{threshold.name}{{" in expressions[asked]
    assert f'"fal:threshold_.+"}})) < {len(known)}\n' in expressions["FalThresholdsMissing"]


@pytest.mark.parametrize(
    ("silences", "silenced"),
    [("FalSpendAboveHourlyLimit", "FalSpendUnusual"), ("FalBudgetExceeded", "FalBudgetThresholdReached")],
)
def test_an_alert_outlasts_the_one_that_it_silences_where_both_end_at_once(silences: str, silenced: str) -> None:
    (group,) = yaml.safe_load((RULES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    minutes = {
        rule["alert"]: int(rule["keep_firing_for"].removesuffix("m"))
        for rule in group["rules"]
        if rule["alert"] in {silences, silenced}
    }
    assert minutes[silences] > minutes[silenced]


def test_the_objects_for_the_operator_are_made_from_the_rule_files() -> None:
    made = runpy.run_path(str(RULES / "prometheusrule.py"))["prometheus_rules"]()
    wrong = "prometheusrule.yaml is out of date: run python deploy/prometheus/prometheusrule.py"
    assert made == (RULES / "prometheusrule.yaml").read_text(encoding="utf-8"), wrong
    groups = [made["spec"] for made in yaml.safe_load_all(made)]
    assert groups == [yaml.safe_load((RULES / f"{file}.yaml").read_text(encoding="utf-8")) for file in FILES]
