"""REST calls, declared once, and how a request to one is read.

The calls, declared once: read by their declaration, and described by it at `/openapi.json` and `/docs`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from starlette.types import Scope

from exporter.publication import Publication
from exporter.queries import (
    drivers,
    forecasts,
    invoices,
    machines,
    models,
    parameters,
    requests,
    usage,
    usage_documents,
)
from exporter.queries.coverage import lacking
from exporter.queries.exact_json import exact_json, text_json
from exporter.queries.focus.question import PARAMETERS as FOCUS_PARAMETERS
from exporter.queries.live import LivePart
from exporter.queries.parameters import Given, Parameter, QuestionError
from exporter.queries.requests import NOT_READ, NoRequestsError
from exporter.web.auth import JSON, Refusal
from exporter.web.negotiation import wants_gzip
from exporter.web.rest import examples

if TYPE_CHECKING:
    from exporter.events.store import EventReader
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
        texts: dict[str, str] = {}
        Given(dict(pairs), known)
        for name, text in pairs:
            if name in texts and not any(parameter.is_list for parameter in known if parameter.name == name):
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
        requests: returns the store of single requests; to be called in a thread. None where they are not read.
        usage_question: what is asked about usage; None where that is still to be read from the parameters.
    """

    ledger: Callable[[], "LedgerReader"]
    publication: Publication | None
    zone: ZoneInfo
    now: datetime
    live: tuple[LivePart, ...] = ()
    check: Callable[[], None] = usage.unchecked
    requests: "Callable[[], EventReader] | None" = None
    usage_question: usage.UsageQuestion | None = None

    def store(self) -> "EventReader":
        """Return the store of single requests.

        Raises:
            NoRequestsError: they are not read.
            EventsError: it cannot be opened.
        """
        if self.requests is None:
            raise NoRequestsError(NOT_READ)
        return self.requests()


Made = BaseModel | usage.UsageAnswer
"""A document; usage without one, as it may have ten thousand rows."""


def answer_text(made: Made, *, quoted: bool) -> str:
    """Return an answer as JSON, its amounts as texts or as numbers."""
    if isinstance(made, usage.UsageAnswer):
        return usage_documents.usage_json(made, quoted=quoted)
    return text_json(made) if quoted else exact_json(made)


MadeFrom = Literal["ledger", "publication", "requests"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        name: a word for it, unique.
        title: what it answers, in a few words.
        meaning: the same in sentences.
        model: of the answer; None where it is a text.
        example: an answer, as a document or a text.
        answer: makes the document, or what `answer_text` makes one of; None where it is streamed.
        made_from: the ledger, the latest publication, or the store of single requests.
        is_usage: whether fal is asked for what the ledger does not have.
        path_parameters: those that stand in the path, in braces.
    """

    path: str
    name: str
    title: str
    meaning: str
    parameters: tuple[Parameter[object], ...]
    model: type[BaseModel] | None
    example: BaseModel | str
    answer: Callable[[Sources, Mapping[str, str]], Made] | None
    made_from: MadeFrom = "ledger"
    is_usage: bool = False
    media_type: str = JSON
    path_parameters: tuple[Parameter[object], ...] = ()

    def matched(self, path: str) -> Mapping[str, str] | None:
        """Return the parameters that stand in a path; None where it is not this call's."""
        parts, given = self.path.split("/"), path.split("/")
        if len(parts) != len(given):
            return None
        found = {}
        for part, text in zip(parts, given, strict=True):
            if part[:1] == "{":
                found[part[1:-1]] = text
            elif part != text:
                return None
        return found

    @property
    def told(self) -> str:
        """The answer in a sentence, with the parameters."""
        names = ", ".join(
            f"`{parameter.name}`"
            for parameter in self.parameters
            if parameter.name not in {AMOUNTS.name, "limit", "cursor"}
        )
        return f"{self.title[0].lower()}{self.title[1:]}; {names}"


def _usage(sources: Sources, texts: Mapping[str, str]) -> usage.UsageAnswer:
    question = sources.usage_question or usage.parse_usage_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot(sources.check) as ledger:
        found = usage.answer_usage(ledger, question, sources.live, check=sources.check)
    return replace(found, notes=(*found.notes, *lacking(sources.publication, question.accounts)))


def _machines(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = machines.parse_machines_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot(sources.check) as ledger:
        return models.Machines.model_validate(machines.answer_machines(ledger, question))


def _invoices(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = invoices.parse_invoices_question(texts)
    with sources.ledger().snapshot(sources.check) as ledger:
        return invoices.Invoices.model_validate(invoices.answer_invoices(ledger, question))


def _drivers(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    question = drivers.parse_drivers_question(texts, now=sources.now, zone=sources.zone)
    with sources.ledger().snapshot(sources.check) as ledger:
        found = drivers.answer_drivers(ledger, question)
    return models.Drivers.model_validate(
        replace(found, notes=(*found.notes, *lacking(sources.publication, question.accounts)))
    )


def _balance(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Balances.model_validate(forecasts.answer_accounts(sources.publication, texts))


def _budgets(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Budgets.model_validate(forecasts.answer_budgets(sources.publication, texts))


def _forecast(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    return models.Forecasts.model_validate(forecasts.answer_accounts(sources.publication, texts))


def _requests(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    store = sources.store()
    with sources.ledger().snapshot(sources.check) as ledger:
        question = requests.parse_requests_question(
            texts, now=sources.now, zone=sources.zone, key_labels=ledger.key_labels
        )
        found = requests.answer_requests(store, question, ledger, now=sources.now)
    return models.Requests.model_validate(found)


def _request(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    store = sources.store()
    with sources.ledger().snapshot(sources.check) as ledger:
        labels = ledger.key_labels
    found = requests.answer_request(store, texts[requests.REQUEST_ID.name], labels)
    return models.BilledRequest.model_validate(found)


def _request_differences(sources: Sources, texts: Mapping[str, str]) -> BaseModel:
    store = sources.store()
    with sources.ledger().snapshot(sources.check) as ledger:
        found = requests.answer_differences(store, ledger, texts, now=sources.now)
    return models.RequestDifferences.model_validate(found)


CALLS = (
    Call(
        path="/v1/billing/usage",
        name="usage",
        title="Usage and spend of a window",
        meaning="Usage and cost by any combination of dimensions, exact to the nano-dollar and consistent with "
        "`/metrics`. An object in the format of fal's reporting API. Hours that the ledger does not have are read from "
        "fal if `live` allows it, and marked.",
        parameters=(*usage.PARAMETERS, AMOUNTS),
        model=usage_documents.Usage,
        example=usage_documents.Usage.model_validate(examples.USAGE),
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
        example=models.Drivers.model_validate(examples.DRIVERS),
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
        model=models.Machines,
        example=models.Machines.model_validate(examples.MACHINES),
        answer=_machines,
    ),
    Call(
        path="/v1/billing/requests",
        name="requests",
        title="Single requests",
        meaning="Charged requests of model endpoints, the dearest or the newest first, with the API key, the tags and "
        "the exact cost of each. From the store that `EVENTS` fills, minutes after fal charges; 404 where requests are "
        "not read. Requests of your own apps are not among them: fal charges those by the second.",
        parameters=(*requests.PARAMETERS, AMOUNTS),
        model=models.Requests,
        example=models.Requests.model_validate(examples.REQUESTS),
        answer=_requests,
        made_from="requests",
    ),
    Call(
        path="/v1/billing/requests/differences",
        name="request_differences",
        title="Requests beside the ledger",
        meaning="For each settled hour and model, whether the requests add up to what the ledger charges: two "
        "interfaces of fal that agree to the nano-dollar, or the hours and models in which they do not.",
        parameters=(*requests.DIFFERENCES_PARAMETERS, AMOUNTS),
        model=models.RequestDifferences,
        example=models.RequestDifferences.model_validate(examples.DIFFERENCES),
        answer=_request_differences,
        made_from="requests",
    ),
    Call(
        path="/v1/billing/requests/{request_id}",
        name="request",
        title="One request by its id",
        meaning="What one request cost. 404 if no request with this id is known, or requests are not read.",
        parameters=(AMOUNTS,),
        model=models.BilledRequest,
        example=models.BilledRequest.model_validate(examples.REQUEST),
        answer=_request,
        made_from="requests",
        path_parameters=(requests.REQUEST_ID,),
    ),
    Call(
        path="/v1/billing/invoices",
        name="invoices",
        title="Invoices",
        meaning="Invoices with every field that fal sends, newest first, and the configured account as "
        f"`{invoices.OWN_ACCOUNT}`. fal does not document their format; the known fields are assumed.",
        parameters=(*invoices.PARAMETERS, AMOUNTS),
        model=invoices.Invoices,
        example=invoices.Invoices.model_validate(examples.INVOICES),
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
        example=models.Balances.model_validate(examples.ACCOUNTS),
        answer=_balance,
        made_from="publication",
    ),
    Call(
        path="/v1/billing/budgets",
        name="budgets",
        title="Budgets",
        meaning="Each configured budget in its current period: spend, remaining amount and forecast.",
        parameters=(*forecasts.BUDGET_PARAMETERS, AMOUNTS),
        model=models.Budgets,
        example=models.Budgets.model_validate(examples.BUDGETS),
        answer=_budgets,
        made_from="publication",
    ),
    Call(
        path="/v1/billing/forecast",
        name="forecast",
        title="Forecast of the month",
        meaning="Forecast cost of the current month for each account, with a band that contains it in 80% of cases.",
        parameters=(*forecasts.ACCOUNT_PARAMETERS, AMOUNTS),
        model=models.Forecasts,
        example=models.Forecasts.model_validate(examples.ACCOUNTS),
        answer=_forecast,
        made_from="publication",
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
        parameters=FOCUS_PARAMETERS,
        model=None,
        example=examples.FOCUS,
        answer=None,
        media_type=CSV,
    ),
)
"""All of them, in the order in which they are shown."""
