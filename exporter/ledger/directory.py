"""Directory of series: their numbers, and the label sets under which they are published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

from sqlalchemy import Connection

from exporter.charges import NOTHING, Charge, Dimensions, Window, hour_number
from exporter.ledger.accounting.counters import COUNTED, Admission, Counter, CounterKey, Labels, LabelValues
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.key_labels import KeyLabels
from exporter.ledger.accounting.restatement import CellRow, summed
from exporter.ledger.accounting.totals import Place
from exporter.ledger.tables import rows as ledger_rows


@dataclass(frozen=True, slots=True)
class Entry:
    """Charges in their cells, and what had to be made for them."""

    cells: Sequence[CellRow]
    places: Mapping[int, Place]
    label_sets: Mapping[int, LabelValues]
    overflowed: int


class Directory:
    """The series and label sets of the whole ledger."""

    def __init__(
        self, connection: Connection, labels: Labels, limit: int, accounts: Mapping[int, str], key_labels: KeyLabels
    ) -> None:
        self._labels = labels
        self._accounts = accounts
        self.key_labels = key_labels
        self.label_sets = ledger_rows.read_label_sets(connection)
        self.places: dict[int, Place] = {}
        self._label_set_ids = {values: number for number, values in self.label_sets.items()}
        self._last_label_set = max(self.label_sets, default=0)
        self._admission = Admission(labels, limit, self.label_sets.values())
        self._series: dict[int, dict[Dimensions, int]] = {}
        self.dimensions: dict[int, Dimensions] = {}
        for number, scope, dimensions, label_set in ledger_rows.read_series(connection, accounts):
            self._series.setdefault(scope, {})[dimensions] = number
            self.dimensions[number] = dimensions
            self.places[number] = Place(label_set, dimensions.unit, bool(dimensions.surge))
        self._last_series = max(self.places, default=0)

    def series_of(self, scope: int) -> Mapping[Dimensions, int]:
        """Return the numbers of a scope's series."""
        return self._series.get(scope, {})

    def enter(
        self, connection: Connection, scope: Scope, window: Window, charges: Iterable[Charge], horizon: int
    ) -> Entry:
        """Give the charges of a window their cells; new series get a number and a place.

        Charges of the same cell are added up, those of hours before the horizon are left out.

        Raises:
            ValueError: a charge lies outside the window or belongs to another account.
        """
        known = self._series.setdefault(scope.id, {})
        rows: list[CellRow] = []
        new: dict[int, tuple[Dimensions, Place]] = {}
        label_sets: dict[int, LabelValues] = {}
        overflowed = 0
        numbers = {hour: hour_number(hour) for hour in window.hours()}
        last: Dimensions | None = None
        series: int | None = None
        for hour, dimensions, amounts in charges:
            number = numbers.get(hour)
            if number is None:
                raise ValueError(f"a charge of {hour} is not of an hour of the window {window}")
            if number < horizon or amounts == NOTHING:
                continue
            if dimensions is not last:
                last, series = dimensions, known.get(dimensions)
            if series is None:
                if dimensions.account != scope.account:
                    raise ValueError(f"a charge of account {dimensions.account} was given for {scope.account}")
                self._last_series = series = known[dimensions] = self._last_series + 1
                wanted = self._labels.of(dimensions, self.key_labels)
                values = self._admission.place(wanted)
                overflowed += values != wanted
                place = Place(self._number_of(values, label_sets), dimensions.unit, bool(dimensions.surge))
                new[series] = (dimensions, place)
            rows.append((number, series, *amounts))
        if new:
            ledger_rows.add_label_sets(connection, label_sets)
            ledger_rows.add_series(connection, scope.id, new)
        places = {number: place for number, (_, place) in new.items()}
        self.label_sets.update(label_sets)
        self.places.update(places)
        self.dimensions.update({number: dimensions for number, (dimensions, _) in new.items()})
        return Entry(_one_per_cell(rows), places, label_sets, overflowed)

    def admit(self, connection: Connection, wanted: Iterable[LabelValues]) -> dict[int, LabelValues]:
        """Admit label sets that have no charges yet, but for those beyond the limit; return those that are new."""
        new: dict[int, LabelValues] = {}
        for values in wanted:
            if self._admission.place(values) == values:
                self._number_of(values, new)
        ledger_rows.add_label_sets(connection, new)
        self.label_sets.update(new)
        return new

    def readmit(self, connection: Connection, wanted: Iterable[LabelValues]) -> dict[int, LabelValues]:
        """Admit label sets that had been admitted before, in their order; return those that had been forgotten."""
        new: dict[int, LabelValues] = {}
        for values in wanted:
            self._admission.readmit(values)
            self._number_of(values, new)
        ledger_rows.add_label_sets(connection, new)
        self.label_sets.update(new)
        return new

    def _number_of(self, values: LabelValues, new: dict[int, LabelValues]) -> int:
        number = self._label_set_ids.get(values)
        if number is None:
            self._last_label_set = number = self._label_set_ids[values] = self._last_label_set + 1
            new[number] = values
        return number


def _one_per_cell(rows: Sequence[CellRow]) -> Sequence[CellRow]:
    if len(set(map(itemgetter(0, 1), rows))) == len(rows):
        return rows
    by_hour = summed(rows, {row[0]: row[0] for row in rows})
    return [
        (hour, series, *amounts)
        for hour, sums in by_hour.items()
        for series, amounts in sums.items()
        if amounts != NOTHING
    ]


def reorder(connection: Connection, labels: Labels, before: Sequence[str]) -> None:
    """Write every label set in the order of the labels; no counter notices."""
    places = [before.index(name) for name in labels.names]
    ledger_rows.rename_label_sets(
        connection,
        {
            number: tuple(values[place] for place in places)
            for number, values in ledger_rows.read_label_sets(connection).items()
        },
    )


def relabel(  # noqa: PLR0917  the terms of one change
    connection: Connection,
    labels: Labels,
    limit: int,
    accounts: Mapping[int, str],
    key_labels: KeyLabels,
    at: datetime,
) -> None:
    """Publish every series under new labels.

    All counters start at 0 again, with everything known as their base. A label set that keeps its name thus falls to 0
    once, which adds nothing to any `increase()`, and none takes over what another had counted.
    """
    last = max(ledger_rows.read_label_sets(connection), default=0)
    counted = ledger_rows.read_counters(connection)
    admission = Admission(labels, limit, ())
    numbers: dict[LabelValues, int] = {}
    moves: dict[int, int] = {}
    counters: dict[CounterKey, Counter] = {}
    for series, _, dimensions, old in sorted(ledger_rows.read_series(connection, accounts)):
        values = admission.place(labels.of(dimensions, key_labels))
        moves[series] = new = numbers.setdefault(values, last + len(numbers) + 1)
        for measure in COUNTED:
            unit = dimensions.unit if measure == "quantity" else ""
            if CounterKey(old, measure, unit) in counted:
                counters[CounterKey(new, measure, unit)] = Counter(0, 0, at, released=False)
    ledger_rows.add_label_sets(connection, {number: values for values, number in numbers.items()})
    ledger_rows.move_series(connection, moves)
    ledger_rows.forget_label_sets(connection, up_to=last)
    ledger_rows.write_counters(connection, {}, counters)
