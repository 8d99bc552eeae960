"""Usage: what was used and spent in a window, by any of some dimensions, page by page."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of, month_after
from exporter.charges import HOUR, NOTHING, Amounts, Window, hour_of
from exporter.queries import parameters
from exporter.queries.coverage import Coverage, coverage
from exporter.queries.parameters import Parameter, QuestionError

if TYPE_CHECKING:
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
        ValueError: it is none.
    """
    if not (text.isascii() and re.fullmatch(PATTERN[1:-1], text)):
        raise ValueError("is not a cursor; pass the next_cursor of an answer unchanged")
    revision, fingerprint_, hour, offset = text.split(".")
    return Cursor(int(revision), fingerprint_, int(hour), int(offset))


def fingerprint(*parts: object) -> str:
    """Return a short text that tells one question from another."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


DIMENSIONS = ("model", "app", "gpu_class", "account", "team", "product")
"""Dimensions to group and filter by; the first three are the reporting interface's own."""

Every = Literal["hour", "day", "month"]
TIMES: tuple[Every, ...] = get_args(Every)
"""From the finest to the coarsest."""

MOST_ROWS = 10_000
"""In one answer."""

CHANGED = (
    "Charges have changed since the first page was answered, so the pages do not add up to one state of the ledger; "
    "start again without cursor for consistent figures."
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
GROUP_BY = parameters.choices(
    "group_by",
    "Dimensions to group by, comma-separated. Days and months are in `timezone`. Default: one row for everything.",
    (*DIMENSIONS, *TIMES),
    "model,gpu_class",
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
    )
)
PARAMETERS: tuple[Parameter[object], ...] = (START, END, GROUP_BY, TIMEZONE, *FILTERS, LIMIT, CURSOR)
_DAY = timedelta(hours=24)
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
    """

    window: Window
    notes: tuple[str, ...]
    group_by: tuple[str, ...]
    where: Mapping[str, frozenset[str]]
    zone: ZoneInfo
    limit: int = MOST_ROWS
    cursor: Cursor | None = None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Dimensions to group by beside time."""
        return tuple(name for name in self.group_by if name in DIMENSIONS)

    @property
    def every(self) -> Every | None:
        """The finest period that is asked for."""
        return next((name for name in TIMES if name in self.group_by), None)

    @property
    def fingerprint(self) -> str:
        """Tells the question from others, but for the page of it that is asked for."""
        filters = sorted((name, sorted(found)) for name, found in self.where.items())
        return fingerprint(str(self.window), self.group_by, filters, self.zone.key)


@dataclass(frozen=True, slots=True)
class UsageRow:
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
    where = {}
    for parameter in FILTERS:
        wanted = texts.get(parameter)
        if wanted is not None:
            where[parameter.name] = frozenset(map(str.upper, wanted)) if parameter.name == "gpu_class" else wanted
    return UsageQuestion(
        window=window,
        notes=notes,
        group_by=texts.get(GROUP_BY) or (),
        where=where,
        zone=zone,
        limit=texts.get(LIMIT) or MOST_ROWS,
        cursor=texts.get(CURSOR),
    )


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
        raise QuestionError("start", "is not before end, which is exclusive; the end left out is now")
    window = Window(hour_of(since), hour_of(until + HOUR - timedelta(microseconds=1)))
    asked = (start is not None and since != window.start) or (end is not None and until != window.end)
    note = f"The ledger keeps whole UTC hours: the window was widened to {window}."
    return window, (note,) if asked else ()


def answer_usage(ledger: "LedgerSnapshot", question: UsageQuestion) -> UsageAnswer:
    """Answer a question from one state of the ledger.

    A page that follows goes on in the present state. Where charges have changed since the first page was answered, a
    note says so, as the pages then add up to no single state.

    Raises:
        QuestionError: the ledger does not count an account, or the cursor belongs to another question.
        NoDataYetError: nothing has been read from fal yet.
        LedgerError: the ledger cannot be read.
    """
    notes = question.notes
    if question.cursor is not None:
        question.cursor.check(question.fingerprint)
        if question.cursor.revision != ledger.charges_revision:
            notes = (*notes, CHANGED)
    known = coverage(ledger, question.window, question.where.get("account", ()))
    if question.every in {None, "month"}:
        whole = _sums(ledger, question, question.window)
        rows, cursor = _page(question, ledger.charges_revision, [(question.window, lambda: whole)])
    else:
        whole = ledger.usage(question.window, (), "month", zone=question.zone, where=question.where)
        pieces = ((piece, partial(_sums, ledger, question, piece)) for piece in _pieces(question, whole))
        rows, cursor = _page(question, ledger.charges_revision, pieces)
    return UsageAnswer(
        start=question.window.start,
        end=question.window.end,
        group_by=question.group_by,
        timezone=question.zone.key,
        rows=tuple(_row(question, found) for found in rows),
        total=_total(whole),
        coverage=known,
        next_cursor=None if cursor is None else str(cursor),
        notes=(*notes, *known.notes),
    )


def _sums(ledger: "LedgerSnapshot", question: UsageQuestion, window: Window) -> tuple["UsageSum", ...]:
    return ledger.usage(window, question.dimensions, question.every, zone=question.zone, where=question.where)


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


def _row(question: UsageQuestion, found: "UsageSum") -> UsageRow:
    cells = dict(zip(question.dimensions, found.group, strict=True))
    if found.at is not None:
        local = found.at.astimezone(question.zone)
        cells |= {"hour": f"{found.at:%Y-%m-%dT%H:%M:%SZ}", "day": f"{local:%Y-%m-%d}", "month": f"{local:%Y-%m}"}
    return UsageRow({name: cells[name] for name in question.group_by}, found.amounts, found.quantities)


def _total(sums: Iterable["UsageSum"]) -> UsageRow:
    amounts = NOTHING
    quantities: Counter[str] = Counter()
    for found in sums:
        amounts = amounts.plus(found.amounts)
        quantities.update(found.quantities)
    return UsageRow({}, amounts, dict(sorted(quantities.items())))
