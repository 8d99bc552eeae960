"""Sums of charges by series in the memory of a reader: what any window holds is the difference of two sums.

Of each scope there are the sums from the first day that was asked for to the start of every day, and for the hours of a
day at which a window begins or ends those within that day. Days whose marks have changed are read again (see
`tables.changes`); nothing else is read twice. All numbers are exact: where a sum does not fit into 64 bits, or where so
many would take too much memory, the answer is left to the totals in the database (`tables.span_totals`).
"""

import json
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from operator import add, eq, itemgetter, sub
from threading import Lock
from typing import NamedTuple, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Connection, Executable, Text, bindparam, cast, func, select
from sqlalchemy.sql.functions import aggregate_strings

from exporter.charges import NANO, Amounts
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.restatement import HOURS_OF_DAY
from exporter.ledger.tables.changes import MARKS, Marks, marks_of
from exporter.ledger.tables.schema import DIMENSIONS, MEASURES, charges, series, span_totals
from exporter.ledger.tables.span_totals import PARTS, SumKey, Sums, summed_unit

Places: TypeAlias = "array[int] | range"
"""Places of series among all of a scope, to which new ones are added at the end."""

Column: TypeAlias = "array[int] | None"
"""64-bit sums of one measure, by series; None for zeros."""

_Group = tuple[tuple[str, ...], str]
"""Values of dimensions, and the summed unit."""

_MOST_CELLS = 4_000_000
"""Sums that are kept of whole days; eight bytes each."""

_MOST_HOUR_CELLS = 4_000_000
"""Sums that are kept of hours within days: every hour of a month with as many series as one may have."""

_MOST_START_CELLS = 32_768
"""Sums of groups that are kept for each grouping."""

_MOST_GROUPINGS = 16


def _listed(*columns: ColumnElement[int]) -> list[ColumnElement[str]]:
    """Return columns as lists of numbers as text.

    The database makes them without holding up the other threads of this process, which it does with every row that it
    hands over. All of a row are in the same order, whatever that is.
    """
    return [aggregate_strings(cast(column, Text), ",") for column in columns]


_DAYS = (
    select(span_totals.c.span, *_listed(span_totals.c.series_id, *PARTS))
    .where(
        span_totals.c.scope_id == bindparam("scope"),
        span_totals.c.length == HOURS_OF_DAY,
        span_totals.c.span >= bindparam("first"),
        span_totals.c.span < bindparam("end"),
    )
    .group_by(span_totals.c.span)
)
_HOURS = (
    select(charges.c.hour, *_listed(charges.c.series_id, *(charges.c[name] for name in MEASURES)))
    .where(
        charges.c.scope_id == bindparam("scope"),
        charges.c.hour >= bindparam("first"),
        charges.c.hour < bindparam("end"),
    )
    .group_by(charges.c.hour)
)
_of_scope = charges.c.scope_id == bindparam("scope")
_EXTENT = select(
    select(func.min(charges.c.hour)).where(_of_scope).scalar_subquery(),
    select(func.max(charges.c.hour)).where(_of_scope).scalar_subquery(),
)
_SERIES = (
    select(series.c.id, summed_unit, *(series.c[name] for name in DIMENSIONS))
    .where(series.c.scope_id == bindparam("scope"), series.c.id > bindparam("known"))
    .order_by(series.c.id)
)

_Sum: TypeAlias = Callable[[int, int], int]
_Sums: TypeAlias = "list[Sequence[int] | None]"
"""Sums of the groups, by measure; None for zeros."""

_Lists: TypeAlias = "tuple[int, *tuple[str, ...]]"
"""Number of a day or an hour, series, and sums of these: lists of numbers as text."""

_ZEROS = "0,"

_Of = TypeVar("_Of")
_Made = TypeVar("_Made")

_first = itemgetter(0)


class _TooMuchError(Exception):
    """The sums do not fit into what they may take."""


def _each(function: Callable[[_Of, _Of], _Made], ones: Sequence[_Of], others: Sequence[_Of]) -> list[_Made]:
    """Return what becomes of every measure; once for two that are the same, as costs are without discount."""
    made: dict[tuple[int, int], _Made] = {}
    found = []
    for one, other in zip(ones, others, strict=True):
        key = id(one), id(other)
        if key not in made:
            made[key] = function(one, other)
        found.append(made[key])
    return found


class _Piece(NamedTuple):
    """Sums of some series; equal columns are one, such as list cost and cost where there is no discount."""

    places: Places
    columns: tuple[Column, ...]

    @property
    def cells(self) -> int:
        """Numbers in it."""
        apart = {id(column): column for column in (self.places, *self.columns) if isinstance(column, array)}
        return sum(map(len, apart.values()))


_NONE = _Piece(range(0), (None,) * len(MEASURES))


class _Grouping:
    """Series by what a question groups them by; adds up columns by group.

    Args:
        members: places of the series of each group.
    """

    def __init__(self, members: Mapping[_Group, list[int]]) -> None:
        self.keys = tuple(members)
        self._places = [place for places in members.values() for place in places]
        ends = [0]
        for places in members.values():
            ends.append(ends[-1] + len(places))
        self._slices = [slice(first, end) for first, end in pairwise(ends)]
        self._is_flat = len(self._slices) == len(self._places)
        self._pick = _picking(self._places)
        self._starts: OrderedDict[int, tuple[_Piece, _Sums]] = OrderedDict()

    def sums(self, piece: _Piece, size: int) -> _Sums:
        """Return the sums of the groups, by measure; None for zeros."""
        apart = {id(column): column for column in piece.columns}
        made = {key: None if column is None else self._sum(piece.places, column, size) for key, column in apart.items()}
        return [made[id(column)] for column in piece.columns]

    def starts(self, day: int, piece: _Piece, size: int) -> _Sums:
        """Return the sums of the groups up to the start of a day, of a piece; made once for windows that share it."""
        kept = self._starts.get(day)
        if kept is not None and kept[0] is piece:
            self._starts.move_to_end(day)
            return kept[1]
        made = self.sums(piece, size)
        self._starts[day] = piece, made
        if len(self._starts) * max(1, len(self.keys)) * len(MEASURES) > _MOST_START_CELLS:
            self._starts.popitem(last=False)
        return made

    def _sum(self, places: Places, column: "array[int]", size: int) -> Sequence[int]:
        picked = self._pick(_spread(places, column, size))
        return picked if self._is_flat else [sum(picked[of_group]) for of_group in self._slices]


def _picking(places: Sequence[int]) -> Callable[[Sequence[int]], Sequence[int]]:
    if not places:
        return lambda _: ()
    if len(places) == 1:
        (only,) = places
        return lambda column: (column[only],)
    if list(places) == list(range(len(places))):
        return lambda column: column[: len(places)]
    return itemgetter(*places)


@dataclass(slots=True)
class _ScopeSums:
    """Sums of one scope.

    Attributes:
        identity: of the scope; another scope may get its number.
        everything: the mark of all charges that the sums were read under.
        revision: of all charges, under which extent and series were read; None before.
        series: number, summed unit and dimensions of each, in the order of places.
        first: the first day, counted from 1970.
        marks: of the days that have been read, from the first on.
        days: sums of each day.
        starts: sums up to the start of each day, and to the end of the last.
        extent: the first and the last hour with charges; None for none.
        groupings: by dimensions to group by and to filter by, those that were asked for last.
        known_places: a list of series as text, and the places of these.
    """

    identity: tuple[object, ...]
    everything: int
    revision: int | None = None
    series: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    first: int = 0
    marks: list[int] = field(default_factory=list)
    days: list[_Piece] = field(default_factory=list)
    starts: list[_Piece] = field(default_factory=lambda: [_NONE])
    extent: tuple[int, int] | None = None
    groupings: "OrderedDict[object, _Grouping]" = field(default_factory=OrderedDict)
    known_places: tuple[str, Places] = ("", range(0))

    def piece(self, lists: Sequence[str], *, in_halves: bool = False) -> _Piece:
        """Return sums from lists of numbers as text; what stays the same from row to row is read once.

        Args:
            lists: series, and what they have of each measure.
            in_halves: whether each measure is two lists, of units and of nano-units.
        """
        series_ids, *columns = lists
        if series_ids != self.known_places[0]:
            self.known_places = series_ids, _places(self.places, _numbers(series_ids))
        units = columns[::2] if in_halves else [""] * len(columns)
        halves = tuple(zip(units, columns[1::2] if in_halves else columns, strict=True))
        read = {pair: _column(*pair) for pair in {*halves}}
        return _Piece(self.known_places[1], tuple([read[pair] for pair in halves]))

    @property
    def end(self) -> int:
        """The day after the last that has been read."""
        return self.first + len(self.days)


class DaySums:
    """Sums of a ledger, read as they are needed; may be used from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._revision: int | None = None
        self._marks = Marks(0, {})
        self._scopes: dict[int, _ScopeSums] = {}
        self._hours: OrderedDict[tuple[int, int, int, int], _Piece] = OrderedDict()
        self._hour_cells = 0

    def sums(  # noqa: PLR0917  the terms of one question
        self,
        connection: Connection,
        revision: int,
        scopes: Collection[Scope],
        cuts: Sequence[int],
        by: Sequence[str],
        where: Mapping[str, Collection[str]],
    ) -> Sums | None:
        """Return the charges between cuts by bucket, group and unit; None where they have to be read elsewhere.

        Args:
            connection: in a transaction, so that all is of one instant.
            revision: of all charges, as of that instant.
            scopes: those that count.
            cuts: numbers of the hours at which buckets begin, and the end of the last.
            by: the dimensions to group by.
            where: the values that count, by dimension; accounts among them.
        """
        wanted = where.get("account")
        with self._lock:
            if revision != self._revision:
                self._marks = marks_of(connection.execute(MARKS).all())
                self._revision = revision
            sums: Sums = {}
            try:
                for scope in scopes:
                    if wanted is None or scope.account in wanted:
                        its = self._scope(connection, scope, revision)
                        self._add(sums, connection, scope, its, cuts, by, where)
            except (OverflowError, _TooMuchError):
                self._scopes.clear()
                self._hours.clear()
                self._hour_cells = 0
                return None
            else:
                return sums

    def _add(  # noqa: PLR0917  the terms of one question
        self,
        sums: Sums,
        connection: Connection,
        scope: Scope,
        its: "_ScopeSums",
        cuts: Sequence[int],
        by: Sequence[str],
        where: Mapping[str, Collection[str]],
    ) -> None:
        """Add what a scope was charged between cuts."""
        if its.extent is None:
            return
        first, end = its.extent[0], its.extent[1] + 1
        within = [min(max(cut, first), end) for cut in cuts]
        self._read_days(connection, scope.id, its, within[0] // HOURS_OF_DAY, -(-within[-1] // HOURS_OF_DAY))
        grouping = _grouping(its, scope.account, by, where)
        size = len(its.series)
        before: _Sums | None = None
        at = None
        for bucket, cut in enumerate(within):
            if cut == at:
                continue
            day = cut // HOURS_OF_DAY
            nearest, within_day = day, _NONE
            if cut == end:
                nearest = day + (cut % HOURS_OF_DAY > 0)
            elif cut % HOURS_OF_DAY:
                within_day = self._within(connection, scope.id, its, cut)
            here = grouping.starts(nearest, its.starts[nearest - its.first], size)
            if within_day is not _NONE:
                here = _each(partial(_combined, add), here, grouping.sums(within_day, size))
            if before is not None:
                _put(sums, bucket - 1, grouping.keys, _each(partial(_combined, sub), here, before))
            before, at = here, cut

    def _scope(self, connection: Connection, scope: Scope, revision: int) -> _ScopeSums:
        """Return the sums of a scope, without the days that have changed."""
        identity = (scope.account, scope.source, scope.born_at)
        its = self._scopes.get(scope.id)
        if its is None or its.identity != identity or its.everything != self._marks.everything:
            its = self._scopes[scope.id] = _ScopeSums(identity, self._marks.everything)
            self._forget_hours(scope.id)
        if its.revision == revision:
            return its
        its.revision = revision
        extent = connection.execute(_EXTENT, {"scope": scope.id}).one()
        its.extent = None if extent[0] is None else (extent[0], extent[1])
        known = its.series[-1][0] if its.series else 0
        found = connection.execute(_SERIES, {"scope": scope.id, "known": known}).all()
        if found:
            its.places.update((row[0], place) for place, row in enumerate(found, len(its.series)))
            its.series += [(row[0], row[1], tuple(row[2:])) for row in found]
            its.groupings.clear()
        return its

    def _read_days(self, connection: Connection, scope: int, its: _ScopeSums, first: int, end: int) -> None:
        """Have the sums of the days in [first, end) up to date."""
        marks = self._marks.days
        if not its.days:
            its.first = first
        low, high = min(first, its.first), max(end, its.end)
        if (high - low) * len(its.series) > _MOST_CELLS:
            if (end - first) * len(its.series) > _MOST_CELLS:
                raise _TooMuchError
            low, high = first, end
        days: list[_Piece | None] = []
        for day in range(low, high):
            is_known = its.first <= day < its.end and its.marks[day - its.first] == marks.get((scope, day), 0)
            days.append(its.days[day - its.first] if is_known else None)
        lacking = [low + index for index, day in enumerate(days) if day is None]
        if not lacking and low == its.first and high == its.end:
            return
        for first_lacking, end_lacking in _runs(lacking):
            parameters = {"scope": scope, "first": first_lacking, "end": end_lacking}
            found = {row[0]: its.piece(row[1:], in_halves=True) for row in _read(connection, _DAYS, parameters)}
            for day in range(first_lacking, end_lacking):
                days[day - low] = found.get(day, _NONE)
        self._keep_days(its, low, [_NONE if day is None else day for day in days], lacking)
        its.marks = [marks.get((scope, day), 0) for day in range(low, high)]

    @staticmethod
    def _keep_days(its: _ScopeSums, low: int, days: list[_Piece], lacking: Sequence[int]) -> None:
        """Put days in place of those before, and add up anew what begins after the first that is another one."""
        is_longer_only = low == its.first and len(days) >= len(its.days)
        good = min(lacking[0] - low, len(its.days)) if is_longer_only and lacking else 0
        starts = its.starts[: good + 1] if is_longer_only else [_NONE]
        for day in days[len(starts) - 1 :]:
            starts.append(_added(starts[-1], day, len(its.series)))
        its.first, its.days, its.starts = low, days, starts

    def _within(self, connection: Connection, scope: int, its: _ScopeSums, cut: int) -> _Piece:
        """Return what lies between the start of a day and a cut within it.

        Only the hours between the cut and the nearest one known are read, be it before or after, and the sums up to
        each of them are kept: no hour is read twice, and no question reads more than half a day.
        """
        day, hour = divmod(cut, HOURS_OF_DAY)
        whole = its.days[day - its.first]
        if whole is _NONE:
            return _NONE
        mark, start, size = self._marks.days.get((scope, day), 0), day * HOURS_OF_DAY, len(its.series)

        def known(hour: int) -> _Piece | None:
            if hour in {0, HOURS_OF_DAY}:
                return whole if hour else _NONE
            return self._hours.get((scope, day, mark, hour))

        kept = known(hour)
        if kept is not None:
            self._hours.move_to_end((scope, day, mark, hour))
            return kept
        before = next(earlier for earlier in range(hour - 1, -1, -1) if known(earlier) is not None)
        after = next(later for later in range(hour + 1, HOURS_OF_DAY + 1) if known(later) is not None)
        is_upwards = hour - before <= after - hour
        first, end = (before, hour) if is_upwards else (hour, after)
        bounds = {"scope": scope, "first": start + first, "end": start + end}
        hours = {row[0] - start: its.piece(row[1:]) for row in _read(connection, _HOURS, bounds)}
        running = known(before if is_upwards else after) or _NONE
        for at in range(first, end) if is_upwards else range(end - 1, first - 1, -1):
            running = _added(running, hours.get(at, _NONE), size, add if is_upwards else sub)
            self._keep_hours((scope, day, mark, at + is_upwards), running)
        return running

    def _keep_hours(self, key: tuple[int, int, int, int], kept: _Piece) -> None:
        self._hours[key] = kept
        self._hour_cells += kept.cells
        while self._hour_cells > _MOST_HOUR_CELLS:
            _, oldest = self._hours.popitem(last=False)
            self._hour_cells -= oldest.cells

    def _forget_hours(self, scope: int) -> None:
        for key in [key for key in self._hours if key[0] == scope]:
            self._hour_cells -= self._hours.pop(key).cells


def _read(connection: Connection, statement: Executable, parameters: Mapping[str, int]) -> Iterable[_Lists]:
    """Return rows as the driver makes them."""
    return connection.execute(statement, parameters).cursor.fetchall()


def _grouping(its: _ScopeSums, account: str, by: Sequence[str], where: Mapping[str, Collection[str]]) -> _Grouping:
    filters = {name: frozenset(values) for name, values in where.items() if name != "account"}
    key = (tuple(by), tuple(sorted(filters.items(), key=_first)))
    grouping = its.groupings.get(key)
    if grouping is None:
        tests = [(DIMENSIONS.index(name), values) for name, values in filters.items()]
        picks = [None if name == "account" else DIMENSIONS.index(name) for name in by]
        members: defaultdict[_Group, list[int]] = defaultdict(list)
        for place, (_, unit, dimensions) in enumerate(its.series):
            if all(dimensions[index] in values for index, values in tests):
                group = tuple([account if index is None else dimensions[index] for index in picks])
                members[group, unit].append(place)
        grouping = its.groupings[key] = _Grouping(members)
        while len(its.groupings) > _MOST_GROUPINGS:
            its.groupings.popitem(last=False)
    else:
        its.groupings.move_to_end(key)
    return grouping


_as_amounts = partial(tuple.__new__, Amounts)
"""`Amounts._make` in half the time."""


def _put(sums: Sums, bucket: int, keys: Sequence[_Group], columns: Sequence[Sequence[int] | None]) -> None:
    zeros = [0] * len(keys)
    for (group, unit), *amounts in zip(keys, *(zeros if column is None else column for column in columns), strict=True):
        if any(amounts):
            key = SumKey(bucket, group, unit)
            found = _as_amounts(amounts)
            before = sums.get(key)
            sums[key] = found if before is None else before.plus(found)


def _combined(function: _Sum, one: Sequence[int] | None, other: Sequence[int] | None) -> Sequence[int] | None:
    if other is None:
        return one
    if one is None:
        return [function(0, value) for value in other]
    return list(map(function, one, other))


def _runs(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield first and end of days that follow one another."""
    first = end = None
    for day in days:
        if day != end:
            if first is not None and end is not None:
                yield first, end
            first = day
        end = day + 1
    if first is not None and end is not None:
        yield first, end


def _column(units: str, nanos: str) -> Column:
    has_units, has_nanos = (text.strip(_ZEROS) for text in (units, nanos))
    if not has_units:
        return array("q", _numbers(nanos)) if has_nanos else None
    return array("q", map(add, map(NANO.__mul__, _numbers(units)), _numbers(nanos)))


def _numbers(text: str) -> list[int]:
    numbers: list[int] = json.loads(f"[{text}]")
    return numbers


def _places(places: Mapping[int, int], series_ids: Sequence[int]) -> Places:
    found = array("I", map(places.__getitem__, series_ids))
    run = range(found[0], found[0] + len(found))
    return run if all(map(eq, found, run)) else found


def _added(one: _Piece, other: _Piece, size: int, function: _Sum = add) -> _Piece:
    """Add sums to others, or take them away; what comes out is of all series, or of those that both are of."""
    if other is _NONE:
        return one
    if one is _NONE and function is add:
        return other
    if one is _NONE or one.places == other.places:
        places, columns, others = other.places, one.columns, other.columns
    else:
        places = range(size)
        columns, others = (_spread_all(piece, size) for piece in (one, other))
    return _Piece(places, tuple(_each(partial(_combined_columns, function), columns, others)))


def _spread_all(piece: _Piece, size: int) -> tuple[Column, ...]:
    spread = {id(column): None if column is None else _spread(piece.places, column, size) for column in piece.columns}
    return tuple([spread[id(column)] for column in piece.columns])


def _spread(places: Places, column: "array[int]", size: int) -> "array[int]":
    """Return a column of all series in order."""
    if places == range(size):
        return column
    whole = array("q", bytes(8 * size))
    if isinstance(places, range):
        whole[places.start : places.stop] = column
        return whole
    for place, value in zip(places, column, strict=True):
        whole[place] = value
    return whole


def _combined_columns(function: _Sum, one: Column, other: Column) -> Column:
    combined = _combined(function, one, other)
    return combined if combined is None or isinstance(combined, array) else array("q", combined)
