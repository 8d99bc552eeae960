"""Drivers of spend: why one window cost more or less than another, from the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of, periods_at
from exporter.charges import HOUR, SURGE, Window, hour_of
from exporter.forecasting.changes import Moves, moves
from exporter.forecasting.drivers import NO_PARTS, Driver, Item, Parts, Purchase, drivers, ranked, total
from exporter.queries import parameters
from exporter.queries.coverage import coverage, parts_of, unread_by_tags, wanted_sources
from exporter.queries.parameters import QuestionError
from exporter.queries.usage import (
    DIMENSIONS,
    FILTERS,
    NO_CALLERS,
    TAG_KEY,
    TIMEZONE,
    check_keys,
    read_filters,
    whole_hours,
)
from exporter.tags import BESIDE_TAGS, TAG

if TYPE_CHECKING:
    from exporter.ledger.accounting.coverage import ScopeState
    from exporter.ledger.reader import LedgerSnapshot

MOST_ITEMS = 1000
_ITEMS = 100
_DAY = 24 * HOUR
_DIMENSIONS = (*Item._fields, "surge")
_SPANS: Mapping[str, timedelta] = {"last_24_hours": _DAY, "last_7_days": 7 * _DAY, "last_30_days": 30 * _DAY}
WINDOWS = ("month", "last_month", "today", "yesterday", *_SPANS)

WINDOW = parameters.span(
    "window",
    "The window to explain: `month` (to date), `last_month`, `today`, `yesterday`, `last_24_hours`, `last_7_days`, "
    "`last_30_days`, or its start and end with a slash between them, ISO 8601, the end exclusive. Named windows end "
    "with the last hour that is over. Default: month.",
    WINDOWS,
    "2026-11-01/2026-11-21",
)
COMPARE = parameters.span(
    "compare",
    "The earlier window, in the same format; `previous` is as many hours of the last month for `month`, "
    "as many hours of yesterday for `today`, else what lies before the window in the same length (for "
    "`last_month` the month before). Default: previous.",
    ("previous",),
    "2026-10-01/2026-10-21",
)
LIMIT = parameters.whole_number(
    "limit",
    f"Maximum number of items; the others are summed up in `others`. Default: {_ITEMS}.",
    1,
    MOST_ITEMS,
)
GROUP_BY = parameters.choice(
    "group_by",
    "A dimension to tell who moved by: the answer then has `groups`, with what each value cost in both windows. "
    "`tag:KEY` is a configured tag, such as `tag:customer`; it goes with the filters `account` and `model`, and a "
    "window that is named and compared with `previous` ends with the last hour that has been read by tags for good. "
    "Default: none.",
    DIMENSIONS,
    further=TAG_KEY,
)
PARAMETERS: tuple[parameters.Parameter[object], ...] = (WINDOW, COMPARE, GROUP_BY, TIMEZONE, *FILTERS, LIMIT)


@dataclass(frozen=True, slots=True)
class DriversQuestion:
    """A question about the difference between two windows.

    Attributes:
        window, compare: whole UTC hours; the later one is explained by what the other cost.
        notes: how a window came to be another than was asked for.
        where: the values wanted of a dimension; a dimension that is not named is not filtered by.
        group_by: the dimension, or the tag behind `tag:`, to tell who moved by; empty for none.
        is_named: whether both windows are named, so that they end with the last hours that are known.
    """

    window: Window
    compare: Window
    notes: tuple[str, ...]
    where: Mapping[str, frozenset[str]]
    zone: ZoneInfo
    limit: int = _ITEMS
    group_by: str = ""
    is_named: bool = False

    @property
    def by_tag(self) -> bool:
        """True where it is a tag to tell who moved by."""
        return self.group_by.startswith(TAG)

    @property
    def accounts(self) -> frozenset[str]:
        """The accounts that are asked for; none for all."""
        return self.where.get("account", frozenset())


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two windows: what it cost, and whether the ledger knows every hour of it."""

    start: datetime
    end: datetime
    spend: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Others:
    """The items that are not listed, together."""

    count: int
    difference: int
    parts: Parts


@dataclass(frozen=True, slots=True)
class Groups:
    """Who moved, by a dimension or by a tag behind `tag:`."""

    group_by: str
    moves: Moves


@dataclass(frozen=True, slots=True)
class DriversAnswer:
    """The difference between two windows; the parts of all items and of the others add up to it.

    Attributes:
        items: those that moved most first.
        groups: who moved, by the dimension or tag that was asked for; None where none was.
        notes: sentences that a reader of the figures has to know.
    """

    window: Side
    compare: Side
    timezone: str
    difference: int
    parts: Parts
    items: tuple[Driver, ...]
    others: Others
    notes: tuple[str, ...]
    groups: "Groups | None" = None
    currency: str = "USD"


def parse_drivers_question(given: Mapping[str, str], *, now: datetime, zone: ZoneInfo) -> DriversQuestion:
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
    asked, against = texts.get(WINDOW) or "month", texts.get(COMPARE) or "previous"
    notes: tuple[str, ...] = ()
    if isinstance(asked, str):
        window, previous = _named(asked, now, zone)
    else:
        window, notes = _written("window", asked, now, zone)
        previous = Window(window.start - len(window) * HOUR, window.start)
    if isinstance(against, str):
        compare = previous
    else:
        compare, more = _written("compare", against, now, zone)
        notes = (*notes, *more)
    question = DriversQuestion(
        window,
        compare,
        notes,
        read_filters(texts),
        zone,
        texts.get(LIMIT) or _ITEMS,
        texts.get(GROUP_BY) or "",
        is_named=isinstance(asked, str) and isinstance(against, str),
    )
    for name in question.where if question.by_tag else ():
        if name not in BESIDE_TAGS:
            raise QuestionError(name, "cannot be combined with a tag, which is known by account and model")
    return question


def _written(
    name: str, span: tuple[parameters.LocalTime, parameters.LocalTime], now: datetime, zone: ZoneInfo
) -> tuple[Window, tuple[str, ...]]:
    try:
        return whole_hours(*span, now=now, zone=zone)
    except QuestionError:
        raise QuestionError(name, "does not start before its end, which is exclusive") from None


def _named(name: str, now: datetime, zone: ZoneInfo) -> tuple[Window, Window]:
    """Return a window up to the last hour that is over, and the one before it."""
    periods, end = periods_at(now, zone), hour_of(now)
    match name:
        case "month":
            part = _so_far(periods.month, end)
            earlier = min(periods.last_month.start + len(part) * HOUR, periods.last_month.end)
            return part, Window(periods.last_month.start, earlier)
        case "last_month":
            first = periods.last_month.start.astimezone(zone).date()
            before = first_hour_of((first - timedelta(days=1)).replace(day=1), zone)
            return periods.last_month, Window(before, periods.last_month.start)
        case "today" | "yesterday":
            today = periods.today.start.astimezone(zone).date()
            starts = [first_hour_of(today - timedelta(days=days), zone) for days in range(3)]
            if name == "yesterday":
                return Window(starts[1], starts[0]), Window(starts[2], starts[1])
            part = _so_far(periods.today, end)
            return part, Window(starts[1], min(starts[1] + len(part) * HOUR, starts[0]))
        case _:
            span = _SPANS[name]
            return Window(end - span, end), Window(end - 2 * span, end - span)


def _so_far(period: Window, end: datetime) -> Window:
    # In the first hour of a period there is only that hour.
    return Window(period.start, max(end, period.start + HOUR))


def answer_drivers(ledger: "LedgerSnapshot", question: DriversQuestion) -> DriversAnswer:
    """Answer a question from one state of the ledger.

    Raises:
        QuestionError: the ledger does not count an account.
        NoDataYetError: nothing has been read from fal yet.
        LedgerError: the ledger cannot be read.
    """
    sources = wanted_sources(ledger.scopes(), question.where.get("account", ()))
    if question.by_tag:
        check_keys(ledger, [question.group_by.removeprefix(TAG)])
        question = _read_by_tags(ledger, question, sources)
    notes, sides, bought = list(question.notes), [], []
    for window in (question.compare, question.window):
        parts = parts_of(window, sources, {})
        known = coverage(sources, parts, {part: ledger.rejected_rows(part) for part in parts}, ledger.kept_from())
        unread = tuple(unread_by_tags(ledger, window, sources)) if question.by_tag else ()
        notes += [f"{window}: {note}" for note in (*known.notes, *unread)]
        purchases = _purchases(ledger, window, question.where)
        spend = sum(purchase.cost for purchase in purchases.values())
        sides.append(Side(window.start, window.end, spend, known.complete and not unread))
        bought.append(purchases)
    if question.group_by in {"api_key", "member"} and not ledger.tells_callers:
        notes.append(NO_CALLERS)
    found = ranked(drivers(*bought))
    listed, rest = found[: question.limit], found[question.limit :]
    return DriversAnswer(
        window=sides[1],
        compare=sides[0],
        timezone=question.zone.key,
        difference=sides[1].spend - sides[0].spend,
        parts=total(found),
        items=tuple(listed),
        others=Others(len(rest), sum(driver.difference for driver in rest), total(rest) if rest else NO_PARTS),
        notes=tuple(notes),
        groups=Groups(
            question.group_by,
            moves(
                _costs(ledger, question.compare, question), _costs(ledger, question.window, question), question.limit
            ),
        )
        if question.group_by
        else None,
    )


def _read_by_tags(
    ledger: "LedgerSnapshot", question: DriversQuestion, sources: "Iterable[ScopeState]"
) -> DriversQuestion:
    """Return a question whose named windows end where the later one has been read by tags for good.

    Later hours are still called untagged. Accounts that are not read by tags at all do not count; a note names them.
    """
    window, compare = question.window, question.compare
    ends = [ledger.read_by_tags_until(account, window) for account in {scope.account for scope in sources}]
    read = [end for end in ends if end > window.start]
    if not question.is_named or not read or min(read) == window.end:
        return question
    hours = (min(read) - window.start) // HOUR
    narrowed = Window(window.start, min(read))
    note = f"The window ends at {narrowed.end:%Y-%m-%dT%H:%MZ}: later hours have not been read by tags for good yet."
    return replace(
        question,
        window=narrowed,
        compare=Window(compare.start, min(compare.start + hours * HOUR, compare.end)),
        notes=(*question.notes, note),
    )


def _costs(ledger: "LedgerSnapshot", window: Window, question: DriversQuestion) -> Mapping[str, int]:
    usage = ledger.tagged_usage if question.by_tag else ledger.usage
    return {
        found.group[0]: found.amounts.cost for found in usage(window, (question.group_by,), None, where=question.where)
    }


def _purchases(
    ledger: "LedgerSnapshot", window: Window, where: Mapping[str, frozenset[str]]
) -> Mapping[Item, Purchase]:
    sums: dict[Item, Purchase] = {}
    for found in ledger.usage(window, _DIMENSIONS, where=where):
        *names, surge = found.group
        item = Item(*names)
        cost = found.amounts.cost
        quantity, listed = sum(found.quantities.values()), cost + found.amounts.discount
        at_surge = (quantity, listed) if surge == SURGE else (0, 0)
        sums[item] = sums.get(item, Purchase()).plus(Purchase(quantity, listed, cost, *at_surge))
    return sums
