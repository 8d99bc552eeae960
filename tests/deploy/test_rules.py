"""The rules for Prometheus: each alert is known to fire and to be quiet, and asks only for what is published."""

import json
import re
import runpy
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import _jsonnet
import promql_parser
import pytest
import yaml
from alert_tables import FILES, RULES, Rule, rules, thresholds
from programs import NEWER_RULERS

from exporter.fal import LOCK_ADVICE
from exporter.metrics.catalogue import CATALOGUE, DEFAULT_CHARGE_LABELS
from exporter.settings.parsing import LABELS

Program = Callable[[str, str], str]

ALERTS = tuple(rules("alerts"))
RECORDED = {rule.name: rule.expression for file in ("thresholds", "recording") for rule in rules(file)}
CASES = sorted((RULES / "tests").glob("*.yaml"))
EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
QUICK = {"rulers", "thresholds_missing"}
"""Cases that promtool plays within half a second; the others play hours and days by the minute."""
SHORT = QUICK | {"bookings", "budgets", "credit", "restart"}
"""Cases that take less than ten seconds with every series twice; the others hold as well, and take a minute more."""
TARGET = {"job", "instance"}
SETS = {"and", "or", "unless"}
RUNBOOKS, DASHBOARDS = "https://git.example.com/fal-exporter/docs/alerts", "https://grafana.example.com"
BOARDS = RULES.parent.parent / "grafana" / "dashboards"
PROMTOOLS = {"promtool": "prometheus", "promtool3": NEWER_RULERS}
EACH_PROMTOOL = pytest.mark.parametrize("promtool", PROMTOOLS)
EACH_RULE = pytest.mark.parametrize(
    "rule", [rule for file in FILES for rule in rules(file)], ids=lambda rule: rule.name
)
EACH_ALERT = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.labels['severity']}")


@cache
def written_down() -> list[dict[str, Any]]:
    """Return the tests of every case."""
    return [test for case in CASES for test in yaml.load(case.read_text(encoding="utf-8"), yaml.CSafeLoader)["tests"]]


def run(promtool: str, *arguments: str | Path) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@EACH_PROMTOOL
def test_promtool_finds_nothing_wrong(promtool: str, program: Program) -> None:
    files = [RULES / f"{file}.yaml" for file in FILES]
    run(program(promtool, PROMTOOLS[promtool]), "check", "rules", "--lint=all", "--lint-fatal", *files)


@pytest.mark.parametrize(
    ("case", "promtool"),
    [
        pytest.param(case, promtool, id=f"{case.stem}-{promtool}", marks=() if quick else pytest.mark.long)
        for promtool in PROMTOOLS
        for case in CASES
        for quick in [case.stem in QUICK]
    ],
)
def test_prometheus_does_in_each_case_what_was_written_down_by_hand(
    case: Path, promtool: str, program: Program
) -> None:
    run(program(promtool, PROMTOOLS[promtool]), "test", "rules", case)


@pytest.mark.long
@EACH_CASE
def test_vmalert_does_the_same(case: Path, program: Program, tmp_path: Path) -> None:
    tests = yaml.safe_load(case.read_text(encoding="utf-8"))
    tests["rule_files"] = [str((case.parent / file).resolve()) for file in tests["rule_files"]]
    for test in tests["tests"]:
        if "promql_expr_test" in test:
            test["metricsql_expr_test"] = test.pop("promql_expr_test")
    # As JSON, which has no anchors, and which YAML reads.
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    vmalert = program("vmalert-tool", NEWER_RULERS)
    run(vmalert, "unittest", "--disableAlertgroupLabel", f"--files={tmp_path}/tests.yaml")


SCRAPED = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})?$")
"""A series as a case writes it that comes from a target, and not from a recording rule, whose names have colons."""


def twice(series: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a scraped series as two Prometheus keep it that watch the same targets, each in a cluster of its own."""
    found = SCRAPED.match(series["series"])
    if found is None:
        return [dict(series)]
    labels = f"{found['labels']}, " if found["labels"] else ""
    added = [f'cluster="eu-{number}", prometheus_replica="{number}", namespace="monitoring"' for number in (1, 2)]
    return [{**series, "series": f"{found['name']}{{{labels}{further}}}"} for further in added]


@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if case.stem in SHORT], ids=lambda case: case.stem)
def test_two_prometheus_with_labels_of_their_own_change_nothing_in_any_case(
    case: Path, program: Program, tmp_path: Path
) -> None:
    tests = yaml.safe_load(case.read_text(encoding="utf-8"))
    tests["rule_files"] = [str((case.parent / file).resolve()) for file in tests["rule_files"]]
    for test in tests["tests"]:
        test["input_series"] = [copy for series in test["input_series"] for copy in twice(series)]
        # What is recorded may carry the labels; what is alerted may not.
        test.pop("promql_expr_test", None)
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    run(program("promtool", PROMTOOLS["promtool"]), "test", "rules", tmp_path / "tests.yaml")


@EACH_ALERT
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_quiet(alert: Rule) -> None:
    judged = [
        item["exp_alerts"]
        for test in written_down()
        for item in test.get("alert_rule_test", ())
        if item["alertname"] == alert.name
    ]
    severities = [{item["exp_labels"]["severity"] for item in expected} for expected in judged]
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
            labels = aggregated(node)
        case promql_parser.BinaryExpr():
            labels = joined(node)
        case promql_parser.Call():
            labels = labels.union(*map(labels_of, node.args))
            if node.func.name == "absent":
                labels = set()
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            labels = labels_of(node.expr)
    return labels


def aggregated(node: promql_parser.AggregateExpr) -> set[str]:
    inner = labels_of(node.expr)
    if node.modifier is None:
        return inner if str(node.op) == "topk" else set()
    named = set(node.modifier.labels)
    if node.modifier.type == promql_parser.AggModifierType.Without:
        assert named <= inner | set(LABELS), f"{node.prettify()} leaves out labels that are never there"
        return inner - named
    assert named <= inner, f"{node.prettify()} groups by labels that are not there"
    return named


def joined(node: promql_parser.BinaryExpr) -> set[str]:
    """Return the labels of an operation on two vectors, which must find each other."""
    left, right, operator = labels_of(node.lhs), labels_of(node.rhs), str(node.op)
    matching = node.modifier.matching if node.modifier else None
    if not left or not right:
        return left if operator in {"and", "unless"} else left | right
    if matching is None:
        assert operator == "or" or left == right, f"{node.prettify()} compares {left} with {right}"
        return left | right
    named, is_on = set(matching.labels), matching.type == promql_parser.LabelModifierType.Include
    if is_on:
        assert named <= left & right, f"{node.prettify()} matches on labels of one side only"
    else:
        assert named <= left | right, f"{node.prettify()} ignores labels that are not there"
        assert left - named == right - named, f"{node.prettify()} compares {left} with {right}"
    if operator in SETS:
        return left | right if operator == "or" else left
    match node.modifier.card:
        case promql_parser.VectorMatchCardinality.ManyToOne:
            return left | set(node.modifier.group_labels or ())
        case promql_parser.VectorMatchCardinality.OneToMany:
            return right | set(node.modifier.group_labels or ())
    return named if is_on else left - named


def selected(selector: promql_parser.VectorSelector) -> set[str]:
    asked = {matcher.name for matcher in selector.matchers.matchers}
    name = selector.name or ""
    if name in CATALOGUE:
        labels = set(CATALOGUE[name].labels_with(DEFAULT_CHARGE_LABELS)) | TARGET
    elif name.startswith("fal:threshold_") and name in RECORDED:
        labels = {"account"}
    elif name in RECORDED:
        labels = recorded(name)
    elif name == "ALERTS_FOR_STATE":
        labels = asked
    else:
        assert name == "up" or asked == {"__name__"}, f"nobody publishes {name}"
        labels = TARGET | {"__name__"}
    assert asked <= labels, f"{selector.prettify()} asks for labels that {name} does not have"
    return labels


@cache
def recorded(name: str) -> set[str]:
    return labels_of(promql_parser.parse(RECORDED[name]))


@EACH_RULE
def test_every_metric_and_label_that_a_rule_uses_is_published(rule: Rule) -> None:
    found = labels_of(promql_parser.parse(rule.expression))
    text = " ".join(rule.annotations.values())
    asked = re.findall(r'(?:printf|with)\s+`([^`]+)`|query\s+"([^"]+)"', text)
    assert len(asked) == len(re.findall(r"\bquery\b", text))
    for query in ("".join(alternatives) for alternatives in asked):
        answer = labels_of(promql_parser.parse(query.replace("%q", '"x"')))
        known = {"alertname", "severity"} | found if query.startswith("min(ALERTS_FOR_STATE") else found | answer
        assert set(re.findall(r"(\w+)=%q", query)) <= known, query
        found |= answer
    assert set(re.findall(r"\.Labels\.(\w+)", text)) <= found


@EACH_ALERT
def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(alert: Rule) -> None:
    assert re.fullmatch(r"Fal[A-Z]\w+", alert.name)
    assert alert.labels["severity"] in {"critical", "warning", "info"}
    assert set(alert.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert alert.annotations["summary"].endswith(".")
    assert alert.annotations["description"].endswith(".")


@EACH_ALERT
def test_every_amount_reads_as_people_write_it(alert: Rule) -> None:
    text = f"{alert.annotations['summary']} {alert.annotations['description']}"
    assert "USD" not in text
    # Amounts have two digits, prices nine before their zeros are cut off: what follows makes a comma and a $ of it.
    for number in re.findall(r'printf "%\.[29]f"(.*?)\}\}', text):
        assert number.endswith(("| reReplaceAll `^-?` `$0$$` ", "| reReplaceAll `^-?` `$$` "))


@EACH_ALERT
def test_every_duration_reads_as_people_say_it(alert: Rule) -> None:
    text = f"{alert.annotations['summary']} {alert.annotations['description']}"
    # Prometheus writes 2d 20h 46m 57s: what follows makes 2 days 20 hours of it.
    assert all("second" in said for said in re.findall(r"humanizeDuration(.*?)\}\}", text))


@EACH_ALERT
def test_every_alert_leads_to_its_page_and_to_a_dashboard_with_its_account_and_time(
    alert: Rule, repository: Path
) -> None:
    assert alert.annotations["runbook_url"] == f"{RUNBOOKS}/{alert.name}.md"
    assert (repository / "docs" / "alerts" / f"{alert.name}.md").is_file()

    url = alert.annotations["dashboard_url"]
    assert url.startswith(f"{DASHBOARDS}/d/")
    # Templates are replaced by what they may come to.
    plain = urlsplit(re.sub(r"\{\{.*?\}\}", "1", url))
    board = json.loads((BOARDS / f"{plain.path.removeprefix('/d/')}.json").read_text(encoding="utf-8"))
    assert board["uid"] == plain.path.removeprefix("/d/")
    given = parse_qs(plain.query)
    assert {"from", "to"} <= given.keys()
    variables = {f"var-{variable['name']}" for variable in board["templating"]["list"]}
    assert given.keys() - {"from", "to"} <= variables
    assert ("var-account" in given) == ("account" in labels_of(promql_parser.parse(alert.expression)))


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


GENERATOR = runpy.run_path(str(RULES / "generate.py"))


def test_what_is_generated_is_up_to_date() -> None:
    wrong = "out of date: run python deploy/prometheus/generate.py"
    alerts = GENERATOR["alerts"]()
    assert alerts == (RULES / "alerts.yaml").read_text(encoding="utf-8"), wrong
    made = GENERATOR["prometheus_rules"](alerts)
    assert made == (RULES / "prometheusrule.yaml").read_text(encoding="utf-8"), wrong
    groups = [made["spec"] for made in yaml.safe_load_all(made)]
    assert groups == [yaml.safe_load((RULES / f"{file}.yaml").read_text(encoding="utf-8")) for file in FILES]


def test_nothing_of_the_generators_own_language_is_left_and_links_lead_where_one_says() -> None:
    (group,) = yaml.safe_load(GENERATOR["alerts"]("https://wiki.example/fal/", "https://g.example/grafana/"))["groups"]
    text = json.dumps(group)
    assert not re.search(r"\| (usd|price|utc)\b|\{\{ (since|of_account|spent_of_limit|mostly)|growth\(", text)
    for rule in group["rules"]:
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/fal/{rule['alert']}.md"
        assert rule["annotations"]["dashboard_url"].startswith("https://g.example/grafana/d/fal-")


def groups_of(file: str) -> list[dict[str, list[dict[str, object]]]]:
    groups: list[dict[str, list[dict[str, object]]]] = yaml.safe_load(
        (RULES / f"{file}.yaml").read_text(encoding="utf-8")
    )["groups"]
    return groups


def mixin(configuration: str = "{}") -> dict[str, dict[str, list[dict[str, list[dict[str, object]]]]]]:
    made: dict[str, dict[str, list[dict[str, list[dict[str, object]]]]]] = json.loads(
        _jsonnet.evaluate_snippet(
            "mixin",
            f"local it = (import '{RULES}/mixin.libsonnet') + {{ _config+:: {configuration} }};"
            "{ rules: it.prometheusRules, alerts: it.prometheusAlerts, dashboards: it.grafanaDashboards }",
        )
    )
    return made


def test_the_mixin_is_the_rules_and_the_dashboards() -> None:
    made = mixin()
    assert made["rules"] == {"groups": groups_of("thresholds") + groups_of("recording")}
    assert made["alerts"] == {"groups": groups_of("alerts")}
    boards = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in BOARDS.glob("*.json")}
    assert made["dashboards"] == boards


def test_the_mixin_takes_thresholds_labels_and_addresses() -> None:
    made = mixin(
        "{ runbookBase: 'https://wiki.example/fal', dashboardBase: 'https://g.example', disabled: ['FalSpendUnusual'],"
        " alertLabels: { team: 'ml' }, thresholds: { spend_hourly_usd: 2000 },"
        " accountThresholds: { studio: { spend_hourly_usd: 0.5 } } }"
    )
    (thresholds, _), (alerts,) = made["rules"]["groups"], made["alerts"]["groups"]
    changed = [rule for rule in thresholds["rules"] if rule not in groups_of("thresholds")[0]["rules"]]
    assert changed == [
        {"record": "fal:threshold_spend_hourly_usd", "expr": "vector(2000)"},
        {"record": "fal:threshold_spend_hourly_usd", "expr": "vector(0.5)", "labels": {"account": "studio"}},
    ]
    expected = GENERATOR["alerts"]("https://wiki.example/fal", "https://g.example")
    rules = [rule for rule in yaml.safe_load(expected)["groups"][0]["rules"] if rule["alert"] != "FalSpendUnusual"]
    for rule in rules:
        rule["labels"]["team"] = "ml"
    assert alerts["rules"] == rules
    with pytest.raises(RuntimeError, match=r"thresholds\.yaml has no threshold spend_hourly"):
        mixin("{ accountThresholds: { studio: { spend_hourly: 2000 } } }")


def test_the_advice_on_a_lock_is_the_exporters() -> None:
    assert GENERATOR["LOCK_ADVICE"] | {"unknown": GENERATOR["OTHER_ADVICE"]} == LOCK_ADVICE
