"""Every query of the shipped dashboards, asked of a real Prometheus with a month of history and live scrapes.

The exporter polls two accounts of the simulator, whose clock stands still, so that its statement is the truth.
"""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from runpy import run_path
from zoneinfo import ZoneInfo

import httpx
import pytest
from e2e.processes import Exporter, Fal, exporter_of, fal_in_a_thread, free_port, wait_until
from grafana.shipped import REPOSITORY, Asked, asked_by, dashboards, resolved
from local_http import NO_TLS

from exporter.charges import HOUR, hour_of
from exporter.simulator import ADMIN_KEY, Key

pytestmark = pytest.mark.long

CONFIGURATION = """\
accounts:
  - {name: studio, key_env: FAL_KEY_OF_STUDIO, sources: "models,serverless,compute"}
  - {name: research, key_env: FAL_KEY_OF_RESEARCH, sources: organization}
budgets:
  - {name: everything, amount: 1000000}
"""
RESEARCH = Key("research-id:00000000000000000000000000000005", refused=(("/v1/account/billing", 403),))
"""A key of the same simulated account, which does not say so to it: the exporter takes it for another's."""

DAYS = timedelta(days=32)
"""Of history in Prometheus: the month so far, whatever day it is."""

ALL = {
    "account": ".*",
    "team": ".*",
    "product": ".*",
    "model": ".*",
    "app": ".*",
    "gpu_class": ".*",
    "by": "product",
} | {"ranked": "product", "tag": ".*", "moved": "account"}

NOTHING_WHEN_ALL_IS_WELL = {
    "fal-spend: Charged, not counted here: recent": "sums by product are compared two minutes after the start",
    "fal-spend: marks: New models: ": "no model is new to a ledger that was born just now",
    "fal-spend: marks: Price changes: ": "the simulator's prices stand still",
    "fal-spend: marks: Restatements: ": "nothing has been restated since the birth of the ledger",
    "fal-models-and-prices: marks: Price changes: ": "as above",
    "fal-models-and-prices: marks: Discount changes: ": "as above",
    **dict.fromkeys(
        (
            f"fal-models-and-prices: {what} changes: {column}"
            for what in ("Price", "Discount")
            for column in ("when", "before", "now", "change")
        ),
        "as above",
    ),
    "fal-invoices: marks: Restatements: ": "as above",
    "fal-exporter-health: What fails now, and what to do: A": "no source fails",
    "fal-invoices: Invoices: overdue": "no open invoice is due",
    "fal-month: Invoices: overdue": "as above",
    **dict.fromkeys(
        (
            *(
                f"fal-requests: {title}: A"
                for title in ("Requests newly read", "Cost of these requests", "Cost of a request", "Behind by")
            ),
            "fal-requests: Requests newly read: since",
            "fal-requests: Requests off the ledger by: A",
            *(
                f"fal-requests: Cost of a request, by model: {column}"
                for column in ("cost", "count", "mean", "p50", "p95", "p99")
            ),
            "fal-requests: What 99% of requests cost at most, by model: A",
            "fal-requests: Cost of requests, by model: A",
            "fal-requests: Models whose requests differ from the ledger: A",
            *(
                f"fal-requests: How far requests have been read and compared: {column}"
                for column in ("compared", "differing", "through", "up")
            ),
        ),
        "requests are not read",
    ),
    **dict.fromkeys(
        (
            *(
                f"fal-requests: Booked, this month and last: {column}"
                for column in ("booked", "charged", "high_reported", "high_little", "low_reported", "low_little", "age")
            ),
            *(f"fal-requests: Why bookings differ: {column}" for column in ("amount", "requests")),
            "fal-requests: Models whose bookings differ: off",
            "fal-requests: Models whose bookings differ: difference",
        ),
        "no bookings are compared",
    ),
    **dict.fromkeys(
        (
            "fal-spend: By tag ${tag:text}: month",
            "fal-spend: By tag ${tag:text}: share",
            "fal-spend: variable tag: tag",
        ),
        "spend is not read by tags",
    ),
    **dict.fromkeys(
        (
            f"fal-gpu-time: What a lower setting would have saved, last 7 days: {column}"
            for column in ("likely", "least", "most", "starts", "more")
        ),
        "no lower setting would likely have saved anything",
    ),
}
"""The queries that rightly return nothing, and why; each returns data in the last test."""

MORE_OR_LESS = {f"fal-month: ± last month, same day: {which}" for which in ("more", "less")}
"""A change is the one or the other."""

MONTH_ENDS = {
    f"{panel}: {edge}"
    for panel in ("fal-spend: Month at its end", "fal-month: At the end of the month")
    for edge in ("low", "likely", "high")
}

NOTHING_WHEN_NOT_WELL = {
    *MONTH_ENDS,
    # Nobody knows of what a tag is a share.
    "fal-spend: By tag ${tag:text}: share",
    # Bookings are off by more than little.
    "fal-requests: Booked, this month and last: high_little",
    "fal-requests: Booked, this month and last: low_little",
    # An account lacks some of the month, and of the time before the exporter nobody knows what was surge.
    "fal-gpu-time: At surge prices: time",
    "fal-gpu-time: At surge prices: cost",
}

NEW = 'account="planted",product="model_apis",model="new"'
LOWER = 'account="planted",app="new",setting="keep_alive",value="30"'
QUIET = """\
fal:threshold_spend_hourly_usd 1000000
fal:threshold_credit_runway_warning_seconds 0
fal:threshold_credit_runway_critical_seconds 0
"""
"""Thresholds that the simulated accounts stay within."""

PLANTED = """\
ALERTS{alertname="FalSpendUnusual",alertstate="firing",severity="warning",account="planted"} 1
ALERTS{alertname="FalBudgetBurnFast",alertstate="firing",severity="critical",budget="studio"} 1
ALERTS{alertname="FalBudgetBurnSlow",alertstate="pending",severity="warning",budget="studio"} 1
ALERTS{alertname="FalUnitPriceChanged",alertstate="firing",severity="info",account="planted"} 1
ALERTS{alertname="FalDiscountLost",alertstate="firing",severity="warning",account="another"} 1
fal_account_locked{account="planted",reason="admin_lock"} 1
fal_account_locked{account="broke",reason="exhausted_balance"} 1
fal_account_locked{account="broke",reason="admin_lock"} 0
fal_credit_balance_usd{account="broke"} -3.2
fal_credit_runway_seconds{account="broke"} 0
fal_credit_balance_usd{account="at nothing"} 0
fal_credit_runway_seconds{account="at nothing"} 0
fal_unit_price_usd{account="broke",product="model_apis",model="dear",unit="token"} 0.00000125
fal_unit_price_previous_usd{account="broke",product="model_apis",model="dear",unit="token"} 0.000001
fal_unit_price_changed_timestamp_seconds{account="broke",product="model_apis",model="dear",unit="token"} %(hour_ago)d
fal_budget_spend_usd{budget="everything"} 9
fal_budget_limit_usd{budget="everything"} 5
fal_budget_spend_usd{budget="video"} 9
fal_budget_limit_usd{budget="video"} 10
fal_budget_limit_usd{budget="unread"} 10
fal_budget_forecast_low_usd{budget="video"} 9
fal_budget_forecast_usd{budget="video"} 11
fal_source_up{account="planted",source="models"} 0
fal_exporter_poll_failures_total{account="planted",source="models",reason="server_error"} %(rising)d
fal_source_available{account="planted",source="compute"} 1
fal_source_difference_usd{account="planted",product="compute"} -7
fal_data_through_timestamp_seconds{account="planted",source="models"} %(day_ago)d
fal_restated_usd_total{account="planted",source="models",direction="up"} %(rising)d
fal_window_coverage_ratio{account="planted",window="month_to_date"} 0.43
fal_spend_month_to_date_usd{%(new)s} 1
fal_spend_current_hour_usd{account="odd",product="model_apis",model="a"} 400
fal_spend_current_hour_usd{account="odd",product="model_apis",model="b"} 12.5
fal_spend_expected_current_hour_high_usd{account="odd",product="model_apis"} 100
fal_spend_last_hour_usd{account="odd",product="serverless",app="b"} 80
fal_spend_expected_last_hour_high_usd{account="odd",product="serverless"} 40
fal_restated_usd_total{account="odd",source="models",direction="down"} %(rising)d
fal_restated_usd_total{account="odd",source="models",direction="up"} 99
fal_spend_last_day_usd{account="odd",product="model_apis",model="veo",team="x"} 60
fal_spend_last_day_usd{account="odd",product="model_apis",model="veo",team="y"} 6
fal_spend_last_day_usd{account="odd",product="model_apis",model="old"} 90
fal_spend_last_day_usd{account="odd",product="model_apis",model="small"} 9
fal_spend_last_day_usd{account="odd",product="serverless",app="tagger"} 55
fal_model_first_seen_timestamp_seconds{account="odd",product="model_apis",model="veo"} %(hour_ago)d
fal_model_first_seen_timestamp_seconds{account="odd",product="model_apis",model="old"} %(week_ago)d
fal_model_first_seen_timestamp_seconds{account="odd",product="model_apis",model="small"} %(hour_ago)d
fal_model_first_seen_timestamp_seconds{account="odd",product="serverless",app="tagger"} %(hour_ago)d
fal_invoice_total_usd{account="odd",invoice="FAL-1",status="past_due"} 1200
fal_invoice_due_timestamp_seconds{account="odd",invoice="FAL-1",status="past_due"} %(week_ago)d
fal_invoice_total_usd{account="odd",invoice="FAL-2",status="open"} 7
fal_invoice_due_timestamp_seconds{account="odd",invoice="FAL-2",status="open"} %(hour_ago)d
fal_invoice_total_usd{account="odd",invoice="FAL-3",status="paid"} 8
fal_invoice_due_timestamp_seconds{account="odd",invoice="FAL-3",status="paid"} %(week_ago)d
fal_spend_month_to_date_usd{account="odd",product="model_apis",model="a"} 900
fal_spend_month_to_date_usd{account="odd",product="model_apis",model="b"} 50
fal_provider_budget_usd{account="odd",kind="hard"} 1000
fal_provider_budget_usd{account="odd",kind="soft"} 10
fal_source_up{account="odd",source="models"} 0
fal_source_up{account="odd",source="compute"} 0
fal_source_up{account="odd",source="serverless"} 1
fal_exporter_rejected_rows{account="odd",source="models",reason="missing_field"} 5
fal_unreadable_usd{account="odd",source="models"} 0.91
fal_reconciliation_difference_usd{account="odd",against="invoice",period="last_month"} -12
fal_reconciliation_difference_usd{account="odd",against="invoice",period="current_month"} 99
fal_invoice_total_usd{account="planted",invoice="late",status="open"} 9
fal_invoice_due_timestamp_seconds{account="planted",invoice="late",status="open"} %(week_ago)d
fal_model_first_seen_timestamp_seconds{%(new)s} %(hour_ago)d
fal_unit_price_usd{%(new)s,unit="image"} 3
fal_unit_price_previous_usd{%(new)s,unit="image"} 2
fal_unit_price_changed_timestamp_seconds{%(new)s,unit="image"} %(hour_ago)d
fal_unit_discount_ratio{%(new)s,unit="image"} 0.1
fal_unit_discount_previous_ratio{%(new)s,unit="image"} 0.2
fal_unit_discount_changed_timestamp_seconds{%(new)s,unit="image"} %(hour_ago)d
fal_request_cost_usd_bucket{account="planted",model="new",le="0.123"} %(rising)d
fal_request_cost_usd_bucket{account="planted",model="new",le="+Inf"} %(rising)d
fal_request_cost_usd_sum{account="planted",model="new"} %(rising)d
fal_request_cost_usd_count{account="planted",model="new"} %(rising)d
fal_request_cost_usd_bucket{account="planted",model="cheap",le="0.123"} 9
fal_request_cost_usd_bucket{account="planted",model="cheap",le="+Inf"} 9
fal_request_cost_usd_sum{account="planted",model="cheap"} 0.05
fal_request_cost_usd_count{account="planted",model="cheap"} 9
fal_events_difference_usd{account="planted",model="new"} 2
fal_events_compared{account="planted"} 9
fal_events_differing{account="planted"} 1
fal_events_through_timestamp_seconds{account="planted"} %(hour_ago)d
fal_events_up{account="planted"} 1
fal_booked_usd 12
fal_booked_charged_usd 10
fal_booked_difference_usd{model="new"} 2
fal_booked_finding_usd{finding="differing"} 2
fal_booked_finding_requests{finding="differing"} 1
fal_booked_window_end_timestamp_seconds %(hour_ago)d
fal_tag_spend_month_to_date_usd{account="planted",key="customer",value="acme"} 7
fal_serverless_what_if_saving_usd{%(lower)s,bound="least"} 1
fal_serverless_what_if_saving_usd{%(lower)s,bound="likely"} 2
fal_serverless_what_if_saving_usd{%(lower)s,bound="most"} 3
fal_serverless_what_if_cold_starts{%(lower)s,bound="likely"} 4
fal_serverless_what_if_cold_starts{%(lower)s,bound="most"} 5
"""


@dataclass
class Story:
    """A target of Prometheus that tells of an account with which nothing is well, once it is told to."""

    told: bool = False
    port: int = field(default_factory=free_port)

    def text(self) -> str:
        now = int(time.time())
        instants = {
            "day_ago": now - 86_400,
            "hour_ago": now - 3_600,
            "week_ago": now - 604_800,
            "rising": now % 100_000 * 1_000,
        }
        return QUIET + (PLANTED % (instants | {"new": NEW, "lower": LOWER}) if self.told else "")


class _Teller(BaseHTTPRequestHandler):
    def __init__(self, story: Story, *arguments: object) -> None:
        self._story = story
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server hands over

    def do_GET(self) -> None:
        body = self._story.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    found = Story()
    server = ThreadingHTTPServer(("127.0.0.1", found.port), partial(_Teller, found))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join(10)
    server.server_close()


@dataclass(frozen=True)
class Prometheus:
    url: str
    fal: Fal
    zone: ZoneInfo
    birth: float
    client: httpx.Client

    def get(self, path: str, **parameters: object) -> list[dict[str, object]]:
        answer = self.client.get(f"{self.url}/api/v1/{path}", params={k: str(v) for k, v in parameters.items()})
        body = answer.json()
        assert body["status"] == "success", body
        found = body["data"]
        return list(found["result"] if isinstance(found, dict) else found)

    def value(self, expression: str) -> float:
        (found,) = self.get("query", query=expression)
        value = found["value"]
        assert isinstance(value, list)
        return float(value[1])

    def columns(self, expression: str, start: datetime, end: datetime, step: timedelta) -> dict[datetime, float]:
        """Return the sums over all series by instant."""
        sums: dict[datetime, float] = {}
        answer = self.get(
            "query_range", query=expression, start=start.timestamp(), end=end.timestamp(), step=step.total_seconds()
        )
        for series in answer:
            values = series["values"]
            assert isinstance(values, list)
            for at, value in values:
                instant = datetime.fromtimestamp(at, UTC)
                sums[instant] = sums.get(instant, 0) + float(value)
        return sums

    def ask(self, asked: Asked, variables: Mapping[str, str]) -> int:
        """Return how many series a dashboard's query returns, now or, if none, at the end of the written history."""
        now = time.time()
        return self.ask_at(asked, variables, now) or self.ask_at(asked, variables, self.birth - 300)

    def ask_at(self, asked: Asked, variables: Mapping[str, str], end: float) -> int:
        """Return how many series a dashboard's query returns at the end of 30 days."""
        query = soon(resolved(asked.expression, variables, start=end - 30 * 86_400, end=end, step=asked.step), "1h:1s")
        if query.startswith("query_result("):
            return len(self.get("query", query=query.removeprefix("query_result(").removesuffix(")"), time=end))
        if asked.kind == "variable":
            selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
            return len(self.get(f"label/{label}/values", **{"match[]": selector}))
        found = len(self.get("query", query=query, time=end))
        if asked.kind == "range" and not found:
            start = end // asked.step * asked.step - 2 * asked.step
            return len(self.get("query_range", query=query, start=start, end=end, step=asked.step))
        return found

    def running_hour(self) -> datetime:
        """Return the hour that the exporter's figures are of, once they are of this hour."""

        def told() -> datetime | None:
            snapshot = self.value("min(fal_exporter_snapshot_timestamp_seconds)")
            hour = hour_of(datetime.now(UTC))
            return hour if hour.timestamp() <= snapshot else None

        return wait_until(told, "the figures are of the current hour")

    def truth(self, start: datetime, end: datetime) -> dict[datetime, Decimal]:
        """Return what both accounts have spent, by hour, as the simulator states it."""
        hours = {start + past * HOUR: Decimal(0) for past in range((end - start) // HOUR)}
        span = {"start": start.astimezone(UTC).isoformat(), "end": end.astimezone(UTC).isoformat()}
        for source in ("models", "serverless", "organization"):
            answer = self.client.get(
                f"{self.fal.running.url}/_simulator/statement", params=span | {"group_by": "hour", "source": source}
            )
            for charge in answer.raise_for_status().json()["charges"]:
                hours[datetime.fromisoformat(charge["hour"])] += Decimal(charge["cost"])
        return hours


def soon(query: str, step: str) -> str:
    """Return a query that looks for the newest value at smaller steps: no five minutes have passed in the tests."""
    return query.replace("[32d:5m]", f"[{step}]")


def zone_of_noon() -> ZoneInfo:
    """Return a time zone in which it is about noon, so that neither day nor month has only just begun."""
    ahead = 12 - datetime.now(UTC).hour
    return ZoneInfo("UTC" if not ahead else f"Etc/GMT{-ahead:+d}")


@pytest.fixture(scope="module")
def prometheus(
    program: Callable[[str, str], str], story: Story, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("dashboards")
    promtool, server = program("promtool", "prometheus"), program("prometheus", "prometheus")
    zone = zone_of_noon()
    (folder / "fal-exporter.yaml").write_text(CONFIGURATION)
    settings = {"CONFIG_FILE": str(folder / "fal-exporter.yaml"), "TIMEZONE": zone.key, "HISTORY": "auto"}
    with fal_in_a_thread() as fal, exporter_of(fal, folder, **settings) as exporter:
        del exporter.environment["FAL_KEY"]
        exporter.environment |= {"FAL_KEY_OF_STUDIO": ADMIN_KEY, "FAL_KEY_OF_RESEARCH": RESEARCH.text}
        fal.simulator.keys |= {RESEARCH.text: RESEARCH}
        exporter.start()
        wait_until(exporter.is_ready, "the month is loaded")
        wait_until(lambda: has_everything(exporter), "all of the history and the outlook are published")
        history = folder / "history.om"
        target = f"127.0.0.1:{exporter.port}"
        for command in (
            [
                *(sys.executable, "-m", "exporter", "backfill"),
                *("--start", f"{fal.now - DAYS:%Y-%m-%d}", "--instance", target, "--output", str(history)),
            ],
            [
                *(promtool, "tsdb", "create-blocks-from", "--max-block-duration=1488h", "openmetrics", "--quiet"),
                *(str(history), str(folder / "data")),
            ],
        ):
            subprocess.run(command, env=os.environ | exporter.environment, check=True, capture_output=True, timeout=60)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            f"  - {{job_name: fal, static_configs: [{{targets: ['{target}']}}]}}\n"
            f"  - {{job_name: story, static_configs: [{{targets: ['127.0.0.1:{story.port}']}}]}}\n"
        )
        port = free_port()
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    server,
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    "--storage.tsdb.retention.time=100d",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        (birth,) = exporter.scrape()["fal_exporter_ledger_birth_timestamp_seconds"].values()
        client = httpx.Client(verify=NO_TLS, timeout=30)
        found = Prometheus(f"http://127.0.0.1:{port}", fal, zone, birth, client)

        def has_scraped() -> bool:
            try:
                calls = "count(rate(fal_exporter_api_request_duration_seconds_count[1m]) > 0)"
                return bool(found.get("query", query=f"{calls} >= 4"))
            except (httpx.TransportError, ValueError):
                return False

        try:
            wait_until(has_scraped, "Prometheus has scraped, and calls were made meanwhile")
            yield found
        finally:
            client.close()
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def has_everything(exporter: Exporter) -> bool:
    scrape = exporter.scrape()
    progress = scrape.get("fal_exporter_history_progress_ratio", {})
    return (
        len(progress) == 4
        and min(progress.values()) == 1
        and {
            "fal_credit_runway_seconds",
            "fal_spend_month_forecast_usd",
            "fal_budget_forecast_usd",
            "fal_budget_burn_ratio",
            "fal_reconciliation_difference_usd",
            "fal_focus_billed_usd",
            "fal_spend_month_change_usd",
            "fal_gpu_spend_by_state_month_to_date_usd",
            "fal_serverless_keep_alive_seconds",
            "fal_app_burn_ceiling_usd_per_hour",
            "fal_cost_per_success_usd",
            "fal_failed_requests_spend_ratio",
        }
        <= scrape.keys()
    )


@pytest.fixture(scope="module")
def queries() -> list[Asked]:
    return [asked for dashboard in dashboards() for asked in asked_by(dashboard)]


def escaped(value: str) -> str:
    """Return a value as Grafana puts it into a regular expression that stands in a string."""
    return re.escape(value).replace("\\", "\\\\")


@pytest.fixture(scope="module")
def selections(prometheus: Prometheus) -> list[dict[str, str]]:
    """One value for each variable, as far as a series has it: of models and of machines, of both accounts."""

    def most_expensive(selector: str) -> dict[str, str]:
        (found,) = prometheus.get("query", query=f"topk(1, fal_spend_month_to_date_usd{{{selector}}})")
        metric = found["metric"]
        assert isinstance(metric, dict)
        return ALL | {name: escaped(value) for name, value in metric.items() if name in ALL}

    return [
        most_expensive(f'account="{account}",{kind}')
        for account in ("studio", "research")
        for kind in ('model!=""', 'app!="",gpu_class!=""')
    ]


def test_every_query_returns_data_with_all_selected(prometheus: Prometheus, queries: list[Asked]) -> None:
    empty = {str(asked) for asked in queries if not prometheus.ask(asked, ALL)}
    assert empty - NOTHING_WHEN_ALL_IS_WELL.keys() - MORE_OR_LESS == set()
    assert len(empty & MORE_OR_LESS) == 1


@pytest.mark.parametrize("label", ["team", "model", "app", "gpu_class", "account"])
def test_bars_can_be_stacked_by_every_label(prometheus: Prometheus, queries: list[Asked], label: str) -> None:
    stacked = [asked for asked in queries if "$by" in asked.expression]
    assert len(stacked) >= 4
    for asked in stacked:
        assert prometheus.ask(asked, ALL | {"by": label}), asked


def test_every_query_returns_data_with_one_value_selected(
    prometheus: Prometheus, queries: list[Asked], selections: list[dict[str, str]]
) -> None:
    empty = {
        str(asked)
        for asked in queries
        if str(asked) not in NOTHING_WHEN_ALL_IS_WELL
        and not any(prometheus.ask(asked, selection) for selection in selections)
    }
    assert empty - MORE_OR_LESS == set()


def test_a_typo_returns_no_data(prometheus: Prometheus, queries: list[Asked]) -> None:
    (asked,) = (asked for asked in queries if str(asked) == "fal-spend: Credit: balance")
    name = "fal_credit_balance_usd"
    typo = Asked(**vars(asked) | {"expression": asked.expression.replace(name, "fal_credit_balace_usd")})
    assert prometheus.ask(asked, ALL) == 1
    assert prometheus.ask(typo, ALL) == 0


def test_the_totals_of_the_front_page_are_what_fal_states(prometheus: Prometheus, queries: list[Asked]) -> None:
    hour = prometheus.running_hour()
    midnight = datetime.now(prometheus.zone).replace(hour=0, minute=0, second=0, microsecond=0)

    def spent(since: datetime) -> Decimal:
        return sum(prometheus.truth(since, hour + HOUR).values(), Decimal(0))

    expected = {
        "Month to date: A": spent(midnight.replace(day=1)),
        "Today: today": spent(midnight),
        "This hour: running": spent(hour),
        "This hour: complete": spent(hour - HOUR) - spent(hour),
    }
    found = {
        name: prometheus.value(resolved(asked.expression, ALL, start=0, end=time.time()))
        for asked in queries
        for name in expected
        if str(asked) == f"fal-spend: {name}"
    }
    assert found == pytest.approx({name: float(amount) for name, amount in expected.items()}, rel=1e-12)
    assert min(expected["Today: today"], expected["This hour: complete"]) > 0


def shown(
    prometheus: Prometheus, queries: list[Asked], name: str, ranked: str = "", moved: str = ""
) -> dict[str, float]:
    """Return the rows of a table by their label `name`."""
    (asked,) = (asked for asked in queries if str(asked) == name)
    query = resolved(asked.expression, ALL | {"ranked": ranked, "moved": moved}, start=0, end=time.time())
    found = {}
    for series in prometheus.get("query", query=query):
        metric, value = series["metric"], series["value"]
        assert isinstance(metric, dict)
        assert isinstance(value, list)
        found[str(metric["name"])] = float(value[1])
    return found


@pytest.mark.parametrize("ranked", ["account", "product", "model", "app", "gpu_class"])
@pytest.mark.parametrize("dashboard", ["fal-month", "fal-spend"])
def test_the_rows_of_a_table_add_up_to_its_total(
    prometheus: Prometheus, queries: list[Asked], dashboard: str, ranked: str
) -> None:
    found = shown(prometheus, queries, f"{dashboard}: By ${{ranked:text}}: month", ranked)
    total = found.pop("Total")
    assert total == pytest.approx(prometheus.value("sum(fal_spend_month_to_date_usd)"))
    assert sum(found.values()) == pytest.approx(total)
    most = {"fal-month": 4, "fal-spend": 9}[dashboard]
    assert len(found) <= most
    assert ("all others" in found) == (len(found) == most)


def test_the_causes_of_a_change_add_up_to_it_and_it_is_what_fal_states(
    prometheus: Prometheus, queries: list[Asked]
) -> None:
    table = "fal-month: What moved since last month, and why: "
    change, *causes = (
        shown(prometheus, queries, table + column) for column in ("change", "volume", "price", "new", "gone")
    )
    now, zone = prometheus.running_hour(), prometheus.zone
    month = now.astimezone(zone).replace(day=1, hour=0)
    last_month = (month - timedelta(days=1)).replace(day=1)
    this, before = (
        sum(prometheus.truth(start.astimezone(UTC), end.astimezone(UTC)).values(), Decimal(0))
        for start, end in ((month, now), (last_month, min(last_month + (now - month), month)))
    )
    assert change["Total"] == pytest.approx(float(this - before), rel=1e-6)
    assert sum(cause.get("Total", 0) for cause in causes) == pytest.approx(change["Total"])
    (percent,) = (asked for asked in queries if str(asked) == "fal-month: ± last month, same day: share")
    share = prometheus.value(resolved(percent.expression, ALL, start=0, end=time.time()))
    assert share == pytest.approx(float((this - before) / before), rel=1e-6)


@pytest.mark.parametrize("moved", ["account", "product"])
def test_who_moved_adds_up_to_the_change_of_the_month(prometheus: Prometheus, queries: list[Asked], moved: str) -> None:
    table = "fal-month: Who moved: by ${moved:text}: "
    change, now = (
        shown(prometheus, [asked for asked in queries if str(asked) == table + column], table + column, moved=moved)
        for column in ("change", "now")
    )
    for rows in (change, now):
        total = rows.pop("Total")
        assert sum(rows.values()) == pytest.approx(total)
    by_cause = shown(prometheus, queries, "fal-month: What moved since last month, and why: change")
    assert sum(change.values()) == pytest.approx(by_cause["Total"])
    assert sum(now.values()) == pytest.approx(prometheus.value("sum(fal_spend_month_compared_usd)"))
    assert len(change) >= 2


def test_every_comparison_of_months_leaves_the_running_hour_out(prometheus: Prometheus, queries: list[Asked]) -> None:
    exact = prometheus.value("sum(fal_spend_month_compared_usd) / sum(fal_spend_last_month_to_date_usd) - 1")
    with_it = prometheus.value("sum(fal_spend_month_to_date_usd) / sum(fal_spend_last_month_to_date_usd) - 1")
    assert exact < with_it, "the running hour costs something"
    table = shown(prometheus, queries, "fal-month: By ${ranked:text}: change", "product")
    assert table["Total"] == pytest.approx(exact)
    for name in ("fal-month: ± last month, same day: share", "fal-spend: Last month: growth"):
        (asked,) = (asked for asked in queries if str(asked) == name)
        assert prometheus.value(resolved(asked.expression, ALL, start=0, end=time.time())) == pytest.approx(exact)


def test_the_path_leads_from_the_month_to_date_to_the_forecast(prometheus: Prometheus, queries: list[Asked]) -> None:
    end = datetime.fromtimestamp(prometheus.value("max(fal_month_end_timestamp_seconds)"), UTC)
    now = datetime.now(UTC)
    for edge, ref in (("_low", "low"), ("", "likely"), ("_high", "high")):
        (asked,) = (asked for asked in queries if str(asked) == f"fal-month: The month, and the path to its end: {ref}")
        query = soon(resolved(asked.expression, ALL, start=0, end=end.timestamp(), step=3600), "32d:15s")
        path = prometheus.columns(query, end - 31 * 24 * HOUR, end, HOUR)
        assert min(path) >= now - HOUR
        assert path[end] == pytest.approx(prometheus.value(f"sum(fal_spend_month_forecast{edge}_usd)"), rel=1e-3)
        assert list(path.values()) == sorted(path.values())
        assert path[min(path)] >= prometheus.value("sum(fal_account_spend_month_to_date_usd)") * 0.999


def test_the_last_month_stands_beside_this_one(prometheus: Prometheus, queries: list[Asked]) -> None:
    (asked,) = (asked for asked in queries if str(asked) == "fal-month: The month, and the path to its end: before")
    at = hour_of(datetime.now(UTC)) - 6 * HOUR
    length = (at.replace(day=1) - timedelta(days=1)).day
    query = resolved(asked.expression, ALL, start=0, end=time.time())
    then = at - timedelta(days=length)
    (beside,) = prometheus.columns(query, at, at, HOUR).values()
    (known,) = prometheus.columns("sum(fal_spend_month_to_date_usd)", then, then, HOUR).values()
    assert beside == pytest.approx(known, rel=1e-12)


def test_what_was_bought_in_the_last_24_hours_is_that_right_after_a_backfill(
    prometheus: Prometheus, queries: list[Asked]
) -> None:
    (asked,) = (
        asked
        for asked in queries
        if str(asked) == "fal-models-and-prices: Bought in the last 24 hours, and what a unit came to: paid"
    )
    now = prometheus.running_hour()
    everything = asked.expression.replace("topk(20,", "topk(10000,")
    assert everything != asked.expression
    bought = prometheus.value(f"sum({resolved(everything, ALL, start=0, end=time.time())})")
    truth = sum(prometheus.truth(now - 23 * HOUR, now + HOUR).values(), Decimal(0))
    counted = prometheus.value("sum(fal_spend_usd_total) - sum(fal_spend_usd_total offset 24h)")
    assert counted < 0, "the counters began after that"
    assert bought == pytest.approx(float(truth), rel=1e-9)


def test_the_bars_of_the_hours_are_what_fal_states(prometheus: Prometheus, queries: list[Asked]) -> None:
    (asked,) = (asked for asked in queries if str(asked) == "fal-spend: Spend by hour, last two days: A")
    now = prometheus.running_hour()
    query = resolved(asked.expression, ALL, start=0, end=time.time(), step=3600)
    bars = prometheus.columns(query, now - 30 * HOUR, now, HOUR)
    truth = prometheus.truth(now - 30 * HOUR, now + HOUR)
    assert bars == pytest.approx({hour: float(amount) for hour, amount in truth.items()}, rel=1e-9)


def test_the_bars_of_the_days_add_up_to_the_month(prometheus: Prometheus, queries: list[Asked]) -> None:
    (asked,) = (asked for asked in queries if str(asked) == "fal-spend: Spend by day: A")
    today = datetime.now(prometheus.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    query = resolved(asked.expression, ALL | {"by": "model"}, start=0, end=time.time(), step=86400)
    bars = prometheus.columns(query, today.replace(day=1), today, timedelta(days=1))
    assert len(bars) == today.day
    assert min(bars.values()) > 0
    assert sum(bars.values()) == pytest.approx(prometheus.value("sum(fal_spend_month_to_date_usd)"), rel=1e-9)


def text_of(kind: str, expression: str) -> str:
    """Return PromQL of the generator that writes a value as text."""
    module = run_path(str(REPOSITORY / "grafana" / "source" / "amounts.py"))
    return str(module["written"](module[kind](expression, "")))


def findings(prometheus: Prometheus, queries: list[Asked], account: str) -> dict[tuple[str, str], int]:
    """Return what the banner shows, all of it, and how bad it is."""
    (banner,) = (asked for asked in queries if str(asked) == "fal-spend: State: A")
    query = resolved(banner.expression, ALL | {"account": account}, start=0, end=time.time())
    everything = query.replace("topk(30,", "topk(1000,")
    assert everything != query
    found = {}
    for series in prometheus.get("query", query=everything):
        metric, value = series["metric"], series["value"]
        assert isinstance(metric, dict)
        assert isinstance(value, list)
        assert metric["runbook"]
        found[metric["finding"], metric.get("about", "")] = math.floor(float(value[1]))
    return found


def test_the_banner_says_one_thing_with_data_and_another_without(prometheus: Prometheus, queries: list[Asked]) -> None:
    assert findings(prometheus, queries, ".*") == {("well", ""): 1}
    assert findings(prometheus, queries, "nobody") == {("unknown", ""): 2}


@pytest.fixture
def not_well(prometheus: Prometheus, story: Story) -> Iterator[None]:
    story.told = True
    now = 'fal_account_locked{account="planted"}'
    risen = f'increase(fal_restated_usd_total{{account="planted"}}[1h]) > 100 and on () {now}'
    wait_until(lambda: bool(prometheus.get("query", query=risen)), "the story has been scraped")
    yield
    story.told = False
    # Tests may run in another order: while its accounts lack hours, no total is shown of all accounts.
    wait_until(lambda: not prometheus.get("query", query=now), "the story is over")


@pytest.mark.usefixtures("not_well")
def test_the_banner_knows_what_fires_and_what_the_metrics_say(prometheus: Prometheus, queries: list[Asked]) -> None:
    assert findings(prometheus, queries, "planted") == {
        ("FalAccountLocked", "planted"): 3,
        ("FalBudgetBurnFast", "studio"): 3,
        ("FalSpendUnusual", "planted"): 2,
        ("FalUsageDataStale", "planted"): 2,
        ("FalLargeRestatement", "planted"): 2,
        ("FalInvoiceOverdue", "planted"): 2,
        ("FalPollFailing", "planted"): 2,
        ("FalDiscountLost", "planted"): 2,
        ("left out", "planted"): 2,
        ("not loaded", "planted"): 2,
        ("not judged", "unread"): 2,
        ("FalBookingsDiffer", ""): 2,
        # The other exporter has a budget of this name, too, with a limit that it is far below.
        ("FalBudgetExceeded", "everything"): 2,
        ("budget likely", "video"): 0,
        ("FalUnitPriceChanged", "planted"): -1,
    }


@pytest.mark.usefixtures("not_well")
def test_the_banner_says_how_much_worst_first(prometheus: Prometheus, queries: list[Asked]) -> None:
    (banner,) = (asked for asked in queries if str(asked) == "fal-spend: State: A")
    query = resolved(banner.expression, ALL, start=0, end=time.time())
    rows = []
    for series in prometheus.get("query", query=query):
        metric, value = series["metric"], series["value"]
        assert isinstance(metric, dict)
        assert isinstance(value, list)
        rows.append((-float(value[1]), str(metric["finding"]), str(metric.get("amounts", ""))))
    said = [(finding, amounts) for _, finding, amounts in sorted(rows)]
    assert ("FalUsageDataStale", "1 day") in said
    assert ("FalBudgetExceeded", "$9.00 of $5.00") in said
    assert ("budget likely", "$11.00 forecast, limit $10.00") in said
    assert ("FalBookingsDiffer", "$2.00 off, of $10.00") in said
    # Both are for today, and data that are eight times as late as they may be stand before a budget exceeded by half.
    assert said.index(("FalUsageDataStale", "1 day")) < said.index(("FalBudgetExceeded", "$9.00 of $5.00"))
    assert ("FalDiscountLost", "10%, was 20%, new") in said
    assert said[-1] == ("FalUnitPriceChanged", "$0.00000125, was $0.000001, dear")


@pytest.mark.usefixtures("not_well")
@pytest.mark.parametrize(
    ("account", "rows"),
    [
        (
            "broke",
            [
                ("FalAccountLocked", "-$3.20 of credit, exhausted balance"),
                ("FalCreditBalanceLow", "-$3.20, limit $100.00"),
            ],
        ),
        (
            "at nothing",
            [("FalCreditBalanceLow", "$0.00, limit $100.00")],
        ),
    ],
)
def test_the_banner_has_a_row_with_amounts_of_a_balance_at_0_and_below(
    prometheus: Prometheus, queries: list[Asked], account: str, rows: list[tuple[str, str]]
) -> None:
    (banner,) = (asked for asked in queries if str(asked) == "fal-spend: State: A")
    query = resolved(banner.expression, ALL | {"account": account}, start=0, end=time.time())
    found = []
    for series in prometheus.get("query", query=query):
        metric, value = series["metric"], series["value"]
        assert isinstance(metric, dict)
        assert isinstance(value, list)
        if metric.get("about") == account:
            found.append((-float(value[1]), str(metric["finding"]), str(metric.get("amounts", ""))))
    of_credit = {"FalAccountLocked", "FalCreditBalanceLow"}
    assert [(finding, amounts) for _, finding, amounts in sorted(found) if finding in of_credit] == rows


@pytest.mark.usefixtures("not_well")
def test_the_banner_says_how_much_of_what_is_odd_and_of_which(prometheus: Prometheus, queries: list[Asked]) -> None:
    (banner,) = (asked for asked in queries if str(asked) == "fal-spend: State: A")
    query = resolved(banner.expression, ALL | {"account": "odd"}, start=0, end=time.time())
    rows = []
    for series in prometheus.get("query", query=query):
        metric, value = series["metric"], series["value"]
        assert isinstance(metric, dict)
        assert isinstance(value, list)
        # All data of this account are missing.
        if metric.get("about") == "odd" and metric["finding"] != "unknown":
            rows.append((-float(value[1]), str(metric["finding"]), str(metric.get("amounts", ""))))
    said = [(finding, amounts) for _, finding, amounts in sorted(rows)]
    (restated,) = (amounts for finding, amounts in said if finding == "FalLargeRestatement")
    assert re.fullmatch(r"\$[\d,]+\.00 within an hour, down", restated)
    # Of those that are as bad, what is further beyond its limit stands first.
    assert said == [
        ("FalLargeRestatement", restated),
        ("FalRowsRejected", "$0.91 not counted"),
        ("FalInvoiceOverdue", "$1,200.00, invoice FAL-1"),
        ("FalSpendUnusual", "$312.50 an hour beyond what is usual on Model APIs"),
        ("FalPollFailing", "2 sources"),
        ("FalProviderBudgetNear", "$950.00 of $1,000.00"),
        # Not in the first days of a month, when the last hours of the one before still change.
        *([("FalReconciliationDrift", "$12.00")] * (datetime.now(UTC).day > 3)),
        ("FalNewModelSpending", "$66.00 in a day, veo"),
        ("FalNewModelSpending", "$55.00 in a day, tagger"),
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.004", "$0.00"),
        ("5", "$5.00"),
        ("0.5", "$0.50"),
        ("999.994", "$999.99"),
        ("1000", "$1,000.00"),
        ("1234567.891", "$1,234,567.89"),
        ("-18249.89", "-$18,249.89"),
    ],
)
def test_amounts_of_the_banner_are_written_as_people_write_them(prometheus: Prometheus, number: str, text: str) -> None:
    (found,) = prometheus.get("query", query=text_of("dollars", f"vector({number})"))
    metric = found["metric"]
    assert isinstance(metric, dict)
    assert metric["amounts"] == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (59, "less than an hour"),
        (3600, "1 hour"),
        (86399, "23 hours"),
        (86400, "1 day"),
        (90000, "1 day 1 hour"),
        (2 * 86400 + 21 * 3600 + 5, "2 days 21 hours"),
        (11 * 86400, "11 days"),
    ],
)
def test_durations_of_the_banner_are_said_as_people_say_them(prometheus: Prometheus, seconds: int, text: str) -> None:
    (found,) = prometheus.get("query", query=text_of("lasting", f"vector({seconds})"))
    metric = found["metric"]
    assert isinstance(metric, dict)
    assert metric["amounts"] == text


@pytest.mark.usefixtures("not_well")
def test_what_is_empty_when_all_is_well_shows_what_is_not(prometheus: Prometheus, queries: list[Asked]) -> None:
    silent = {str(asked) for asked in queries if not prometheus.ask(asked, ALL)}
    assert silent - MORE_OR_LESS == NOTHING_WHEN_NOT_WELL
    assert NOTHING_WHEN_ALL_IS_WELL.keys() <= {str(asked) for asked in queries}


@pytest.mark.usefixtures("not_well")
@pytest.mark.parametrize(("quantile", "new"), [("p50", 0.062), ("p95", 0.12), ("p99", 0.12)])
def test_a_rough_quantile_has_two_digits_and_is_at_most_what_all_requests_cost(
    prometheus: Prometheus, queries: list[Asked], quantile: str, new: float
) -> None:
    (asked,) = (asked for asked in queries if str(asked) == f"fal-requests: Cost of a request, by model: {quantile}")
    query = resolved(asked.expression, ALL, start=time.time() - 3600, end=time.time())
    assert [
        prometheus.value(f'({query}) and on (model) label_replace(vector(0), "model", "{model}", "", "")')
        for model in ("new", "cheap")
    ] == [new, 0.05]


@pytest.mark.usefixtures("not_well")
def test_the_month_is_not_shown_while_an_account_that_is_selected_lacks_some_of_it(
    prometheus: Prometheus, queries: list[Asked]
) -> None:
    month = {
        "fal-spend: Month to date: A",
        "fal-gpu-time: Cost, this month: A",
        "fal-models-and-prices: Models and apps, month: A",
        *MONTH_ENDS,
    }
    found = [asked for asked in queries if str(asked) in month]
    assert len(found) == len(month)
    for asked in found:
        assert prometheus.ask_at(asked, ALL, time.time()) == 0, asked
        assert prometheus.ask_at(asked, ALL | {"account": "studio"}, time.time()) == 1, asked
    (covered,) = (asked for asked in queries if str(asked) == "fal-spend: Hours read: month_to_date")
    assert prometheus.value(resolved(covered.expression, ALL, start=0, end=time.time())) == pytest.approx(0.43)
