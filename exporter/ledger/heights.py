"""Heights: what counters had shown before the ledger's server lost its newest writes.

A standby that is copied to asynchronously lacks the last writes when it takes the place of its primary. Its ledger is
whole and right, of an earlier instant: what it lacks is read from fal again, and counted again. Only what has been
shown must not be taken back meanwhile, or every `rate()` would take the difference for new spend. So each counter
waits at its height, as it does when fal takes money back, until what is read again has caught up with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from exporter.ledger.accounting.counters import Counter, CounterKey, LabelValues
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.contents import Contents
from exporter.ledger.tables import machines as machine_tables
from exporter.ledger.tables import rows, schema
from exporter.ledger.tables import tags as tag_tables
from exporter.ledger.tables.hours import TouchedHours

Named = tuple[LabelValues, str, str]
"""Name of a counter that does not depend on the numbers of one database: label values, measure, unit or state."""

Tagged = tag_tables.CounterKey
"""Name of a counter of spend by tags."""

_Name = TypeVar("_Name")


@dataclass(frozen=True, slots=True)
class Restated:
    """Counters of what a source has restated; amounts in nano-USD."""

    up: int = 0
    down: int = 0
    hours: int = 0
    relabelled: int = 0


@dataclass(frozen=True, slots=True)
class Heights:
    """Counters as they were last shown.

    Attributes:
        born_at: birth of the ledger that they are of.
        revision: its state that they are of.
        labels: names of the labels of `spend`, in their order.
        spend: counters of charges.
        states: those by states of runners.
        tag_keys: keys of the tags of `tagged`, in their order.
        tagged: those by account, model and tags.
        restated: by account and source.
        overflowed: number of series beyond the cap.
    """

    born_at: datetime
    revision: int
    labels: tuple[str, ...]
    spend: Mapping[Named, Counter] = field(default_factory=dict)
    states: Mapping[Named, Counter] = field(default_factory=dict)
    tag_keys: tuple[str, ...] = ()
    tagged: Mapping[Tagged, Counter] = field(default_factory=dict)
    restated: Mapping[tuple[str, str], Restated] = field(default_factory=dict)
    overflowed: int = 0

    def are_ahead_of(self, contents: Contents) -> bool:
        """Return whether they are of a later state of the same ledger."""
        return self.born_at == contents.born_at and self.revision > contents.revision


def heights_of(contents: Contents, labels: tuple[str, ...]) -> Heights:
    """Return the heights of counters in memory.

    Args:
        contents: as they were last written.
        labels: names of the labels of charges.
    """
    values, series = contents.directory.label_sets, contents.machines.series
    return Heights(
        born_at=contents.born_at,
        revision=contents.revision,
        labels=labels,
        # In order of admission: label sets that the database has lost get the numbers that they had.
        spend={
            (values[key.label_set], key.measure, key.unit): counter
            for key, counter in sorted(contents.totals.counters.items())
        },
        states={
            (series[key.label_set], key.measure, key.unit): counter
            for key, counter in sorted(contents.machines.counters.items())
        },
        tag_keys=contents.tags.keys,
        tagged=dict(contents.tags.counters),
        restated={
            (scope.account, scope.source): Restated(
                scope.restated_up, scope.restated_down, scope.restated_hours, scope.relabelled
            )
            for scope in contents.scopes.values()
        },
        overflowed=contents.overflowed,
    )


def keep_heights(connection: Connection, contents: Contents, heights: Heights, labels: tuple[str, ...]) -> None:
    """Have no counter of a ledger that has been read show less than it has shown; number what is written next anew.

    Args:
        connection: in a transaction that writes.
        contents: just read; of an earlier state than the heights.
        heights: of the same ledger.
        labels: names of the labels of charges.
    """
    # Readers distinguish states by their numbers, and know those that are lost.
    contents.revision = heights.revision
    contents.touched = TouchedHours(contents.revision + 1)
    schema.write(connection, schema.CHARGES_REVISION, str(contents.revision + 1))
    if heights.labels == labels:
        _keep_spend(connection, contents, heights.spend)
    machines = contents.machines
    by_state = _all_raised(
        machines.counters,
        {
            CounterKey(machines.admit(connection, values), measure, state): counter
            for (values, measure, state), counter in heights.states.items()
        },
    )
    machine_tables.write_counters(connection, machines.counters, by_state)
    machines.set_counters(by_state)
    if heights.tag_keys == contents.tags.keys:
        tagged = _all_raised(contents.tags.counters, heights.tagged)
        tag_tables.write_counters(connection, contents.tags.keys, tagged)
        contents.tags.counters.update(tagged)
    for scope in [*contents.scopes.values()]:
        if (restated := heights.restated.get((scope.account, scope.source))) is not None:
            _keep_restated(connection, contents, scope, restated)
    if heights.overflowed > contents.overflowed:
        contents.overflowed = heights.overflowed
        schema.write(connection, schema.OVERFLOWED, str(contents.overflowed))


def _keep_spend(connection: Connection, contents: Contents, heights: Mapping[Named, Counter]) -> None:
    directory = contents.directory
    contents.totals.add_label_sets(directory.readmit(connection, (values for values, _, _ in heights)))
    numbers = {values: number for number, values in directory.label_sets.items()}
    known = contents.totals.counters
    states = _all_raised(
        known,
        {CounterKey(numbers[values], measure, unit): counter for (values, measure, unit), counter in heights.items()},
    )
    rows.write_counters(connection, known, states)
    contents.totals.set_counters(states)


def _keep_restated(connection: Connection, contents: Contents, scope: Scope, restated: Restated) -> None:
    after = replace(
        scope,
        restated_up=max(scope.restated_up, restated.up),
        restated_down=max(scope.restated_down, restated.down),
        restated_hours=max(scope.restated_hours, restated.hours),
        relabelled=max(scope.relabelled, restated.relabelled),
    )
    if after != scope:
        rows.write_scope(connection, after)
        contents.scopes[scope.id] = after


def _all_raised(known: Mapping[_Name, Counter], heights: Mapping[_Name, Counter]) -> dict[_Name, Counter]:
    found = ((key, _raised(known.get(key), height)) for key, height in heights.items())
    return {key: counter for key, counter in found if counter is not None}


def _raised(counter: Counter | None, height: Counter) -> Counter | None:
    """Return a counter that shows what it has shown; None where it does already."""
    if counter is None:
        return Counter(0, height.shown, height.created_at, height.released)
    if counter.shown >= height.shown:
        return None
    return counter._replace(published=counter.base + height.shown, released=True)
