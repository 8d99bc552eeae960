"""Since when there is something: the hour of every series' first charge, and what is told of it."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, or_, select

from exporter.charges import Dimensions
from exporter.ledger import facts
from exporter.ledger.restatement import Difference
from exporter.ledger.schema import MEASURES, charges, hour_number, hour_start, series, span_totals
from exporter.ledger.series_rows import Scope
from exporter.ledger.span_totals import SPANS
from exporter.samples import PagedTable, Pages, Sample

Thing = tuple[str, str, str, str]
"""Account, product, model and app."""

_UNSURE = timedelta(days=7)
"""What is first charged so soon after the start of the known history may be older than that."""


def read(connection: Connection) -> dict[int, int]:
    """Return the hour of each series' first charge, without those that have none any more."""
    known = select(series.c.id, series.c.first_hour).where(series.c.first_hour.is_not(None))
    return dict(map(tuple, connection.execute(known).all()))


def rebuild(connection: Connection) -> None:
    """Find all first hours in a ledger that did not keep them; what has been folded began before the horizon."""
    rows = connection.execute(select(charges.c.series_id, func.min(charges.c.hour)).group_by(charges.c.series_id))
    found: dict[int, int | None] = dict(map(tuple, rows.all()))
    horizon = int(facts.read(connection, facts.HORIZON) or 0)
    folded = select(series.c.id).where(or_(*(series.c[f"folded_{name}"] != 0 for name in MEASURES)))
    found.update(dict.fromkeys(connection.scalars(folded), horizon - 1))
    _write(connection, found)


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
    _write(connection, moved)
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


def _write(connection: Connection, first_hours: Mapping[int, int | None]) -> None:
    if first_hours:
        connection.execute(
            series.update().where(series.c.id == bindparam("at")).values(first_hour=bindparam("to")),
            [{"at": number, "to": hour} for number, hour in first_hours.items()],
        )


class FirstSeen:
    """When everything was first charged, laid out on pages anew when that has changed."""

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
