"""Hours: what each cost by series, which have changed, and the first hour of every series.

For whoever keeps sums of its own over many hours: it asks for all of them once, and then again for those that were
touched.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, or_, select

from exporter.charges import HOUR, Dimensions, Window, hour_number, hour_start
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.restatement import Difference
from exporter.ledger.tables import schema
from exporter.ledger.tables.schema import MEASURES, charges, series, span_totals
from exporter.ledger.tables.span_totals import SPANS
from exporter.samples import PagedTable, Pages, Sample

Thing = tuple[str, str, str, str]
"""Account, product, model and app."""

_UNSURE = timedelta(days=7)
"""Time after the start of the known history within which a first charge may be older than it looks."""


def read(connection: Connection) -> dict[int, int]:
    """Return the hour of each series' first charge, without those that have none any more."""
    known = select(series.c.id, series.c.first_hour).where(series.c.first_hour.is_not(None))
    return dict(map(tuple, connection.execute(known).all()))


def rebuild(connection: Connection) -> None:
    """Find all first hours in a ledger that did not keep them; what has been folded began before the horizon."""
    rows = connection.execute(select(charges.c.series_id, func.min(charges.c.hour)).group_by(charges.c.series_id))
    found: dict[int, int | None] = dict(map(tuple, rows.all()))
    horizon = int(schema.read(connection, schema.HORIZON) or 0)
    folded = select(series.c.id).where(or_(*(series.c[f"folded_{name}"] != 0 for name in MEASURES)))
    found.update(dict.fromkeys(connection.scalars(folded), horizon - 1))
    write(connection, found)


def update(
    connection: Connection, scope: int, known: Mapping[int, int], difference: Difference
) -> dict[int, int | None]:
    """Save and return the first hours that a restatement has moved; its charges and totals have been written."""
    earliest = {row[1]: row[0] for row in reversed(difference.added)}
    moved: dict[int, int | None] = {
        number: hour for number, hour in earliest.items() if number not in known or hour < known[number]
    }
    gone = {number for hour, number in difference.removed if known.get(number) == hour and number not in moved}
    moved |= _search(connection, scope, gone)
    write(connection, moved)
    return moved


def _search(connection: Connection, scope: int, wanted: set[int]) -> dict[int, int | None]:
    """Find the first hours of some series of a scope, each in its first span."""
    found: dict[int, int | None] = dict.fromkeys(wanted)
    if not wanted:
        return found
    length = SPANS[0]
    spans: dict[int, set[int]] = {}
    for number, span in connection.execute(
        select(span_totals.c.series_id, func.min(span_totals.c.span))
        .where(span_totals.c.scope_id == scope, span_totals.c.length == length)
        .group_by(span_totals.c.series_id)
    ):
        if number in wanted:
            spans.setdefault(span, set()).add(number)
    for span, numbers in spans.items():
        rows = connection.execute(
            select(charges.c.series_id, func.min(charges.c.hour))
            .where(charges.c.scope_id == scope, charges.c.hour >= span * length, charges.c.hour < (span + 1) * length)
            .group_by(charges.c.series_id)
        )
        found.update((number, hour) for number, hour in rows if number in numbers)
    return found


def write(connection: Connection, first_hours: Mapping[int, int | None]) -> None:
    """Save first hours by series."""
    if first_hours:
        connection.execute(
            series.update().where(series.c.id == bindparam("at")).values(first_hour=bindparam("to")),
            [{"at": number, "to": hour} for number, hour in first_hours.items()],
        )


class FirstSeen:
    """Instants of first charges, laid out on pages anew when they have changed."""

    def __init__(self, first_hours: Mapping[int, int]) -> None:
        self.first_hours = dict(first_hours)
        self._table: PagedTable[Thing] = PagedTable()
        self._shown: list[tuple[int, datetime | None]] | None = None

    def move(self, moved: Mapping[int, int | None]) -> None:
        """Take up first hours that have moved."""
        for number, hour in moved.items():
            if hour is None:
                self.first_hours.pop(number, None)
            else:
                self.first_hours[number] = hour
            self._shown = None

    def pages(self, scopes: Iterable[Scope], series_of: Callable[[int], Mapping[Dimensions, int]]) -> Pages:
        """Return it for what some scopes have, in seconds since 1970, without what may be older than is known."""
        shown = [(scope.id, scope.history_from) for scope in scopes]
        if shown != self._shown:
            self._shown = shown
            self._table.replace_all(self._samples(shown, series_of))
        return self._table.pages()

    def _samples(
        self, scopes: Iterable[tuple[int, datetime | None]], series_of: Callable[[int], Mapping[Dimensions, int]]
    ) -> dict[Thing, Sample]:
        found: dict[Thing, int] = {}
        unsure: set[Thing] = set()
        for scope, history_from in scopes:
            sure_from = None if history_from is None else hour_number(history_from + _UNSURE)
            for dimensions, number in series_of(scope).items():
                hour = self.first_hours.get(number)
                if hour is None:
                    continue
                thing = (dimensions.account, dimensions.product, dimensions.model, dimensions.app)
                found[thing] = min(hour, found.get(thing, hour))
                if sure_from is None or hour < sure_from:
                    unsure.add(thing)
        return {
            thing: Sample(thing, hour_start(hour).timestamp()) for thing, hour in found.items() if thing not in unsure
        }


HourlyCosts = dict[datetime, dict[int, int]]
"""Nano-USD by series, for every hour of a window, those that cost nothing too."""

_REMEMBERED = 10_000


def read_hourly(connection: Connection, scopes: Collection[int], window: Window) -> HourlyCosts:
    """Return what the series of some scopes cost in each hour of a window."""
    first = hour_number(window.start)
    hours: list[dict[int, int]] = [{} for _ in range(len(window))]
    rows = connection.execute(
        select(charges.c.hour, charges.c.series_id, charges.c.cost).where(
            charges.c.scope_id.in_(scopes), charges.c.hour >= first, charges.c.hour < first + len(window)
        )
    )
    for hour, series_id, cost in rows:
        hours[hour - first][series_id] = cost
    return dict(zip(window.hours(), hours, strict=True))


class TouchedHours:
    """Hours changed by each revision; knows nothing of what came before `since`."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._spans: deque[tuple[int, Window]] = deque()

    def note(self, revision: int, hours: Iterable[int]) -> None:
        """Note that a revision has changed hours, by their numbers."""
        for window in _runs(sorted(set(hours))):
            self._spans.append((revision, window))
        while len(self._spans) > _REMEMBERED:
            self._since = self._spans.popleft()[0]

    def after(self, revision: int) -> tuple[Window, ...] | None:
        """Return what was touched after a revision, each hour at most once, in order; None if that is not known."""
        if revision < self._since:
            return None
        touched = {hour for at, window in self._spans if at > revision for hour in window.hours()}
        return tuple(_runs(sorted(map(hour_number, touched))))


def _runs(hours: Iterable[int]) -> Iterable[Window]:
    run: list[int] = []
    for hour in hours:
        if run and hour != run[-1] + 1:
            yield Window(hour_start(run[0]), hour_start(run[-1]) + HOUR)
            run = []
        run.append(hour)
    if run:
        yield Window(hour_start(run[0]), hour_start(run[-1]) + HOUR)
