"""Single requests: the dearest or the newest of a window, one by its id, and where they differ from the ledger."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.charges import HOUR, BilledRequest, Window, hour_of, nano
from exporter.errors import EventsError, FalExporterError
from exporter.events.progress import read_progress
from exporter.events.questions import Place, RequestsQuestion, StoredRequest
from exporter.events.summaries import Compared, Difference, HourSummary, compare
from exporter.queries import parameters
from exporter.queries.coverage import check_accounts
from exporter.queries.parameters import Given, Parameter, QuestionError
from exporter.queries.usage import fingerprint
from exporter.tags import MODEL_SOURCES

if TYPE_CHECKING:
    from exporter.events.store import EventReader
    from exporter.ledger.accounting.key_labels import KeyLabels
    from exporter.ledger.reader import LedgerSnapshot

MOST_REQUESTS = 1_000
_REQUESTS = 100
_DAY = timedelta(hours=24)
_UTC = ZoneInfo("UTC")
_LONGEST_ID = 200
_LEAST = timedelta(microseconds=1)
_NAMED = 3
"""Spans of missing hours that a sentence names."""

_PRODUCT = "model_apis"
NOT_READ = (
    "single requests are not read here; set FAL_EXPORTER_EVENTS=true, with the extra installed "
    "(fal-exporter[events]), and restart"
)

_CURSOR = r"^[0-9a-f]{16}\.-?[0-9]{1,20}\..{1,200}$"
_TAG = re.compile(r"(?P<name>[a-z0-9._-]{1,64})=(?P<value>.{1,256})")
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class NoRequestsError(FalExporterError):
    """Single requests are not read, or none has the id that is asked for."""


def _read_cursor(text: str) -> tuple[str, Place]:
    if not re.fullmatch(_CURSOR[1:-1], text):
        raise ValueError("is not a cursor; pass the next_cursor of an answer unchanged")
    told, value, request_id = text.split(".", 2)
    return told, Place(int(value), request_id)


def _read_tags(text: str) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in text.split(","):
        match = _TAG.fullmatch(pair)
        if match is None:
            raise ValueError("is not a comma-separated list of name=value; write it like customer=acme")
        found.setdefault(match["name"], set()).add(match["value"])
    return {name: frozenset(values) for name, values in found.items()}


def _read_amount(text: str) -> int:
    if not _AMOUNT.fullmatch(text):
        raise ValueError("is not an amount in US dollars; write it like 0.25")
    try:
        return nano(Decimal(text))
    except (ValueError, InvalidOperation):
        raise ValueError("is not an amount in US dollars; write it like 0.25") from None


START = parameters.instant(
    "start",
    "Start, ISO 8601; in `timezone` if it has no offset. Default: 24 hours before `end`.",
    "2026-11-01",
)
END = parameters.instant("end", "End, exclusive, in the format of `start`. Default: now.", "2026-12-01")
TIMEZONE = parameters.time_zone(
    "timezone", "IANA time zone of `start` and `end` without an offset. Default: the configured one."
)
TAG = Parameter(
    "tag",
    "Only requests with these tags, `name=value`, comma-separated; values of one name are alternatives.",
    {"type": "array", "items": {"type": "string", "pattern": r"^[a-z0-9._-]{1,64}=[^,]{1,256}$"}, "minItems": 1},
    "customer=acme",
    _read_tags,
)
COST_ABOVE = Parameter(
    "cost_above",
    "Only requests that cost more than this many US dollars. Default: all.",
    {"type": "string", "pattern": f"^{_AMOUNT.pattern}$"},
    "0.25",
    _read_amount,
)
SORT = parameters.choice(
    "sort", "`cost`: the dearest first; `time`: the newest first. Default: cost.", ("cost", "time")
)
LIMIT = parameters.whole_number(
    "limit", f"Maximum number of requests in an answer. Default: {_REQUESTS}.", 1, MOST_REQUESTS
)
CURSOR = Parameter(
    "cursor",
    "`next_cursor` of the previous answer, with otherwise the same parameters.",
    {"type": "string", "pattern": _CURSOR},
    "0123456789abcdef.25000000.764cabcf-b745-4b3e-ae38-1200304cf45b",
    _read_cursor,
)
_COLUMNS = (
    ("model", "these models", "fal-ai/flux/dev"),
    ("api_key", "these API keys, by alias or id", "checkout"),
    ("member", "these members of the organization, by login", "ada"),
    ("team", "these teams", "research"),
)
FILTERS = tuple(
    parameters.values(name, f"Only {plural}, comma-separated. Default: all.", example)
    for name, plural, example in _COLUMNS
)
ACCOUNT = parameters.values("account", "Only these accounts, comma-separated. Default: all.", "default")
PARAMETERS: tuple[Parameter[object], ...] = (
    START,
    END,
    TIMEZONE,
    *FILTERS,
    ACCOUNT,
    TAG,
    COST_ABOVE,
    SORT,
    LIMIT,
    CURSOR,
)
REQUEST_ID = Parameter(
    "request_id",
    "fal's id of the request, as its response says (`x-fal-request-id`).",
    {"type": "string", "minLength": 1, "maxLength": _LONGEST_ID},
    "764cabcf-b745-4b3e-ae38-1200304cf45b",
    str,
)
DIFFERENCES_PARAMETERS: tuple[Parameter[object], ...] = (
    parameters.instant(
        "start", "Start, ISO 8601, UTC if it has no offset. Default: 8 days before `end`.", "2026-11-01"
    ),
    parameters.instant("end", "End, exclusive. Default: the end of the last settled hour.", "2026-12-01"),
    ACCOUNT,
)


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request as it is told: an API key by its label."""

    account: str
    request: BilledRequest
    api_key: str


@dataclass(frozen=True, slots=True)
class RequestsAnswer:
    """A page of requests.

    Attributes:
        complete: whether every hour of the window has been read to its end, and every request of it.
        notes: what is missing, in sentences.
    """

    start: datetime
    end: datetime
    requests: tuple[RequestRow, ...]
    next_cursor: str | None
    complete: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccountDifferences:
    """An account's requests beside the ledger.

    Attributes:
        hours: how many have been compared.
        not_read: settled hours of the window that the ledger has, whose requests have not been read to their end, or
            not all, as some of their rows cannot be read.
        events, ledger: what the compared hours cost in nano-USD, by requests and by the ledger.
        differences: of each hour and model that differs.
    """

    account: str
    hours: int
    not_read: int
    events: int
    ledger: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class DifferencesAnswer:
    """Requests beside the ledger, over the settled hours of a window that both have."""

    start: datetime
    end: datetime
    accounts: tuple[AccountDifferences, ...]


def parse_requests_question(
    texts: Mapping[str, str], *, now: datetime, zone: ZoneInfo, key_labels: "KeyLabels"
) -> RequestsQuestion:
    """Read a question.

    Args:
        texts: the parameters that were given.
        now: an aware instant.
        zone: of instants without an offset, where none is named.
        key_labels: of API keys, which are asked for by label or id.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
    """
    from exporter.ledger.accounting.key_labels import values_of  # noqa: PLC0415  with the ledger, not before

    given = Given(texts, PARAMETERS)
    zone = given.get(TIMEZONE) or zone
    written_end, written_start = given.get(END), given.get(START)
    end = now if written_end is None else parameters.aware(written_end, zone)
    start = end - _DAY if written_start is None else parameters.aware(written_start, zone)
    if start >= end:
        raise QuestionError("start", "is not before end")
    where = {}
    for (name, _, _), parameter in zip(_COLUMNS, FILTERS, strict=True):
        wanted = given.get(parameter)
        if wanted is not None:
            where[name] = values_of(wanted, key_labels) if name == "api_key" else wanted
    sort = given.get(SORT)
    question = RequestsQuestion(
        start=start,
        end=end,
        accounts=given.get(ACCOUNT),
        where=where,
        tags=given.get(TAG) or {},
        cost_above=given.get(COST_ABOVE),
        sort="time" if sort == "time" else "cost",
        limit=given.get(LIMIT) or _REQUESTS,
    )
    cursor = given.get(CURSOR)
    if cursor is None:
        return question
    told, place = cursor
    if written_end is not None and told != _fingerprint(question):
        raise QuestionError("cursor", "belongs to another question; repeat the parameters of the first page")
    return replace(question, after=place)


def _fingerprint(question: RequestsQuestion) -> str:
    filters = sorted((name, sorted(found)) for name, found in (*question.where.items(), *question.tags.items()))
    accounts = None if question.accounts is None else sorted(question.accounts)
    return fingerprint(question.start, question.end, accounts, filters, question.cost_above, question.sort)


def answer_requests(
    store: "EventReader", question: RequestsQuestion, ledger: "LedgerSnapshot", *, now: datetime
) -> RequestsAnswer:
    """Return a page of requests.

    Raises:
        QuestionError: there is no such account.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    # Before the requests: what is read meanwhile may be among them, and must not be said to be there if it is not.
    notes = missing_requests(store, question, ledger, now=now)
    key_labels, damaged = ledger.key_labels, list[str]()
    wanted = of_polled(store, question, ledger)
    found = store.select(replace(wanted, limit=question.limit + 1), damaged=damaged)
    notes = (*notes, *damaged)
    page = found[: question.limit]
    cursor = None
    if len(found) > len(page):
        place = question.place_of(page[-1])
        cursor = f"{_fingerprint(question)}.{place.value}.{place.request_id}"
    rows = tuple(_row(one, key_labels) for one in page)
    return RequestsAnswer(question.start, question.end, rows, cursor, not notes, notes)


def of_polled(store: "EventReader", question: RequestsQuestion, ledger: "LedgerSnapshot") -> RequestsQuestion:
    """Return a question about the accounts that are polled, where it names none.

    The store keeps the requests of accounts that are configured no more, or under another name by now.

    Raises:
        QuestionError: there is no such account.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    return replace(question, accounts=frozenset(_accounts(store, ledger, question.accounts)))


def _accounts(store: "EventReader", ledger: "LedgerSnapshot", wanted: Collection[str] | None) -> tuple[str, ...]:
    """Return the accounts that are asked for: all that are polled have their requests read.

    Raises:
        QuestionError: one is not polled, and there are no requests of it.
    """
    polled = {scope.account for scope in ledger.scopes()}
    if wanted is None:
        return tuple(sorted(polled or store.accounts()))
    if not polled.issuperset(wanted):
        check_accounts({*polled, *store.accounts()} or wanted, wanted)
    return tuple(sorted(wanted))


def missing_requests(
    store: "EventReader", question: RequestsQuestion, ledger: "LedgerSnapshot", *, now: datetime
) -> tuple[str, ...]:
    """Return what the store lacks of the requests that a question asks for, in sentences.

    Raises:
        QuestionError: there is no such account.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    accounts, notes = _accounts(store, ledger, question.accounts), []
    start, end = hour_of(question.start), min(question.end, now)
    if question.start >= end:
        return ("The window has not begun yet.",)
    window = Window(start, hour_of(end - _LEAST) + HOUR)
    for account in accounts:
        read = store.read_hours(account, window)
        if len(read) < len(window):
            notes.append(_not_read(read, window, account) + _refusal(store, account, now))
        rejected = sum(read.values())
        if rejected:
            rows = "1 row that fal reported for" if rejected == 1 else f"{rejected} rows that fal reported for"
            notes.append(f"{rows} account {account} cannot be read; the requests are missing.")
    return tuple(notes)


def _not_read(read: Collection[datetime], window: Window, account: str) -> str:
    spans: list[tuple[datetime, datetime]] = []
    after = window.start
    for hour in (*sorted(read), window.end):
        if after < hour:
            spans.append((after, hour))
        after = hour + HOUR
    missing = len(window) - len(read)
    named = ", ".join(f"{first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}" for first, last in spans[:_NAMED])
    more = f", and {len(spans) - _NAMED} later spans" if len(spans) > _NAMED else ""
    hours = f"{missing:,} of {len(window):,} {'hour' if len(window) == 1 else 'hours'}"
    return (
        f"{hours} of account {account} {'has' if missing == 1 else 'have'} not been read to the end ({named}{more}); "
        "requests of that time can be missing."
    )


def _refusal(store: "EventReader", account: str, now: datetime) -> str:
    """Return why fal is not asked for requests now, as a sentence after another; empty while it is asked."""
    document = store.document(f"progress/{account}")
    try:
        progress = None if document is None else read_progress(document)
    except ValueError:
        return ""
    if progress is None or progress.off_until is None or progress.off_until <= now:
        return ""
    return f" fal refuses: {progress.off_reason}"


def answer_request(store: "EventReader", request_id: str, key_labels: "KeyLabels") -> RequestRow:
    """Return the request with an id.

    Raises:
        QuestionError: this can be no id.
        NoRequestsError: there is none.
        EventsError: the store cannot be read.
    """
    if not 0 < len(request_id) <= _LONGEST_ID:
        raise QuestionError("request_id", f"is not an id of 1 to {_LONGEST_ID} characters")
    damaged: list[str] = []
    found = store.find(request_id, damaged=damaged)
    if found is None and damaged:
        raise EventsError(f"no request with this id is known. {damaged[0]}")
    if found is None:
        raise NoRequestsError(
            "no request with this id is known; requests are known minutes after fal charges them, and requests of "
            "one's own apps never"
        )
    return _row(found, key_labels)


def _row(stored: StoredRequest, key_labels: "KeyLabels") -> RequestRow:
    request = stored.request
    label = key_labels.get((stored.account, request.api_key), request.api_key)
    return RequestRow(stored.account, request, label)


def answer_differences(
    store: "EventReader", ledger: "LedgerSnapshot", texts: Mapping[str, str], *, now: datetime
) -> DifferencesAnswer:
    """Compare requests with the ledger over settled hours.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
        EventsError, LedgerError: the store or the ledger cannot be read.
    """
    given = Given(texts, DIFFERENCES_PARAMETERS)
    written_start, written_end = (given.get(parameter) for parameter in DIFFERENCES_PARAMETERS[:2])
    end = hour_of(now if written_end is None else parameters.aware(written_end, _UTC))  # type: ignore[arg-type]
    start = hour_of(end - 8 * _DAY if written_start is None else parameters.aware(written_start, _UTC))  # type: ignore[arg-type]
    if start >= end:
        raise QuestionError("start", "is not at least an hour before end")
    window, wanted = Window(start, end), given.get(ACCOUNT)
    accounts = []
    models = {scope.account for scope in ledger.scopes() if scope.source in MODEL_SOURCES}
    for account in _accounts(store, ledger, wanted):
        if wanted is None and account not in models:
            continue  # the ledger has no charges that requests could be compared with
        charged = charged_by_hour(ledger, account, window)
        compared = charged.compare(store.summaries(account, window), charged.settled)
        accounts.append(
            AccountDifferences(
                account,
                compared.hours,
                charged.hours_of(window, charged.settled) - compared.hours,
                compared.events,
                compared.events - sum(compared.by_model.values()),
                compared.differences,
            )
        )
    return DifferencesAnswer(start, end, tuple(accounts))


@dataclass(frozen=True, slots=True)
class ChargedHours:
    """Charges of the ledger for model endpoints.

    Attributes:
        costs: nano-USD by hour and model.
        since, through: the ledger has every hour in [since, through); None where it has none.
        settled: until when hours are settled.
    """

    costs: Mapping[tuple[datetime, str], int]
    since: datetime | None
    through: datetime | None
    settled: datetime | None

    def compare(
        self, summaries: Iterable[HourSummary], until: datetime | None, *, with_rejected: bool = False
    ) -> Compared:
        """Compare requests with the charges of the hours that the ledger has.

        Args:
            summaries: of hours that have been read to their end.
            until: up to an instant; None is before all.
            with_rejected: whether hours count of which requests are missing, because their rows cannot be read.
        """
        if self.since is None or until is None:
            return compare((), {})
        since = self.since
        return compare(
            (
                one
                for one in summaries
                if since <= one.hour and one.hour + HOUR <= until and (with_rejected or not one.rejected)
            ),
            self.costs,
        )

    def hours_of(self, window: Window, until: datetime | None) -> int:
        """Return how many hours of a window the ledger has, up to an instant."""
        if self.since is None or until is None:
            return 0
        return max(0, (min(window.end, until) - max(window.start, self.since)) // HOUR)


def charged_by_hour(ledger: "LedgerSnapshot", account: str, window: Window) -> ChargedHours:
    """Return what the ledger charges an account for model endpoints in a window.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    scopes = [scope for scope in ledger.scopes() if scope.account == account and scope.source in MODEL_SOURCES]
    sums = ledger.usage(window, ("model",), "hour", where={"account": {account}, "product": {_PRODUCT}})
    costs = {(one.at.astimezone(UTC), one.group[0]): one.amounts.cost for one in sums if one.at is not None}
    throughs = [scope.data_through for scope in scopes if scope.data_through is not None]
    settled = [scope.settled_through for scope in scopes if scope.settled_through is not None]
    since = [scope.history_from for scope in scopes if scope.history_from is not None]
    return ChargedHours(
        costs,
        max(since) if scopes and len(since) == len(scopes) else None,
        min(throughs) if scopes and len(throughs) == len(scopes) else None,
        min(settled) if scopes and len(settled) == len(scopes) else None,
    )
