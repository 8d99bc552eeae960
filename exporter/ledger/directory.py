"""Which series there are, their numbers, and the label sets they are published under."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from exporter.charges import NOTHING, Amounts, Charge, Dimensions
from exporter.ledger import series_rows
from exporter.ledger.books import Place
from exporter.ledger.counters import COUNTED, Counter, CounterKey
from exporter.ledger.label_sets import Admission, Labels, LabelValues
from exporter.ledger.restatement import Cell
from exporter.ledger.schema import hour_number


@dataclass(frozen=True, slots=True)
class Entry:
    """Charges in their cells, and what had to be made for them."""

    cells: Mapping[Cell, Amounts]
    places: Mapping[int, Place]
    label_sets: Mapping[int, LabelValues]
    overflowed: int


class Directory:
    """The series and label sets of the whole ledger."""

    def __init__(self, connection: Connection, labels: Labels, limit: int, accounts: Mapping[int, str]) -> None:
        self._labels = labels
        self.label_sets = series_rows.read_label_sets(connection)
        self.places: dict[int, Place] = {}
        self._label_set_ids = {values: number for number, values in self.label_sets.items()}
        self._last_label_set = max(self.label_sets, default=0)
        self._admission = Admission(labels, limit, self.label_sets.values())
        self._series: dict[int, dict[Dimensions, int]] = {}
        for number, scope, dimensions, label_set in series_rows.read_series(connection, accounts):
            self._series.setdefault(scope, {})[dimensions] = number
            self.places[number] = Place(label_set, dimensions.unit)
        self._last_series = max(self.places, default=0)

    def enter(self, connection: Connection, scope: int, charges: Iterable[Charge], first: int) -> Entry:
        """Give the charges of the hours from `first` on their cells; new series get a number and a place."""
        known = self._series.setdefault(scope, {})
        cells: dict[Cell, Amounts] = {}
        new: dict[int, tuple[Dimensions, Place]] = {}
        label_sets: dict[int, LabelValues] = {}
        overflowed = 0
        numbers: dict[datetime, int] = {}
        for hour, dimensions, amounts in charges:
            number = numbers.get(hour)
            if number is None:
                number = numbers[hour] = hour_number(hour)
            if number < first or amounts == NOTHING:
                continue
            series = known.get(dimensions)
            if series is None:
                self._last_series = series = known[dimensions] = self._last_series + 1
                wanted = self._labels.of(dimensions)
                values = self._admission.place(wanted)
                overflowed += values != wanted
                new[series] = (dimensions, Place(self._number_of(values, label_sets), dimensions.unit))
            cells[Cell(number, series)] = amounts
        if new:
            series_rows.add_label_sets(connection, label_sets)
            series_rows.add_series(connection, scope, new)
        places = {number: place for number, (_, place) in new.items()}
        self.label_sets.update(label_sets)
        self.places.update(places)
        return Entry(cells, places, label_sets, overflowed)

    def _number_of(self, values: LabelValues, new: dict[int, LabelValues]) -> int:
        number = self._label_set_ids.get(values)
        if number is None:
            self._last_label_set = number = self._label_set_ids[values] = self._last_label_set + 1
            new[number] = values
        return number


def relabel(connection: Connection, labels: Labels, limit: int, accounts: Mapping[int, str], at: datetime) -> None:
    """Publish every series under new labels.

    All counters start at 0 again, with everything known as their base. A label set that keeps its name thus falls to 0
    once, which adds nothing to any `increase()`, and none takes over what another had counted.
    """
    last = max(series_rows.read_label_sets(connection), default=0)
    counted = series_rows.read_counters(connection)
    admission = Admission(labels, limit, ())
    numbers: dict[LabelValues, int] = {}
    moves: dict[int, int] = {}
    counters: dict[CounterKey, Counter] = {}
    for series, _, dimensions, old in sorted(series_rows.read_series(connection, accounts)):
        values = admission.place(labels.of(dimensions))
        moves[series] = new = numbers.setdefault(values, last + len(numbers) + 1)
        for measure in COUNTED:
            unit = dimensions.unit if measure == "quantity" else ""
            if CounterKey(old, measure, unit) in counted:
                counters[CounterKey(new, measure, unit)] = Counter(0, 0, at, released=False)
    series_rows.add_label_sets(connection, {number: values for values, number in numbers.items()})
    series_rows.move_series(connection, moves)
    series_rows.forget_label_sets(connection, up_to=last)
    series_rows.write_counters(connection, {}, counters)
