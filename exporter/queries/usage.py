"""Usage: what was used and spent in a window, by any of some dimensions, page by page."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, get_args
from zoneinfo import ZoneInfo

from exporter.calendar import Every, bucket_start, first_hour_of, month_after
from exporter.charges import HOUR, NOTHING, Amounts, Dimensions, Window, hour_of
from exporter.queries import parameters
from exporter.queries.coverage import Coverage, coverage, parts_of, unread_by_tags, wanted_sources
from exporter.queries.live import LIVE, LivePart, LiveQuestion, live_questions
from exporter.queries.parameters import Parameter, QuestionError
from exporter.tags import BESIDE_TAGS, TAG

if TYPE_CHECKING:
    from exporter.ledger.accounting.coverage import ScopeState
    from exporter.ledger.reader import LedgerSnapshot
    from exporter.ledger.tables.span_totals import UsageSum

PATTERN = r"^[0-9]{1,20}\.[0-9a-f]{16}\.[0-9]{1,7}\.[0-9]{1,9}$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an answer.

    Attributes:
        revision: of the charges that the first page was answered from: rows of two states add up to neither.
        fingerprint: of the question.
        hour: number of the hour at which the part begins that has been told in part.
        offset: how many of its rows have been told.
    """

    revision: int
    fingerprint: str
    hour: int
    offset: int

    def __str__(self) -> str:
        return f"{self.revision}.{self.fingerprint}.{self.hour}.{self.offset}"

    def check(self, fingerprint: str) -> None:
        """Make sure that the cursor belongs to a question.

        Raises:
            QuestionError: it does not.
        """
        if self.fingerprint != fingerprint:
            raise QuestionError(
                "cursor",
                "belongs to another question; repeat the parameters of the first page, with start and end from its "
                "answer",
            )


def parse_cursor(text: str) -> Cursor:
    """Read a cursor as it was written.

    Raises:
        ValueError: the text is not a cursor.
    """
    if not (text.isascii() and re.fullmatch(PATTERN[1:-1], text)):
        raise ValueError("is not a cursor; pass the next_cursor of an answer unchanged")
    revision, fingerprint_, hour, offset = text.split(".")
    return Cursor(int(revision), fingerprint_, int(hour), int(offset))


def fingerprint(*parts: object) -> str:
    """Return a short text that tells one question from another."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


DIMENSIONS = ("model", "app", "gpu_class", "account", "team", "product", "api_key", "member")
"""Dimensions to group and filter by; the first three are the reporting interface's own."""

_CALLERS = frozenset({"api_key", "member"})

TIMES: tuple[Every, ...] = get_args(Every)
"""From the finest to the coarsest."""

MOST_ROWS = 10_000
"""In one answer."""

CHANGED = (
    "Charges have changed since the first page was answered, so the pages do not add up to one state of the ledger; "
    "start again without cursor for consistent figures."
)

NO_CALLERS = (
    "Charges are not known by API key or member here: that takes api_key or member in FAL_EXPORTER_LABELS, and the "
    "source models or organization."
)

START = parameters.instant(
    "start",
    "Start, ISO 8601; in `timezone` if it has no offset. Rounded down to the whole UTC hour. Default: 24 hours before "
    "`end`.",
    "2026-10-01",
)
END = parameters.instant(
    "end", "End, exclusive, in the format of `start`. Rounded up to the whole UTC hour. Default: now.", "2026-11-01"
)
TAG_KEY = parameters.Further(r"^tag:[a-z0-9._-]{1,64}$", "tag:KEY")
"""A configured tag, as a dimension."""

GROUP_BY = parameters.choices(
    "group_by",
    "Dimensions to group by, comma-separated. Days and months are in `timezone`. `tag:KEY` is a configured tag, such "
    "as `tag:customer`; it goes with `account`, `model`, `hour`, `day` and `month`. Default: one row for everything.",
    (*DIMENSIONS, *TIMES),
    "model,gpu_class",
    further=TAG_KEY,
)
TIMEZONE = parameters.time_zone(
    "timezone",
    "IANA time zone of days, months and times without an offset. Default: the configured one "
    "(`FAL_EXPORTER_TIMEZONE`).",
)
LIMIT = parameters.whole_number("limit", f"Maximum number of rows in an answer. Default: {MOST_ROWS}.", 1, MOST_ROWS)
CURSOR = Parameter(
    "cursor",
    "`next_cursor` of the previous answer, with otherwise the same parameters. If charges have changed since, `notes` "
    "says so.",
    {"type": "string", "pattern": PATTERN},
    "4711.0123456789abcdef.492000.1000",
    parse_cursor,
)
FILTERS = tuple(
    parameters.values(name, f"Only {plural}, comma-separated. Default: all.", example)
    for name, plural, example in (
        ("model", "these models", "fal-ai/flux/dev"),
        ("app", "these apps", "my-app"),
        ("gpu_class", "these GPU classes", "H100"),
        ("account", "these accounts", "default"),
        ("team", "these teams", "research"),
        ("product", "these product lines", "serverless"),
        ("api_key", "these API keys, by alias or id", "checkout"),
        ("member", "these members of the organization, by login", "ada"),
    )
)
TAGS = parameters.pairs(
    "tag",
    "Only spend with these tags, as KEY=VALUE, comma-separated; several values of a key are alternatives, and "
    "`untagged` is what has none. Default: all.",
    "customer=acme",
)
PARAMETERS: tuple[Parameter[object], ...] = (START, END, GROUP_BY, TIMEZONE, *FILTERS, TAGS, LIVE, LIMIT, CURSOR)
_DAY = timedelta(hours=24)
_DIGITS = 15
_HOURS_OF_A_PIECE = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """A question about usage.

    Attributes:
        window: whole UTC hours.
        notes: how the window came to be another than was asked for.
        group_by: of DIMENSIONS and TIMES, as asked for.
        where: the values wanted of a dimension; a dimension that is not named is not filtered by.
        zone: of days and months.
        limit: of rows.
        live: whether fal is asked; of `exporter.queries.live.Mode`.
    """

    window: Window
    notes: tuple[str, ...]
    group_by: tuple[str, ...]
    where: Mapping[str, frozenset[str]]
    zone: ZoneInfo
    limit: int = MOST_ROWS
    cursor: Cursor | None = None
    live: str = "auto"

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts that are asked for; none for all."""
        return self.where.get("account", frozenset())

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Dimensions to group by beside time."""
        return tuple(name for name in self.group_by if name not in TIMES)

    @property
    def tags(self) -> tuple[str, ...]:
        """Keys of the tags that are grouped or filtered by."""
        names = dict.fromkeys((*self.group_by, *self.where))
        return tuple(name.removeprefix(TAG) for name in names if name.startswith(TAG))

    @property
    def is_about_callers(self) -> bool:
        """True if API keys or members are grouped or filtered by."""
        return not _CALLERS.isdisjoint((*self.group_by, *self.where))

    @property
    def every(self) -> Every | None:
        """The finest period that is asked for."""
        return next((name for name in TIMES if name in self.group_by), None)

    @property
    def fingerprint(self) -> str:
        """Text that identifies the question, whatever page of it is asked for."""
        filters = sorted((name, sorted(found)) for name, found in self.where.items())
        return fingerprint(str(self.window), self.group_by, filters, self.zone.key, self.live)

    def live_questions(
        self, scopes: "Iterable[ScopeState]", kept_from: datetime | None, now: datetime
    ) -> tuple[LiveQuestion, ...]:
        """Return what is to be asked of fal; see `exporter.queries.live.live_questions`.

        Fal is not asked for keys, members and tags: what it answers live is not known by them.
        """
        return live_questions(
            "false" if self.is_about_callers or self.tags else self.live,
            self.window,
            self.every,
            self.zone,
            accounts=self.where.get("account"),
            scopes=scopes,
            kept_from=kept_from,
            now=now,
        )


class UsageRow(NamedTuple):
    """Sums of one group of charges.

    Attributes:
        group: what they have in common, by the names of the question's `group_by`; empty where they have none.
        amounts: in nano-units; `quantity` is 0, since quantities of different units have no sum.
        quantities: nano-units by unit.
    """

    group: Mapping[str, str]
    amounts: Amounts
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """Answer to a question about usage.

    Attributes:
        start, end: whole UTC hours, half-open.
        rows: in order of time, then the most expensive first.
        total: of the whole window, not only of these rows.
        next_cursor: where the next rows begin; None where there are none.
        notes: sentences that a reader of the figures has to know.
        live: the parts that fal was asked for and has answered.
    """

    start: datetime
    end: datetime
    group_by: tuple[str, ...]
    timezone: str
    rows: tuple[UsageRow, ...]
    total: UsageRow
    coverage: Coverage
    next_cursor: str | None
    notes: tuple[str, ...]
    live: tuple[LivePart, ...] = ()
    currency: str = "USD"


def parse_usage_question(given: Mapping[str, str], *, now: datetime, zone: ZoneInfo) -> UsageQuestion:
    """Read a question from the texts of its parameters.

    Args:
        given: by the names of PARAMETERS.
        now: an aware instant.
        zone: where the question names none.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
    """
    texts = parameters.Given(given, PARAMETERS)
    zone = texts.get(TIMEZONE) or zone
    window, notes = whole_hours(texts.get(START), texts.get(END), now=now, zone=zone)
    question = UsageQuestion(
        window=window,
        notes=notes,
        group_by=texts.get(GROUP_BY) or (),
        where={**read_filters(texts), **{f"{TAG}{key}": found for key, found in (texts.get(TAGS) or {}).items()}},
        zone=zone,
        limit=texts.get(LIMIT) or MOST_ROWS,
        cursor=texts.get(CURSOR),
        live=texts.get(LIVE) or "auto",
    )
    if question.live == "true" and question.is_about_callers:
        raise QuestionError("live", "cannot be true with api_key or member, which only the ledger knows; leave it out")
    if question.tags:
        _check_tags(question)
    return question


def _check_tags(question: UsageQuestion) -> None:
    """Make sure that tags are asked for together with what they are known by.

    Raises:
        QuestionError: they are not.
    """
    if question.live == "true":
        raise QuestionError("live", "cannot be true with tags, which only the ledger knows; leave it out")
    for name in (*question.dimensions, *question.where):
        if not name.startswith(TAG) and name not in BESIDE_TAGS:
            raise QuestionError(
                "group_by" if name in question.group_by else name,
                "cannot be combined with tags, which are known by account, model, hour, day and month",
            )


def read_filters(texts: parameters.Given) -> Mapping[str, frozenset[str]]:
    """Return the values wanted of each dimension that is filtered by.

    Raises:
        QuestionError: a filter cannot be read.
    """
    where = {}
    for parameter in FILTERS:
        wanted = texts.get(parameter)
        if wanted is not None:
            where[parameter.name] = frozenset(map(str.upper, wanted)) if parameter.name == "gpu_class" else wanted
    return where


def whole_hours(
    start: parameters.LocalTime | None, end: parameters.LocalTime | None, *, now: datetime, zone: ZoneInfo
) -> tuple[Window, tuple[str, ...]]:
    """Return the whole hours that hold a span, and a note where that is more than was asked for.

    Raises:
        QuestionError: the span is empty.
    """
    until = now.astimezone(UTC) if end is None else parameters.aware(end, zone)
    since = until - _DAY if start is None else parameters.aware(start, zone)
    if since >= until:
        raise QuestionError("start", "is not before end, which is exclusive and defaults to now")
    window = Window(hour_of(since), hour_of(until + HOUR - timedelta(microseconds=1)))
    asked = (start is not None and since != window.start) or (end is not None and until != window.end)
    note = f"The ledger keeps whole UTC hours: the window was widened to {window}."
    return window, (note,) if asked else ()


def unchecked() -> None:
    """Let an answer be made to its end."""


def answer_usage(
    ledger: "LedgerSnapshot",
    question: UsageQuestion,
    live: Iterable[LivePart] = (),
    *,
    check: Callable[[], None] = unchecked,
) -> UsageAnswer:
    """Answer a question from one state of the ledger, and from what fal has answered of its window.

    A page that follows goes on in the present state. Where charges have changed since the first page was answered, a
    note says so, as the pages then add up to no single state.

    Args:
        ledger: one state of it.
        question: what is asked.
        live: parts that the question's `live_questions` have been answered with.
        check: called before every sum; what it raises ends the answer.

    Raises:
        QuestionError: the ledger does not count an account, or the cursor belongs to another question.
        NoDataYetError: nothing has been read from fal yet.
        LedgerError: the ledger cannot be read.
    """
    notes = question.notes
    charges = _Charges(ledger, question, live, check)
    if question.cursor is not None:
        question.cursor.check(question.fingerprint)
        if question.cursor.revision != charges.revision:
            notes = (*notes, CHANGED)
    check_keys(ledger, question.tags)
    sources = wanted_sources(ledger.scopes(), question.where.get("account", ()), told=charges.told)
    parts = parts_of(question.window, sources, charges.told)
    known = coverage(sources, parts, {part: ledger.rejected_rows(part) for part in parts}, ledger.kept_from())
    if question.every in {None, "month"}:
        whole = charges.sums(question.window)
        rows, cursor = _page(question, charges.revision, [(question.window, lambda: whole)])
    else:
        whole = charges.usage(question.window, (), "month")
        pieces = ((piece, partial(charges.sums, piece)) for piece in _pieces(question, whole))
        rows, cursor = _page(question, charges.revision, pieces)
    untagged = tuple(unread_by_tags(ledger, question.window, sources)) if question.tags else ()
    return UsageAnswer(
        start=question.window.start,
        end=question.window.end,
        group_by=question.group_by,
        timezone=question.zone.key,
        rows=tuple(_rows(question, rows)),
        total=_total(whole),
        coverage=replace(known, complete=known.complete and charges.is_whole and not untagged),
        next_cursor=None if cursor is None else str(cursor),
        notes=(
            *notes,
            *(note for part in charges.parts for note in part.notes),
            *known.notes,
            *((NO_CALLERS,) if question.is_about_callers and not ledger.tells_callers else ()),
            *untagged,
        ),
        live=tuple(part for part in charges.parts if not part.problem),
    )


def check_keys(ledger: "LedgerSnapshot", keys: Iterable[str]) -> None:
    """Make sure that spend is read by tags of these keys.

    Raises:
        QuestionError: it is not.
    """
    if not {*keys} <= {*ledger.tag_keys}:
        known_keys = f"accepted are {', '.join(ledger.tag_keys)}" if ledger.tag_keys else "FAL_EXPORTER_TAGS is not set"
        raise QuestionError("tag", f"is not one of those that spend is read by; {known_keys}")


class _Charges:
    """Charges of a question's window: of each account what fal has answered, and from there on what the ledger has.

    Attributes:
        parts: what fal was asked for.
        told: by account, up to where fal has answered.
        revision: of all charges; another one once any of them may have changed.
        is_whole: whether fal has answered whatever it was asked, with every row that it has of hours that are over.
    """

    def __init__(
        self, ledger: "LedgerSnapshot", question: UsageQuestion, live: Iterable[LivePart], check: Callable[[], None]
    ) -> None:
        self._check = check
        self.parts = tuple(live)
        self._ledger = ledger
        self._question = question
        self._answered = tuple(part for part in self.parts if not part.problem)
        self.told = {part.account: part.end for part in self._answered}
        self.revision = _revision(ledger.charges_revision, self._answered)
        self.is_whole = all(part.is_whole for part in self.parts)

    def sums(self, window: Window) -> tuple["UsageSum", ...]:
        """Return the sums that the question asks for in a part of its window."""
        return self.usage(window, self._question.dimensions, self._question.every)

    def usage(self, window: Window, by: Sequence[str], every: Every | None) -> tuple["UsageSum", ...]:
        """Add up charges; see `LedgerSnapshot.usage`."""
        self._check()
        question = self._question
        if question.tags:
            return self._ledger.tagged_usage(window, by, every, zone=question.zone, where=question.where)
        if not self._answered:
            return self._ledger.usage(window, by, every, zone=question.zone, where=question.where)
        known: dict[tuple[datetime | None, tuple[str, ...]], UsageSum] = {}
        for found in chain(self._from_ledger(window, by, every), self._from_fal(window, by, every)):
            key = self._period(found.at, every), found.group
            before = known.get(key)
            known[key] = found._replace(at=key[0]) if before is None else _together(before, found)
        return tuple(known.values())

    def _period(self, at: datetime | None, every: Every | None) -> datetime | None:
        """Return the start of the bucket that holds an hour, of the first one that of the question's window."""
        if at is None or every is None:
            return None
        return max(bucket_start(at, every, self._question.zone), self._question.window.start)

    def _from_ledger(self, window: Window, by: Sequence[str], every: Every | None) -> Iterator["UsageSum"]:
        question = self._question
        wanted = question.where.get("account") or {scope.account for scope in self._ledger.scopes()}
        starts: defaultdict[datetime, set[str]] = defaultdict(set)
        for account in wanted:
            starts[max(window.start, self.told.get(account, window.start))].add(account)
        for start, accounts in starts.items():
            if start < window.end:
                where = {**question.where, "account": accounts}
                yield from self._ledger.usage(Window(start, window.end), by, every, zone=question.zone, where=where)

    def _from_fal(self, window: Window, by: Sequence[str], every: Every | None) -> Iterator["UsageSum"]:
        """Yield one sum for each period, group and unit; what rows have in common is worked out once."""
        from exporter.ledger.tables.span_totals import UsageSum  # noqa: PLC0415  with the ledger, not before

        periods: dict[datetime, datetime | None] = {}
        kinds: dict[Dimensions, tuple[tuple[str, ...], str] | None] = {}
        sums: dict[tuple[datetime | None, tuple[tuple[str, ...], str]], Amounts] = {}
        for part in self._answered:
            for at, dimensions, amounts in part.of(window):
                if at not in periods:
                    periods[at] = self._period(at, every)
                if dimensions not in kinds:
                    kinds[dimensions] = self._kind(dimensions, by)
                kind = kinds[dimensions]
                if kind is not None:
                    key = periods[at], kind
                    before = sums.get(key)
                    sums[key] = amounts if before is None else before.plus(amounts)
        for (period, (group, unit)), summed in sums.items():
            if summed != NOTHING:
                quantities = {unit: summed.quantity} if summed.quantity else {}
                yield UsageSum(period, group, summed._replace(quantity=0), quantities)

    def _kind(self, dimensions: Dimensions, by: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
        """Return group and unit of what has these dimensions; None if it is not asked for."""
        from exporter.ledger.tables.span_totals import MACHINE_SECOND  # noqa: PLC0415  with the ledger, not before

        if any(getattr(dimensions, name) not in values for name, values in self._question.where.items()):
            return None
        is_machine = dimensions.product in {"serverless", "compute"} and dimensions.unit == "second"
        return tuple(getattr(dimensions, name) for name in by), MACHINE_SECOND if is_machine else dimensions.unit


def _together(one: "UsageSum", other: "UsageSum") -> "UsageSum":
    quantities = Counter(one.quantities)
    quantities.update(other.quantities)
    return one._replace(amounts=one.amounts.plus(other.amounts), quantities=dict(sorted(quantities.items())))


def _revision(of_ledger: int, live: Iterable[LivePart]) -> int:
    answers = [(part.account, str(part.window), str(part.as_of)) for part in live]
    return int(fingerprint(of_ledger, answers)[:_DIGITS], 16) if answers else of_ledger


def _pieces(question: UsageQuestion, months: Iterable["UsageSum"]) -> Iterator[Window]:
    """Yield windows that hold all charges, in order, each with few enough rows to be asked for at once."""
    for month in months:
        start = month.at or question.window.start
        following = month_after(start.astimezone(question.zone).date().replace(day=1))
        whole = Window(
            max(start, question.window.start), min(first_hour_of(following, question.zone), question.window.end)
        )
        yield from whole.pieces(_HOURS_OF_A_PIECE) if question.every == "hour" else (whole,)


def _page(
    question: UsageQuestion, revision: int, pieces: Iterable[tuple[Window, Callable[[], Iterable["UsageSum"]]]]
) -> tuple[list["UsageSum"], Cursor | None]:
    """Return the rows of a page, and where the next begins; pieces that come after it are not asked for."""
    begin = question.cursor
    rows: list[UsageSum] = []
    for piece, ask in pieces:
        hour = (piece.start - _EPOCH) // HOUR
        if begin is not None and hour < begin.hour:
            continue
        skipped = begin.offset if begin is not None and hour == begin.hour else 0
        left = sorted(ask(), key=_rank)[skipped:]
        room = question.limit - len(rows)
        rows += left[:room]
        if len(left) > room:
            return rows, Cursor(revision, question.fingerprint, hour, skipped + room)
    return rows, None


def _rank(found: "UsageSum") -> tuple[datetime, int, tuple[str, ...]]:
    return found.at or _EPOCH, -found.amounts.cost, found.group


def _rows(question: UsageQuestion, sums: Iterable["UsageSum"]) -> Iterator[UsageRow]:
    names = question.dimensions
    at: datetime | None = None
    times: dict[str, str] = {}
    for found in sums:
        cells = dict(zip(names, found.group, strict=True))
        if found.at is not None:
            if found.at != at:
                at, local = found.at, found.at.astimezone(question.zone)
                times = {"hour": f"{at:%Y-%m-%dT%H:%M:%SZ}", "day": f"{local:%Y-%m-%d}", "month": f"{local:%Y-%m}"}
            cells |= times
            cells = {name: cells[name] for name in question.group_by}
        yield UsageRow(cells, found.amounts, found.quantities)


def _total(sums: Iterable["UsageSum"]) -> UsageRow:
    known = tuple(sums)
    amounts = map(sum, zip(NOTHING, *[found.amounts for found in known], strict=True))
    quantities: dict[str, int] = {}
    for found in known:
        for unit, quantity in found.quantities.items():
            quantities[unit] = quantities.get(unit, 0) + quantity
    return UsageRow({}, Amounts(*amounts), dict(sorted(quantities.items())))
