"""REST calls, declared once, and how a request to one is read.

The calls, declared once: read by their declaration, and described by it at `/openapi.json` and `/docs`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from starlette.types import Scope

from exporter.charges import HOUR, NANO, Amounts, Invoice, Window
from exporter.forecasting import drivers as causes
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast
from exporter.forecasting.what_if import Setting, WhatIf
from exporter.machines import AppSettings, Efficiency, Parts
from exporter.publication import Publication
from exporter.queries import drivers, focus, forecasts, invoices, machine_documents, machines, models, parameters, usage
from exporter.queries.coverage import Coverage
from exporter.queries.forecasts import AccountsAnswer, BudgetsAnswer
from exporter.queries.live import LivePart
from exporter.queries.parameters import Given, Parameter, QuestionError
from exporter.queries.usage import UsageAnswer, UsageRow, unchecked
from exporter.web.auth import JSON, Refusal
from exporter.web.negotiation import wants_gzip

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerReader

_LONGEST_URL = 8192
_MOST_PARAMETERS = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body.

    Attributes:
        gzipped: whether gzip is taken.
        known: what `If-None-Match` says.
    """

    path: str
    query: str
    method: str
    accept: str
    gzipped: bool
    known: str

    @property
    def is_head(self) -> bool:
        """True if only the headers are wanted."""
        return self.method == "HEAD"

    def texts(self, known: Iterable[Parameter[object]]) -> Mapping[str, str]:
        """Return the parameters that were given; a list that is given in several is one comma list.

        Raises:
            QuestionError: there are too many, one that is no list is given twice, or one is not known.
        """
        try:
            pairs = parse_qsl(self.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise QuestionError("query", f"has more than {_MOST_PARAMETERS} parameters") from None
        known = tuple(known)
        lists = {parameter.name for parameter in known if parameter.is_list}
        texts: dict[str, str] = {}
        Given(dict(pairs), known)
        for name, text in pairs:
            if name in texts and name not in lists:
                raise QuestionError(name, "is given more than once; it takes one value")
            texts[name] = f"{texts[name]},{text}" if name in texts else text
        return texts


def read_request(scope: Scope) -> Request | Refusal:
    """Return a request, or why it is refused whatever it asks for."""
    query: bytes = scope["query_string"]
    if len(scope.get("raw_path") or b"") + len(query) > _LONGEST_URL:
        return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"the URL is longer than {_LONGEST_URL} bytes; shorten it")
    if scope["method"] not in {"GET", "HEAD"}:
        message = "this is read-only: use GET or HEAD"
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, message, headers={"allow": "GET, HEAD"})
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b"," + value if name in headers else value
    if headers.get(b"content-length", b"0").strip() != b"0" or b"transfer-encoding" in headers:
        message = "the request must not have a body; put the parameters into the URL"
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, headers={"connection": "close"})
    return Request(
        path=scope["path"],
        query=query.decode("latin-1"),
        method=scope["method"],
        accept=headers.get(b"accept", b"").decode("latin-1"),
        gzipped=wants_gzip(headers.get(b"accept-encoding", b"").decode("latin-1")),
        known=headers.get(b"if-none-match", b"").decode("latin-1"),
    )


_OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
_NOVEMBER = Window(_OCTOBER.end, datetime(2026, 12, 1, tzinfo=UTC))
_NOW = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
_MICRO = NANO // 10**6

_ROWS = (
    UsageRow(
        {"model": "fal-ai/veo3", "gpu_class": ""},
        Amounts(list_cost=412 * NANO, discount=41_200_000_000, cost=370_800_000_000),
        {"second": 1030 * NANO},
    ),
    UsageRow(
        {"model": "", "gpu_class": "H100"},
        Amounts(gpu_seconds=86_400 * NANO, list_cost=108 * NANO, cost=108 * NANO),
        {"second": 86_400 * NANO},
    ),
)

USAGE = UsageAnswer(
    start=_OCTOBER.start,
    end=_OCTOBER.end,
    group_by=("model", "gpu_class"),
    timezone="UTC",
    rows=_ROWS,
    total=UsageRow({}, _ROWS[0].amounts.plus(_ROWS[1].amounts), {"second": 87_430 * NANO}),
    coverage=Coverage(
        data_through=datetime(2026, 11, 21, 13, tzinfo=UTC),
        settled_through=datetime(2026, 11, 19, 13, tzinfo=UTC),
        available_from=datetime(2026, 9, 1, tzinfo=UTC),
        complete=True,
        notes=(),
    ),
    next_cursor=None,
    notes=(),
)

INVOICES = (
    Invoice(
        account="default",
        id="inv_4HcZ2XkQ",
        number="FAL-2026-0010",
        status="open",
        period_start=_OCTOBER.start,
        period_end=_OCTOBER.end,
        issued_at=datetime(2026, 11, 2, tzinfo=UTC),
        due_at=datetime(2026, 11, 16, tzinfo=UTC),
        currency="USD",
        subtotal=478_800_000_000,
        credits=-5 * NANO,
        tax=90_022_000_000,
        total=563_822_000_000,
    ),
)

ACCOUNTS = AccountsAnswer(
    _NOW,
    (
        AccountOutlook(
            account="default",
            month=_NOVEMBER,
            balance=7_374_792_800,
            balance_at=_NOW,
            runway=9 * HOUR + timedelta(minutes=20),
            spend=318_250 * 1000 * _MICRO,
            forecast=Forecast(expected=455 * NANO, low=441_500_000_000, high=472_250_000_000),
            credit_floor=0,
        ),
    ),
)

BUDGETS = BudgetsAnswer(
    _NOW,
    (
        BudgetOutlook(
            budget="studio",
            period="month",
            window=_NOVEMBER,
            limit=400 * NANO,
            match={"team": ("studio-*",)},
            thresholds=(Fraction(1, 2), Fraction(4, 5), Fraction(1)),
            spend=318_250 * 1000 * _MICRO,
            forecast=Forecast(expected=455 * NANO, low=441_500_000_000, high=472_250_000_000),
            burn={"1h": 1.4, "6h": 1.25, "1d": 1.1, "3d": 1.05},
        ),
    ),
)

_FLUX = causes.Item("default", "model_apis", "fal-ai/flux/dev", "", "", "image")
_VEO = causes.Item("default", "model_apis", "fal-ai/veo3", "", "", "second")
_COMPARED = causes.drivers(
    {_FLUX: causes.Purchase(4000 * NANO, 100 * NANO, 100 * NANO)},
    {
        _FLUX: causes.Purchase(5000 * NANO, 150 * NANO, 150 * NANO),
        _VEO: causes.Purchase(75 * NANO, 30 * NANO, 30 * NANO),
    },
)

DRIVERS = drivers.DriversAnswer(
    window=drivers.Side(_NOVEMBER.start, datetime(2026, 11, 21, tzinfo=UTC), 180 * NANO, complete=True),
    compare=drivers.Side(_OCTOBER.start, datetime(2026, 10, 21, tzinfo=UTC), 100 * NANO, complete=True),
    timezone="UTC",
    difference=80 * NANO,
    parts=causes.total(_COMPARED),
    items=_COMPARED,
    others=drivers.Others(0, 0, causes.NO_PARTS),
    notes=(),
)

_IDLE_APP = Parts(running=41_250_000_000, idle=412 * NANO, pending=6_500_000_000, draining=2_250_000_000)

MACHINES = machines.MachinesAnswer(
    start=_NOVEMBER.start,
    end=datetime(2026, 11, 21, 15, tzinfo=UTC),
    timezone="UTC",
    apps=(
        machines.AppMachines(
            account="default",
            app="upscale-preview",
            environment="staging",
            gpu_class="A100",
            spend=_IDLE_APP,
            gpu_seconds=Parts(148_500 * NANO, 1_483_200 * NANO, 23_400 * NANO, 8_100 * NANO),
            settings=AppSettings("default", "studio", "upscale-preview", "staging", "GPU-A100", 600, 1, 4, _NOW),
        ),
    ),
    spend=_IDLE_APP,
    gpu_seconds=Parts(148_500 * NANO, 1_483_200 * NANO, 23_400 * NANO, 8_100 * NANO),
    requests=(
        Efficiency(
            account="default",
            product="serverless",
            name="upscale-preview",
            requests=5_280,
            succeeded=5_016,
            failed=264,
            cold_starts=87,
            cost=_IDLE_APP.total,
            cost_per_success=round(Fraction(_IDLE_APP.total, 5_016)),
            failed_cost=2_062_500_000,
            start_cost=6_500_000_000,
            start_seconds=23_400 * NANO,
        ),
    ),
    coverage=replace(USAGE.coverage, complete=False),
    what_if=(
        WhatIf(
            account="default",
            app="upscale-preview",
            environment="staging",
            present=Setting(600, 1),
            proposed=Setting(600, 0),
            hours=168,
            least=61_400_000_000,
            likely=84_150_000_000,
            most=96_200_000_000,
            likely_starts=31,
            most_starts=62,
        ),
    ),
    notes=("Hours after 2026-11-21T13:00Z are not complete yet.",),
)

FOCUS = "BilledCost,BillingAccountId,BillingAccountName,BillingCurrency,...\n0.075,default,default,USD,...\n"

CSV = "text/csv"

AMOUNTS = parameters.choice(
    "amounts",
    "How amounts are written: as exact JSON numbers, or as strings for clients that parse numbers as floats. Default: "
    "number.",
    ("number", "string"),
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of answers.

    Attributes:
        ledger: returns the reader; to be called in a thread.
        publication: the latest; None before the first.
        zone: the configured time zone.
        now: an aware instant.
        live: what fal has answered of the window that is asked for.
        check: called now and then while an answer is made; raises where nobody waits for it any more.
    """

    ledger: Callable[[], "LedgerReader"]
    publication: Publication | None
    zone: ZoneInfo
    now: datetime
    live: tuple[LivePart, ...] = ()
    check: Callable[[], None] = unchecked


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        name: a word for it, unique.
        title: what it answers, in a few words.
        meaning: the same in sentences.
        model: of the answer; None where it is a text.
        example: an answer, as a document or a text.
        answer: makes the document; None where it is streamed.
        from_ledger: whether it is made from the ledger, not from the latest publication.
        is_usage: whether fal is asked for what the ledger does not have.
    """

    path: str
    name: str
    title: str
    meaning: str
    parameters: tuple[Parameter[object], ...]
    model: type[BaseModel] | None
    example: BaseModel | str
    answer: Callable[[Sources, Mapping[str, str]], BaseModel] | None
    from_ledger: bool = True
    is_usage: bool = False
    media_type: str = JSON

    @property
    def told(self) -> str:
        """The answer in a sentence, with the parameters."""
        names = ", ".join(
            f"`{parameter.name}`"
            for parameter in self.parameters
            if parameter.name not in {AMOUNTS.name, "limit", "cursor"}
        )
        return f"{self.title[0].lower()}{self.title[1:]}; {names}"


def _usage(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = usage.parse_usage_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot() as ledger:
        return models.Usage.model_validate(usage.answer_usage(ledger, question, sources.live, check=sources.check))


def _machines(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = machines.parse_machines_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot() as ledger:
        return machine_documents.Machines.model_validate(machines.answer_machines(ledger, question))


def _invoices(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = invoices.parse_invoices_question(texts)
    with sources.ledger().snapshot() as ledger:
        return models.Invoices.model_validate(invoices.answer_invoices(ledger, question))


def _drivers(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = drivers.parse_drivers_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot() as ledger:
        return models.Drivers.model_validate(drivers.answer_drivers(ledger, question))


def _balance(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Balances.model_validate(forecasts.answer_accounts(sources.publication, texts))


def _budgets(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Budgets.model_validate(forecasts.answer_budgets(sources.publication, texts))


def _forecast(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Forecasts.model_validate(forecasts.answer_accounts(sources.publication, texts))


CALLS = (
    Call(
        path="/v1/billing/usage",
        name="usage",
        title="Usage and spend of a window",
        meaning="Usage and cost by any combination of dimensions, exact to the nano-dollar and consistent with "
        "`/metrics`. An object in the format of fal's reporting API. Hours that the ledger does not have are read from "
        "fal if `live` allows it, and marked.",
        parameters=(*usage.PARAMETERS, AMOUNTS),
        model=models.Usage,
        example=models.Usage.model_validate(USAGE),
        answer=_usage,
        is_usage=True,
    ),
    Call(
        path="/v1/billing/drivers",
        name="drivers",
        title="Why spend went up or down",
        meaning="The difference between two windows, split exactly into price, volume, mix, new and vanished models, "
        "discount and surge, in total and for each model or app; the parts add up to the difference to the "
        "nano-dollar. From the ledger alone.",
        parameters=(*drivers.PARAMETERS, AMOUNTS),
        model=models.Drivers,
        example=models.Drivers.model_validate(DRIVERS),
        answer=_drivers,
    ),
    Call(
        path="/v1/billing/machines",
        name="machines",
        title="Runners by state: the idle bill",
        meaning="What the runners of your own apps cost in a window while they ran, were idle, started and ended, with "
        "each app's settings; the states add up to the spend to the nano-dollar. And what requests of apps and models "
        "cost: by success, on failures, on cold starts. From the ledger alone.",
        parameters=(*machines.PARAMETERS, AMOUNTS),
        model=machine_documents.Machines,
        example=machine_documents.Machines.model_validate(MACHINES),
        answer=_machines,
    ),
    Call(
        path="/v1/billing/invoices",
        name="invoices",
        title="Invoices",
        meaning="Invoices with every field that fal sends, newest first, and the configured account as "
        f"`{models.OWN_ACCOUNT}`. fal does not document their format; the known fields are assumed.",
        parameters=(*invoices.PARAMETERS, AMOUNTS),
        model=models.Invoices,
        example=models.Invoices.model_validate(INVOICES),
        answer=_invoices,
    ),
    Call(
        path="/v1/billing/balance",
        name="balance",
        title="Credit balance, runway and locks",
        meaning="The prepaid credit of each account, how long it lasts at the recent burn rate, and whether fal has "
        "locked the account.",
        parameters=(*forecasts.ACCOUNT_PARAMETERS, AMOUNTS),
        model=models.Balances,
        example=models.Balances.model_validate(ACCOUNTS),
        answer=_balance,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/budgets",
        name="budgets",
        title="Budgets",
        meaning="Each configured budget in its current period: spend, remaining amount and forecast.",
        parameters=(*forecasts.BUDGET_PARAMETERS, AMOUNTS),
        model=models.Budgets,
        example=models.Budgets.model_validate(BUDGETS),
        answer=_budgets,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/forecast",
        name="forecast",
        title="Forecast of the month",
        meaning="Forecast cost of the current month for each account, with a band that contains it in 80% of cases.",
        parameters=(*forecasts.ACCOUNT_PARAMETERS, AMOUNTS),
        model=models.Forecasts,
        example=models.Forecasts.model_validate(ACCOUNTS),
        answer=_forecast,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/focus",
        name="focus",
        title="A FOCUS Cost and Usage file (CSV)",
        meaning="Charges as a file of the FinOps Open Cost and Usage Specification, streamed: the invoice of a month, "
        "or an estimate of a window. The parameters are those of fal's own report. Where fal answers, its report is "
        "passed on unchanged; otherwise the ledger answers, with one row per charge and period. Headers: "
        "`fal-exporter-answered-by` says who answered (`fal` or `ledger`), `fal-exporter-missing-hours` counts the "
        "hours of the window that the ledger has not read completely, `fal-exporter-read-at` says when fal's report "
        "was read, and `fal-exporter-note` has further remarks. 404 or 409 if there is nothing to answer with.",
        parameters=focus.PARAMETERS,
        model=None,
        example=FOCUS,
        answer=None,
        media_type=CSV,
    ),
)
"""All of them, in the order in which they are shown."""
