"""The shipped dashboards: what the code generates, in Grafana's schema, asking only for what exists."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import promql_parser
import pytest
import yaml
from grafana.shipped import (
    DOCUMENTS,
    DOCUMENTS_V2,
    REPOSITORY,
    Asked,
    Dashboard,
    Json,
    asked_by,
    dashboards,
    objects,
    resolved,
    text,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard as Schema
from grafana_foundation_sdk.models.dashboardv2beta1 import Dashboard as SchemaV2

from exporter.fal import REASONS
from exporter.metrics.catalogue import CATALOGUE, RENAMED
from exporter.polling.poll_runner import OWN_REASONS
from exporter.settings.parsing import LABELS

UIDS = [
    "fal-exporter-health",
    "fal-gpu-time",
    "fal-invoices",
    "fal-models-and-prices",
    "fal-month",
    "fal-requests",
    "fal-spend",
]

OF_THE_PROCESSES = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "fal_exporter_collector_process_cpu_seconds_total",
    "fal_exporter_collector_process_resident_memory_bytes",
}
"""prometheus_client's own families, which the catalogue does not list."""

OF_PROMETHEUS = {"scrape_duration_seconds", "scrape_samples_scraped"}
"""Metrics that Prometheus itself adds to every scrape."""

OF_ALERTS = {"alertname", "alertstate", "severity", "account", "budget"}
"""Labels of the series ALERTS that a firing alert of the shipped rules has."""

RECORDED = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "thresholds.yaml").read_text(encoding="utf-8"))
THRESHOLDS = {rule["record"] for group in RECORDED["groups"] for rule in group["rules"]}

OF_EVERY_SERIES = {"job", "instance"}
MADE_IN_QUERIES = {
    "name",
    "edge",
    "ranked",
    "moved",
    "tag",
    "title",
    "finding",
    "about",
    "amounts",
    "second",
    "between",
    "runbook",
    "says",
    "lower",
    "began",
    "exported_job",
}
"""Labels that label_replace, label_join and count_values make, and the name that Prometheus gives a label `job`."""


def all_queries() -> list[Asked]:
    return [asked for dashboard in dashboards() for asked in asked_by(dashboard)]


def labels_of(metric: str) -> set[str]:
    if metric in OF_THE_PROCESSES | OF_PROMETHEUS:
        return set(OF_EVERY_SERIES)
    if metric == "ALERTS":
        return OF_ALERTS
    if metric in THRESHOLDS:
        return {"account"}
    if metric == "fal:exporter_outdated":
        return set(OF_EVERY_SERIES)
    assert metric not in RENAMED, f"{metric} ends with the next version: use {RENAMED[metric]}"
    histogram = re.sub("_(bucket|sum|count)$", "", metric)
    histogram = histogram if CATALOGUE.get(histogram) and CATALOGUE[histogram].kind == "histogram" else metric
    family = CATALOGUE[histogram]
    assert (family.kind == "histogram") == (histogram != metric)
    return {*family.labels_with(LABELS), *OF_EVERY_SERIES, *({"le"} if metric.endswith("_bucket") else ())}


def parts_of(expression: promql_parser.Expr) -> Iterator[promql_parser.Expr]:
    yield expression
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        part = getattr(expression, name, None)
        if part is not None:
            yield from parts_of(part)
    for part in getattr(expression, "args", ()):
        yield from parts_of(part)


VARIABLES = dict.fromkeys(("account", "team", "product", "model", "app", "gpu_class"), ".*") | {
    "by": "product",
    "ranked": "model",
    "tag": ".*",
    "moved": "team",
}


def problems_of(expression: str) -> list[str]:
    """Return every metric and label of a query that no exporter publishes."""
    query = resolved(expression, VARIABLES, start=1_795_000_000, end=1_795_300_000)
    query = query.removeprefix("query_result(").removesuffix(")") if query.startswith("query_result(") else query
    if query.startswith("label_values("):
        query, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        query = f"sum by ({label}) ({query})"
    found: list[str] = []
    known = set(MADE_IN_QUERIES)
    parts = list(parts_of(promql_parser.parse(query)))
    for part in parts:
        if isinstance(part, promql_parser.VectorSelector):
            try:
                labels = labels_of(part.name or "")
            except KeyError:
                found.append(f"no metric {part.name}")
                continue
            known |= labels
            found += [
                f"no label {matcher.name} of {part.name}"
                for matcher in part.matchers.matchers
                if matcher.name not in labels
            ]
    for part in parts:
        modifier = getattr(part, "modifier", None)
        grouped = getattr(modifier, "labels", None) or []
        matching = getattr(modifier, "matching", None)
        joined = matching.labels if matching is not None else []
        found += [f"no label {label}" for label in (*grouped, *joined) if label not in known]
    return found


@pytest.mark.parametrize("seed_of_hashes", ["1", "2"])
def test_the_committed_files_are_what_the_code_generates(seed_of_hashes: str) -> None:
    code = (
        "import json, generate;"
        "print(json.dumps({f'{path.parent.name}/{path.name}': text for path, text in generate.documents()}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=REPOSITORY / "grafana",
        env=os.environ | {"PYTHONHASHSEED": seed_of_hashes},
        capture_output=True,
        check=True,
    )
    committed = {
        f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8") for path in (*DOCUMENTS, *DOCUMENTS_V2)
    }
    assert json.loads(done.stdout) == committed, "run: python grafana/generate.py"


def test_the_uids_are_the_ones_that_links_and_bookmarks_know() -> None:
    assert [dashboard.uid for dashboard in dashboards()] == UIDS
    assert [path.stem for path in DOCUMENTS] == UIDS
    assert [path.stem for path in DOCUMENTS_V2] == UIDS


@pytest.fixture(params=dashboards(), ids=lambda dashboard: dashboard.uid)
def dashboard(request: pytest.FixtureRequest) -> Dashboard:
    found = request.param
    assert isinstance(found, Dashboard)
    return found


def test_the_schema_of_grafana_knows_everything(dashboard: Dashboard) -> None:
    classic = {name: value for name, value in dashboard.document.items() if not name.startswith("__")}
    read = Schema.from_json(json.loads(json.dumps(classic)))
    again = json.loads(JSONEncoder().encode(read))
    for placed in (*again["links"], *again["annotations"]["list"]):
        # The SDK adds the one placement that it knows; the generated files leave it out.
        placed.pop("placement", None)
    assert again == classic


def test_it_says_what_grafana_com_asks(dashboard: Dashboard) -> None:
    assert (dashboard.document["__inputs"], dashboard.document["__elements"]) == ([], {})
    needed = objects(dashboard.document["__requires"])
    assert {text(item, "id") for item in needed if item["type"] == "panel"} == {
        text(panel, "type") for panel in dashboard.panels
    }
    assert [text(item, "id") for item in needed if item["type"] != "panel"] == ["grafana", "prometheus"]


class EncoderOfSets(JSONEncoder):
    """Encoder for an oddity of the SDK: it reads a panel's type and version as sets of one."""

    def default(self, obj: object) -> object:
        if isinstance(obj, set):
            (value,) = obj
            return value
        return super().default(obj)


@pytest.mark.parametrize("path", DOCUMENTS_V2, ids=lambda path: path.stem)
def test_the_schema_v2_of_grafana_knows_everything(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    read = SchemaV2.from_json(json.loads(json.dumps(document["spec"])))
    assert json.loads(EncoderOfSets().encode(read)) == document["spec"]
    assert document["metadata"] == {"name": path.stem}


@pytest.mark.parametrize(("classic", "second"), [*zip(DOCUMENTS, DOCUMENTS_V2, strict=True)], ids=UIDS)
def test_both_forms_ask_the_same(classic: Path, second: Path) -> None:
    spec = json.loads(second.read_text(encoding="utf-8"))["spec"]
    queries = {
        (element["spec"]["title"], query["spec"]["refId"]): query["spec"]["query"]["spec"]["expr"]
        for element in spec["elements"].values()
        for query in element["spec"]["data"]["spec"]["queries"]
    }
    dashboard = Dashboard(json.loads(classic.read_text(encoding="utf-8")))
    assert queries == {
        (text(panel, "title"), text(target, "refId")): text(target, "expr")
        for panel in dashboard.panels
        for target in objects(panel.get("targets"))
    }
    assert [variable["spec"]["name"] for variable in spec["variables"]] == [
        variable["name"] for variable in dashboard.variables
    ]
    layout = spec["layout"]["spec"]
    grids = [row["spec"]["layout"]["spec"] for row in layout["rows"]] if "rows" in layout else [layout]
    items = [item["spec"] for grid in grids for item in grid["items"]]
    assert sorted(item["element"]["name"] for item in items) == sorted(spec["elements"])


def test_panels_have_ids_of_their_own(dashboard: Dashboard) -> None:
    ids = [panel["id"] for panel in dashboard.placed]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(item, int) and item > 0 for item in ids)


def test_panels_do_not_overlap_and_stay_on_the_grid(dashboard: Dashboard) -> None:
    places = []
    for panel in dashboard.placed:
        place = panel["gridPos"]
        assert isinstance(place, dict)
        places.append((int(place["x"]), int(place["y"]), int(place["w"]), int(place["h"])))
    assert all(w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= 24 for x, y, w, h in places)
    for (x, y, w, h), (left, top, width, height) in combinations(places, 2):
        assert x + w <= left or left + width <= x or y + h <= top or top + height <= y


def test_every_panel_says_what_its_numbers_mean(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        assert len(text(panel, "description")) > 40, panel["title"]


def test_no_data_source_is_fixed(dashboard: Dashboard) -> None:
    def sources(found: object) -> Iterator[object]:
        if isinstance(found, dict):
            if "datasource" in found:
                yield found["datasource"]
            for part in found.values():
                yield from sources(part)
        elif isinstance(found, list):
            for part in found:
                yield from sources(part)

    named = list(sources(dashboard.document))
    assert len(named) >= len(dashboard.panels)
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in named)
    assert next(variable["name"] for variable in dashboard.variables) == "datasource"


def test_links_keep_the_time_range_and_the_variables(dashboard: Dashboard) -> None:
    (link,) = objects(dashboard.document["links"])
    assert (link["keepTime"], link["includeVars"]) == (True, True)
    assert link["tags"] == dashboard.document["tags"]
    for linked in data_links(dashboard.document):
        path, _, query = linked.partition("?")
        assert path.removeprefix("/d/") in UIDS
        assert "${__url_time_range}" in query
        assert "${datasource:queryparam}" in query


RUNBOOKS = "https://git.example.com/fal-exporter/docs/alerts"


def test_every_finding_of_the_banner_leads_to_a_page() -> None:
    pages = {
        page
        for asked in all_queries()
        if asked.title == "State"
        for page in re.findall(r'"runbook", "([^"$]+)"', asked.expression)
    }
    assert len(pages) >= 15
    for page in pages:
        assert (REPOSITORY / "docs" / "alerts" / page.partition("#")[0]).is_file(), page


def test_every_alert_has_words_in_the_banner() -> None:
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    for dashboard in dashboards():
        for panel in dashboard.panels:
            if panel["title"] == "State":
                document = json.dumps(panel["fieldConfig"])
                assert {alert for alert in alerts if f'"{alert}"' not in document} == set()
                # A line of fal / Month: rows do not grow with what a value is mapped to.
                sentences = re.findall(r'"text": "([^"]*)"', document)
                assert len(sentences) > len(alerts)
                assert [sentence for sentence in sentences if len(sentence) > 66] == []


def test_every_reason_of_a_failure_says_what_to_do() -> None:
    (table,) = (
        panel
        for dashboard in dashboards()
        for panel in dashboard.panels
        if panel["title"] == "What fails now, and what to do"
    )
    config = table["fieldConfig"]
    assert isinstance(config, dict)
    (words,) = (
        item["value"]
        for override in config["overrides"]
        if override["matcher"]["options"] == "What to do"
        for item in override["properties"]
        if item["id"] == "mappings"
    )
    assert set(words[0]["options"]) == {*REASONS, *OWN_REASONS, "unknown"}


def test_runbooks_can_be_elsewhere() -> None:
    code = "import generate; print(''.join(text for _, text in generate.documents('https://wiki.example.org/fal')))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        cwd=REPOSITORY / "grafana",
        capture_output=True,
        check=True,
    )
    assert RUNBOOKS.encode() not in done.stdout
    assert b"https://wiki.example.org/fal" in done.stdout


def data_links(found: object) -> Iterator[str]:
    if isinstance(found, dict):
        if str(found.get("url", "")).startswith("/d/"):
            yield str(found["url"])
        for part in found.values():
            yield from data_links(part)
    elif isinstance(found, list):
        for part in found:
            yield from data_links(part)


def test_it_begins_with_the_month_in_the_time_of_the_browser(dashboard: Dashboard) -> None:
    start = "now-24h" if dashboard.uid == "fal-exporter-health" else "now/M"
    assert dashboard.document["time"] == {"from": start, "to": "now"}
    assert dashboard.document["timezone"] == "browser"


def test_an_empty_prometheus_is_no_error(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        if panel["type"] == "text":
            continue
        config = panel["fieldConfig"]
        assert isinstance(config, dict)
        assert text(config["defaults"], "noValue"), panel["title"]


A4_HEIGHT = (297 - 2 * 6.35) / 25.4 * 96 / 0.5
"""Pixels of a page that is upright and printed at 50 % of the size, as docs/dashboards.md says, within 6.35 mm."""

HEADER, UNIT, GAP = 96, 30, 8
"""Height of what is above the panels, and of a unit of the grid and the gap below it, in pixels."""


def test_the_month_fits_one_printed_page_with_a_table_of_each_label() -> None:
    (month,) = (dashboard for dashboard in dashboards() if dashboard.uid == "fal-month")
    (ranked,) = (variable for variable in month.variables if variable["name"] == "ranked")
    tables = len(set(re.findall(r'"ranked", "(\w+)"', text(ranked, "definition"))))
    height = 0
    for panel in month.panels:
        place, per_row = panel["gridPos"], panel.get("maxPerRow", 1)
        assert isinstance(place, dict)
        assert isinstance(per_row, int)
        rows = -(-tables // per_row) if panel.get("repeat") else 1
        height = max(height, place["y"] + rows * place["h"])
    assert tables == 6
    assert HEADER + height * (UNIT + GAP) <= A4_HEIGHT


def test_a_column_of_dollars_has_room_for_hundreds_of_thousands(dashboard: Dashboard) -> None:
    narrow = []
    for panel in dashboard.panels:
        config = panel["fieldConfig"] if panel["type"] == "table" else {"overrides": []}
        assert isinstance(config, dict)
        for override in config["overrides"]:
            has = {item["id"]: item["value"] for item in override["properties"]}
            # Without room Grafana cuts the first digits off.
            if has.get("unit") in MONEY and has.get("decimals") == 2 and has.get("custom.width", 999) < 96:
                narrow.append((panel["title"], override["matcher"]["options"]))
    assert narrow == []


MONEY = {"currency:financial:$", "currency:financial: "}

MAY_BE_NEGATIVE = re.compile("fal_spend_month_change_usd|fal_focus_billed_usd")


def test_what_may_be_below_zero_is_not_written_with_the_sign_behind_the_dollar() -> None:
    # Of -18249.89 this unit makes $-18,249.89.
    for dashboard in dashboards():
        for panel in dashboard.panels:
            if MAY_BE_NEGATIVE.search(json.dumps(panel.get("targets", []))):
                assert '"currency:financial:$"' not in json.dumps(panel["fieldConfig"]), panel["title"]


def test_queries_ask_only_for_what_is_published() -> None:
    problems = {str(asked): found for asked in all_queries() if (found := problems_of(asked.expression))}
    assert problems == {}


def merged(expression: str) -> set[str]:
    """Return the labels over which a query takes the largest of what it then adds up: it would lose the others."""
    query = resolved(expression, VARIABLES, start=1_795_000_000, end=1_795_300_000)
    lost: set[str] = set()
    for part in parts_of(promql_parser.parse(query)):
        largest = getattr(part, "expr", None)
        if isinstance(part, promql_parser.AggregateExpr) and isinstance(largest, promql_parser.AggregateExpr):
            below = list(parts_of(largest.expr))
            if (str(part.op), str(largest.op)) == ("sum", "max") and not any(
                isinstance(item, promql_parser.AggregateExpr) for item in below
            ):
                selected = [item for item in below if isinstance(item, promql_parser.VectorSelector)]
                kept = {*(largest.modifier.labels if largest.modifier else ()), *OF_EVERY_SERIES}
                if "invoice" in kept:
                    kept.add("status")  # an invoice has one at a time
                for item in selected:
                    # A label with one value leaves nothing to merge.
                    one = {
                        matcher.name for matcher in item.matchers.matchers if matcher.op == promql_parser.MatchOp.Equal
                    }
                    lost |= labels_of(item.name or "") - kept - one
    return lost


def test_a_sum_over_exporters_loses_no_series_of_one() -> None:
    queries = [asked for asked in all_queries() if asked.kind != "variable"]
    assert {str(asked): lost for asked in queries if (lost := merged(asked.expression))} == {}


def test_a_lost_label_is_found() -> None:
    assert merged("sum(max by (account, product) (fal_spend_today_usd))") >= {"model", "app"}
    assert merged("sum by (code) (max by (account, code) (rate(fal_exporter_api_requests_total[1m])))") == {"call"}


@pytest.mark.parametrize(
    ("typo", "problem"),
    [
        ("sum(fal_spend_tody_usd)", "no metric fal_spend_tody_usd"),
        ('sum(fal_credit_balance_usd{acount="a"})', "no label acount of fal_credit_balance_usd"),
        ("sum by (modle) (fal_spend_today_usd)", "no label modle"),
        ("fal_invoice_total_usd * on (acount) group_left () fal_credit_balance_usd", "no label acount"),
        ('fal_credit_balance_usd{team="a"}', "no label team of fal_credit_balance_usd"),
        ("label_values(fal_source_up, acount)", "no label acount"),
    ],
)
def test_a_typo_is_found(typo: str, problem: str) -> None:
    assert problem in problems_of(typo)


def test_the_example_of_provisioning_reads_this_folder() -> None:
    provisioning = REPOSITORY / "grafana" / "provisioning"
    (provider,) = provider_list(provisioning / "dashboards" / "fal-exporter.yaml")
    assert provider["type"] == "file"
    assert provider["options"] == {"path": "/etc/grafana/dashboards/fal-exporter"}
    sources = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert [source["type"] for source in sources] == ["prometheus"]


def provider_list(path: Path) -> list[Json]:
    return objects(yaml.safe_load(path.read_text())["providers"])
