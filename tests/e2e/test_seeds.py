"""The two documents that the exporter is built from, sentence by sentence, against a running exporter.

The first describes usage and billing reports as a capability: two calls over REST and MCP. The second describes a
FOCUS report. Their sentences are told here in our own words; what fal answers is simulated.
"""

import asyncio
import csv
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import structlog
import yaml
from local_http import HTTP
from mcp import Client
from mcp_types import CallToolResult, Tool
from pydantic import SecretStr

from exporter.app.single_process import SingleProcess, in_one_process
from exporter.charges import utc_now
from exporter.cli import main
from exporter.fal import REPORTING_URL
from exporter.focus.checks import Checker
from exporter.settings import Listen, Settings
from exporter.settings import Settings as Model
from exporter.simulator import ADMIN_KEY, API_KEY, Fault, RunningSimulator, Simulator, World, WorldSize, serving

NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)
"""Four hours after the invoice of October has been issued."""

OCTOBER = {"start": "2026-10-01", "end": "2026-11-01"}
SOURCES = ("models", "serverless")
LEDGERS = {"source": "invoice", "charge_month": "2026-10", "live": "false"}
"""The invoice of October as the ledger answers with it."""

REPOSITORY = Path(__file__).parents[2]

Row = dict[str, str]


class Running(NamedTuple):
    """An exporter at work, and the fal that it asks."""

    exporter: SingleProcess
    fal: RunningSimulator
    ledger: Path
    answers: dict[str, httpx.Response]

    def get(self, path: str, **query: str) -> httpx.Response:
        return HTTP.get(f"{self.exporter.url}/v1/billing/{path}", params=query, timeout=60)

    def file(self, **query: str) -> httpx.Response:
        """Return a report. As clocks stand still, one that several tests look at is asked for once."""
        asked = json.dumps(query, sort_keys=True)
        if asked not in self.answers:
            self.answers[asked] = self.get("focus", **query)
        return self.answers[asked]

    def exact(self, path: str, **query: str) -> Any:  # noqa: ANN401  JSON
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)

    def report(self, **query: str) -> tuple[list[Row], httpx.Headers]:
        answer = self.file(**query)
        assert answer.status_code == 200, answer.text
        return rows_of(answer.text), answer.headers

    def refusal(self, **query: str) -> tuple[int, str]:
        answer = self.get("focus", **query)
        return answer.status_code, answer.json()["error"]["message"]

    def tool(self, name: str, **arguments: object) -> CallToolResult:
        async def call() -> CallToolResult:
            async with Client(self.exporter.mcp_url) as client:
                return await client.call_tool(name, arguments)

        return asyncio.run(call())

    def truth(self, start: str, end: str) -> Decimal:
        """Return what fal charges for a window, apart from all that the exporter does."""
        stated = (self.fal.simulator.statement(start=start, end=end, source=source) for source in SOURCES)
        return sum((Decimal(str(found["cost"])) for found in stated), Decimal(0))

    def fals_own(self, **query: str) -> str:
        """Return fal's report as fal itself answers."""
        headers = {"authorization": f"Key {ADMIN_KEY}"}
        return HTTP.get(f"{self.fal.platform_url}/account/focus", params=query, headers=headers, timeout=60).text


def rows_of(text: str) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text)))


def billed(rows: list[Row]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An exporter that has read October and November; its clock and fal's stand still."""
    ledger = tmp_path_factory.mktemp("exporter") / "ledger.sqlite"
    began: list[tuple[Running, asyncio.AbstractEventLoop]] = []
    loaded, ended = threading.Event(), asyncio.Event()

    async def run() -> None:
        size = WorldSize(models=2, callers=1, apps=1, compute=0, teams=1)
        world = World(23, size, tax_percent=19, monthly_credit=5 * 10**9)
        async with serving(Simulator(world, lambda: NOW)) as fal:
            settings = Settings(
                key=SecretStr(ADMIN_KEY),
                sources=SOURCES,
                platform_url=fal.platform_url,
                reporting_url=fal.reporting_url,
                listen=Listen("127.0.0.1", 0),
                mcp_listen=Listen("127.0.0.1", 0),
                ledger_url=SecretStr(f"sqlite:///{ledger}"),
                request_attempts=1,
            )
            async with in_one_process(settings, clock=lambda: NOW) as exporter:
                while not is_loaded(exporter):
                    exporter.published.clear()
                    await exporter.published.wait()
                began.append((Running(exporter, fal, ledger, {}), asyncio.get_running_loop()))
                loaded.set()
                await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert loaded.wait(90)
    ((running, loop),) = began
    yield running
    loop.call_soon_threadsafe(ended.set)
    thread.join(30)


@pytest.fixture
def command(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run `fal-exporter` in this process with the key and the addresses of the simulated fal."""
    monkeypatch.setenv("FAL_KEY", ADMIN_KEY)
    monkeypatch.setenv("FAL_EXPORTER_PLATFORM_URL", running.fal.platform_url)
    monkeypatch.setenv("FAL_EXPORTER_REPORTING_URL", running.fal.reporting_url)
    # A command sets up logging for itself, into a stream that ends with the test.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda *words: main(words)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def is_loaded(exporter: SingleProcess) -> bool:
    if exporter.latest is None or not exporter.latest.ready:
        return False
    sources = [source for account in exporter.latest.overview.accounts for source in account.sources]
    return len(sources) == len(SOURCES) and all(source.history_progress == 1 for source in sources)


# The first document: usage and billing reports.


def test_programmatic_access_to_spend_by_model_gpu_seconds_and_invoices(running: Running) -> None:
    metrics = HTTP.get(f"{running.exporter.url}/metrics", timeout=60).text
    for family in ("fal_spend_last_month_usd{", "fal_gpu_seconds_total{", "fal_invoice_total_usd{"):
        assert family in metrics


def test_two_reading_operations_below_one_root_and_nothing_else_than_get(running: Running) -> None:
    for path in ("usage", "invoices"):
        assert running.get(path).status_code == 200
        assert HTTP.post(f"{running.exporter.url}/v1/billing/{path}").status_code == 405


def test_usage_is_an_object_of_spend_over_a_window(running: Running) -> None:
    found = running.exact("usage", **OCTOBER)
    assert isinstance(found, dict)
    assert found["total"]["spend"] == running.truth(**OCTOBER) > 0


def test_any_window_is_answered_also_one_from_before_the_ledger(running: Running) -> None:
    window = {"start": "2026-08-20", "end": "2026-10-11T05:00Z"}
    found = running.exact("usage", **window)
    assert found["total"]["spend"] == running.truth("2026-08-20T00:00:00Z", "2026-10-11T05:00:00Z") > 0
    assert [part["end"] for part in found["live"]] == [found["available_from"]] == ["2026-10-01T00:00:00Z"]
    told = running.tool("fal-get-usage", **window).structured_content
    assert told is not None
    assert (Decimal(told["total"]["spend"]), told["live"]) == (found["total"]["spend"], found["live"])


def test_start_and_end_are_iso_8601_and_optional(running: Running) -> None:
    exactly = running.exact("usage", start="2026-10-31T22:00:00+02:00", end="2026-11-01T00:00:00Z")
    assert exactly["total"]["spend"] == running.truth("2026-10-31T20:00:00Z", "2026-11-01T00:00:00Z")
    day = running.exact("usage")
    assert (day["start"], day["end"]) == ("2026-11-01T03:00:00Z", "2026-11-02T04:00:00Z")


@pytest.mark.parametrize("dimension", ["model", "app", "gpu_class"])
def test_usage_is_grouped_by_a_dimension(running: Running, dimension: str) -> None:
    rows = running.exact("usage", **OCTOBER, group_by=dimension)["usage"]
    names = [row[dimension] for row in rows]
    assert len(set(names)) == len(names) > 1
    assert sum(row["spend"] for row in rows) == running.truth(**OCTOBER)
    assert sum(row["gpu_seconds"] for row in rows) > 0


def test_invoices_are_an_array_of_those_of_the_calling_organization(running: Running) -> None:
    found = running.exact("invoices")
    assert isinstance(found, list)
    asked = HTTP.get(f"{running.fal.reporting_url}/billing/invoices", headers={"authorization": f"Key {ADMIN_KEY}"})
    stated = json.loads(asked.text, parse_float=Decimal, parse_int=Decimal)
    ours = {"x_fal_exporter_account": "default", "account": "default"}
    assert [row["id"] for row in found] == [row["id"] for row in stated]
    assert found == [row | ours for row in stated], "every field, as fal sends it"


def test_fal_is_asked_at_the_documents_address_with_the_key_of_the_environment(
    running: Running, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REPORTING_URL == "https://rest.alpha.fal.ai"
    assert Model.model_fields["reporting_url"].default == REPORTING_URL
    for scheme, status in (("Key", 200), ("Bearer", 401)):
        headers = {"authorization": f"{scheme} {API_KEY}"}
        assert HTTP.get(f"{running.fal.reporting_url}/billing/user_balance", headers=headers).status_code == status
    # The command goes by the system's clock.
    monkeypatch.setattr(running.fal.simulator, "date_clock", utc_now)
    assert command("check", "--listen", "127.0.0.1:0", "--mcp-listen", "off") == 0


def test_rest_is_on_port_8080_and_mcp_over_http_on_port_9090() -> None:
    fields = Model.model_fields
    assert (fields["listen"].default.port, fields["mcp_listen"].default.port) == (8080, 9090)


def test_two_tools_read_only_not_destructive_and_idempotent(running: Running) -> None:
    async def listed() -> list[Tool]:
        async with Client(running.exporter.mcp_url) as client:
            return list((await client.list_tools()).tools)

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    for name in ("fal-get-usage", "fal-list-invoices"):
        hints = tools[name].annotations
        assert hints is not None
        assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint) == (True, False, True)
    assert {"start", "end", "group_by"} <= tools["fal-get-usage"].input_schema["properties"].keys()


def test_the_tools_answer_as_the_calls_do(running: Running) -> None:
    usage = running.tool("fal-get-usage", **OCTOBER, group_by=["model"]).structured_content
    assert usage is not None
    assert Decimal(usage["total"]["spend"]) == running.truth(**OCTOBER)
    invoices = running.tool("fal-list-invoices").structured_content
    assert invoices is not None
    assert [row["id"] for row in invoices["invoices"]] == [row["id"] for row in running.exact("invoices")]


def test_it_is_deployed_as_a_skill_too() -> None:
    text = (REPOSITORY / "deploy/skill/fal-billing/SKILL.md").read_text(encoding="utf-8")
    assert yaml.safe_load(text.split("---\n")[1])["name"] == "fal-billing"
    assert "| `usage` |" in text
    assert "| `invoices` |" in text


# The second document: the FOCUS report.


@pytest.mark.parametrize(
    "query",
    [
        {"source": "estimate"},
        pytest.param({"source": "invoice", "charge_month": "2026-10"}, marks=pytest.mark.long),
        LEDGERS,
    ],
)
def test_the_report_is_a_csv_download_that_follows_focus(running: Running, query: Row) -> None:
    answer = running.file(**query)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    checker = Checker("1.2")
    checker.feed(answer.content)
    found = checker.finish()
    assert found.is_clean
    assert len(rows_of(answer.text)) > 1


def test_an_invoice_is_fals_own_report_to_the_byte_and_is_asked_for_once(running: Running) -> None:
    stated = running.fals_own(source="invoice", charge_month="2026-10")
    asked = running.fal.simulator.seen["/v1/account/focus"]
    for _ in range(2):
        answer = running.get("focus", source="invoice", charge_month="2026-10")
        assert answer.text == stated
        assert answer.headers["fal-exporter-answered-by"] == "fal"
        assert answer.headers["fal-exporter-read-at"]
    assert running.fal.simulator.seen["/v1/account/focus"] <= asked + 1


def test_an_invoice_is_the_ledgers_with_the_total_of_the_invoice_and_says_so(running: Running) -> None:
    rows, headers = running.report(**LEDGERS)
    (invoice,) = (row for row in running.exact("invoices", period="2026-10") if row["status"] == "open")
    assert billed(rows) == invoice["total"]
    assert {row["InvoiceId"] for row in rows} == {invoice["id"]}
    for category, amount in (("Credit", -invoice["credits"]), ("Tax", invoice["tax"])):
        assert billed([row for row in rows if row["ChargeCategory"] == category]) == amount != 0
    assert headers["fal-exporter-answered-by"] == "ledger"
    assert headers["fal-exporter-note"].startswith("Made from the ledger")


def test_an_estimate_is_usage_so_far(running: Running) -> None:
    rows, headers = running.report(source="estimate", start="2026-11-01", end="2026-11-03", timeframe="hour")
    assert billed(rows) == running.truth("2026-11-01", "2026-11-02T04:00:00Z")
    assert (headers["fal-exporter-answered-by"], headers["fal-exporter-missing-hours"]) == ("ledger", "1")


def test_a_tagged_estimate_is_fals(running: Running) -> None:
    query = {"source": "tagged-estimate", "start": "2026-10-31", "end": "2026-11-01", "timeframe": "day"}
    rows, headers = running.report(**query)
    assert headers["fal-exporter-answered-by"] == "fal"
    assert rows == rows_of(running.fals_own(**query))


def test_months_default_to_the_latest_invoice_and_windows_to_the_last_24_hours(running: Running) -> None:
    assert running.report()[0] == running.report(source="invoice", charge_month="2026-10")[0]
    starts = {row["ChargePeriodStart"] for row in running.report(source="estimate")[0]}
    assert min(starts) >= "2026-11-01T03:00:00Z"


def test_an_estimate_is_of_90_days_at_most(running: Running) -> None:
    status, sentence = running.refusal(source="estimate", start="2026-08-01", end="2026-11-01")
    assert (status, "more than 90 days" in sentence) == (400, True)


@pytest.mark.long
def test_the_billing_month_is_the_month_after_the_charges(running: Running) -> None:
    by_billing, _ = running.report(source="invoice", billing_month="2026-11", live="false")
    assert by_billing == running.report(**LEDGERS)[0]
    assert running.refusal(billing_month="2026-11", charge_month="2026-10")[0] == 400
    assert running.refusal(charge_month="2026-1")[0] == 400


@pytest.mark.long
def test_the_end_is_exclusive_and_dates_and_times_are_taken(running: Running) -> None:
    rows, _ = running.report(source="estimate", start="2026-10-30", end="2026-10-31T02:00:00+02:00", timeframe="hour")
    assert max(row["ChargePeriodEnd"] for row in rows) == "2026-10-31T00:00:00Z"
    assert billed(rows) == running.truth("2026-10-30", "2026-10-31")


@pytest.mark.long
def test_the_time_zone_decides_the_buckets_and_all_stamps_are_utc(running: Running) -> None:
    rows, _ = running.report(
        source="estimate", start="2026-10-20", end="2026-10-22", timezone="Europe/Berlin", timeframe="day"
    )
    assert {row["ChargePeriodStart"] for row in rows} == {"2026-10-19T22:00:00Z", "2026-10-20T22:00:00Z"}
    assert billed(rows) == running.truth("2026-10-19T22:00:00Z", "2026-10-21T22:00:00Z")


@pytest.mark.parametrize(
    ("end", "length"),
    [
        ("2026-10-05T05:00Z", timedelta(hours=1)),
        pytest.param("2026-10-07", timedelta(days=1), marks=pytest.mark.long),
    ],
)
def test_the_timeframe_is_detected_from_the_window(running: Running, end: str, length: timedelta) -> None:
    rows, _ = running.report(source="estimate", start="2026-10-05", end=end)
    periods = {(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows}
    assert {datetime.fromisoformat(end) - datetime.fromisoformat(start) for start, end in periods} == {length}


@pytest.mark.parametrize("timeframe", [pytest.param("week", marks=pytest.mark.long), "month"])
def test_the_timeframe_can_be_chosen(running: Running, timeframe: str) -> None:
    rows, _ = running.report(source="estimate", start="2026-10-05", end="2026-10-12", timeframe=timeframe)
    expected = running.truth(**OCTOBER) if timeframe == "month" else running.truth("2026-10-05", "2026-10-12")
    assert billed(rows) == expected


def test_minutes_are_fals_alone(running: Running) -> None:
    query = {"source": "estimate", "start": "2026-11-01T10:00Z", "end": "2026-11-01T10:30Z", "timeframe": "minute"}
    assert running.refusal(**query) == (
        400,
        "timeframe minute is finer than the ledger's hours; add live=true to get it from fal",
    )
    rows, headers = running.report(**query, live="true")
    assert headers["fal-exporter-answered-by"] == "fal"
    assert rows == rows_of(running.fals_own(**query))


@pytest.mark.long
def test_a_window_is_widened_to_whole_buckets_unless_it_is_not_to_be(running: Running) -> None:
    query = {"source": "estimate", "start": "2026-10-05T06:00Z", "end": "2026-10-06T18:00Z", "timeframe": "day"}
    assert billed(running.report(**query)[0]) == running.truth("2026-10-05", "2026-10-07")
    exactly, _ = running.report(**query, bound_to_timeframe="false")
    assert billed(exactly) == running.truth("2026-10-05T06:00:00Z", "2026-10-06T18:00:00Z")


@pytest.mark.long
def test_what_there_is_not_is_refused_with_a_sentence_and_never_a_header_alone(running: Running) -> None:
    for query, sentence in (
        ({"source": "invoice", "charge_month": "2026-12"}, "no invoice has been issued for 2026-12"),
        ({"source": "invoice", "charge_month": "2026-12", "live": "false"}, "no invoice for charges of 2026-12"),
        ({"source": "invoice", "charge_month": "2026-06", "live": "false"}, "2026-06"),
        ({"source": "estimate", "start": "2026-06-01", "end": "2026-07-01"}, "the ledger has nothing of 2026-06-01"),
    ):
        status, told = running.refusal(**query)
        assert status == 404
        assert sentence in told


def test_the_command_line_and_agents_take_the_same_words(
    running: Running, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = {"source": "estimate", "start": "2026-10-05", "end": "2026-10-12", "timezone": "UTC", "timeframe": "week"}
    query["bound_to_timeframe"] = "true"
    truth = running.truth("2026-10-05", "2026-10-12")
    options = [word for name, value in query.items() for word in (f"--{name.replace('_', '-')}", value)]
    path = tmp_path / "week.csv"
    ledger = f"sqlite:///{running.ledger}"
    assert command("focus", "export", *options, "--ledger-url", ledger, "--output", str(path)) == 0
    assert billed(rows_of(path.read_text())) == truth
    capsys.readouterr()
    assert command("focus", "fetch", *options, "--folder", str(tmp_path)) == 0
    assert billed(rows_of(Path(capsys.readouterr().out.strip()).read_text())) == truth
    document = running.tool("fal-get-focus", **query).structured_content
    assert document is not None
    assert sum(Decimal(row["billed_cost"]) for row in document["totals"]) == truth
    invoiced = running.tool("fal-get-focus", source="invoice", charge_month="2026-10").structured_content
    assert invoiced is not None
    assert invoiced["answered_by"] == "fal"


def test_an_account_without_the_report_is_answered_from_the_ledger(running: Running) -> None:
    # The last test, as the refusal is believed for an hour; reports that are kept go on answering.
    running.fal.simulator.faults.add(Fault("feature_disabled", path="*/focus"))
    address = f"{running.exporter.url}/v1/billing/focus"
    headers = HTTP.head(address, params={"source": "invoice", "billing_month": "2026-11"}, timeout=60).headers
    assert headers["fal-exporter-answered-by"] == "ledger"
    assert headers["fal-exporter-note"].startswith("Made from the ledger")
    status, sentence = running.refusal(source="tagged-estimate", start="2026-10-01", end="2026-10-02", timeframe="week")
    assert status == 404
    assert "ask fal to enable it" in sentence
    assert sentence.endswith("source=estimate answers from the ledger")
    assert running.file(source="invoice", charge_month="2026-10").headers["fal-exporter-answered-by"] == "fal"
