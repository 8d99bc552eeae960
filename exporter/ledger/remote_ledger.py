"""Door of the ledger for remote write: makes parcels of samples, and remembers which have arrived.

Parcels are made and the position moved in one transaction; a parcel stays until a store has acknowledged it, and is
sent again as it was. Stores ignore a sample that they have, so nothing is told twice, and nothing is left out.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from exporter.charges import Clock, hour_number, hour_of, hour_start
from exporter.ledger.accounting.counters import Labels
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.remote import HourSamples, Position
from exporter.ledger.contents import Contents
from exporter.ledger.session import Session
from exporter.ledger.tables import changes, remote, schema
from exporter.ledger.tables.remote import Parcel

SAMPLES_OF_A_PARCEL = 2000
"""Samples in one request, as Prometheus itself sends at once."""

PARCELS_AT_ONCE = 20
"""Parcels that are sent before the ledger is asked for more."""

_AT_ONCE = 20_000
"""Series and hours after which no more hours are told until these have arrived."""

_KEPT = timedelta(days=92)
"""Age at which an hour is corrected no more: fal's own corrections are of this month and the last."""

_PATIENCE = timedelta(hours=1)
"""Longest time for which an hour that is over waits to be read to its end from every source."""

_HOURS_OF_DAY = 24


@dataclass(frozen=True, slots=True)
class Standing:
    """Standing of the telling.

    Attributes:
        through: end of the last hour whose first samples have been made; None before the first.
        parcels: on their way.
        waiting: what counters wait for, in nano-USD.
    """

    through: datetime | None
    parcels: int
    waiting: int


class RemoteLedger:
    """Parcels of hourly samples in the ledger. Not for use from several threads at once.

    Args:
        session: returns the ledger's.
        labels: names of the labels.
        clock: the time.

    Raises:
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(self, session: Callable[[], Session], *, labels: Labels, clock: Clock) -> None:
        self._session = session
        self._labels = labels
        self._clock = clock
        self._nothing_since: tuple[object, ...] | None = None

    def parcels(self, reach: timedelta, most: int = PARCELS_AT_ONCE) -> tuple[Parcel, ...]:
        """Return the parcels that are on their way, or else make the next ones; none where all has been told.

        Args:
            reach: how far back the store takes samples; older hours are not told at first, and corrected with the next.
            most: no more are returned.
        """
        with self._session().reading() as connection:
            known = remote.read_parcels(connection, most)
        if known:
            return known
        state = self._state()
        if state == self._nothing_since:
            return ()
        with self._session().writing() as (connection, contents):
            made = _Telling(connection, contents, self._labels, self._clock(), reach).run()
            known = remote.read_parcels(connection, most)
        if not made:
            self._nothing_since = state
        return known

    def arrived(self, number: int, refused: Collection[int] = ()) -> int:
        """Note that a parcel has arrived; tell what was refused of it with the next hour, but for history.

        Args:
            number: of the parcel.
            refused: places of the samples that the store will never take.

        Returns:
            How many of those refused are told with the next hour.
        """
        with self._session().writing() as (connection, contents):
            parcel = remote.read_parcel(connection, number) if refused else None
            remote.remove_parcel(connection, number)
            position = None if parcel is None else remote.read_position(connection)
            if parcel is None or position is None:
                return 0
            lost = [parcel.samples[place] for place in sorted(refused)]
            # History that a store does not take as it comes stays away, with what fal corrects of it.
            away = [of.hour + 1 for of in lost if not of.is_correction and of.hour < position.born]
            position.begun = max(position.begun, *away, 0)
            told_from = _told_from(contents, position)
            carried = [
                of
                for of in lost
                if of.key.label_set in contents.directory.label_sets
                and of.hour >= told_from.get(self._account(contents, of.key.label_set), position.begun)
            ]
            position.carry(carried)
            remote.write_position(connection, position)
        return len(carried)

    def standing(self) -> Standing:
        """Return the standing of the telling."""
        with self._session().reading() as connection:
            position, parcels = remote.read_position(connection), remote.count_parcels(connection)
        if position is None:
            return Standing(None, parcels, 0)
        waiting = sum(told.debt for key, told in position.series.items() if key.measure == "cost")
        return Standing(hour_start(position.through), parcels, waiting)

    def _account(self, contents: Contents, label_set: int) -> str:
        return self._labels.account_of(contents.directory.label_sets[label_set])

    def _state(self) -> tuple[object, ...]:
        """Return what is another one whenever there may be something to tell."""
        contents = self._session().contents()
        with self._session().reading() as connection:
            revision = schema.read(connection, schema.CHARGES_REVISION)
        covered = tuple((scope.id, scope.history_from, scope.data_through) for scope in contents.active_scopes())
        return revision, hour_of(self._clock()), _is_patient(self._clock()), covered


def _is_patient(now: datetime) -> bool:
    return now - hour_of(now) < _PATIENCE


def _told_from(contents: Contents, position: Position) -> dict[str, int]:
    """Return the first hour of each account whose changes are told by all means.

    What an account that came later was charged before is told where the store takes it late, and in no other hour.
    """
    born: dict[str, int] = {}
    for scope in contents.scopes.values():
        hour = hour_number(hour_of(scope.born_at))
        born[scope.account] = min(born.get(scope.account, hour), hour)
    return {account: hour if hour > position.born else position.begun for account, hour in born.items()}


class _Telling:
    """One round: first samples of hours that are over, or else corrections of those that have been told."""

    def __init__(
        self, connection: Connection, contents: Contents, labels: Labels, now: datetime, reach: timedelta
    ) -> None:
        self._connection = connection
        self._contents = contents
        self._labels = labels
        self._now = now
        self._reach = hour_number(hour_of(now - reach))
        self._scopes: dict[str, list[Scope]] = {}
        for scope in contents.active_scopes():
            self._scopes.setdefault(scope.account, []).append(scope)
        self._position = remote.read_position(connection) or self._first_position()

    def run(self) -> int:
        """Make parcels; return how many."""
        if not self._scopes:
            return 0
        position = self._position
        if position.labels != self._names():
            self._take_as_told()
        sets = self._contents.directory.label_sets
        position.series = {key: told for key, told in position.series.items() if key.label_set in sets}
        samples = self._first_samples() or self._corrections()
        kept = max(hour_number(hour_of(self._now - _KEPT)), self._contents.horizon)
        position.forget_before(kept)
        remote.forget_told_before(self._connection, kept)
        made = 0
        for piece in _pieces(samples):
            position.parcel += 1
            values = {number: sets[number] for number in sorted({item.key.label_set for item in piece})}
            remote.write_parcels(self._connection, [Parcel(position.parcel, self._labels.names, values, tuple(piece))])
            made += 1
        remote.write_position(self._connection, position)
        return made

    def _first_position(self) -> Position:
        """Begin with what the store takes of what is known; a ledger written anew has no hours of before to tell."""
        hour = hour_number(hour_of(self._now))
        first = hour
        if schema.read(self._connection, schema.REBUILT_AT) is None:
            known = [
                hour_number(scope.history_from)
                for scopes in self._scopes.values()
                for scope in scopes
                if scope.history_from is not None
            ]
            first = max(self._reach, self._contents.horizon, min(known, default=hour))
        return Position(born=hour, begun=min(first, hour), through=min(first, hour), labels=self._names())

    def _names(self) -> str:
        return json.dumps(list(self._labels.names))

    def _take_as_told(self) -> None:
        """Take what the ledger says as told: its label sets are others than those that have been told by."""
        position = self._position
        told = remote.read_told(self._connection, position.begun, position.through)
        for hour in told:
            remote.write_told(self._connection, self._amounts(hour, hour + 1))
        position.series, position.days, position.labels = {}, {}, self._names()

    def _amounts(self, first: int, end: int) -> dict[int, remote.Amounts]:
        return remote.read_amounts(self._connection, self._contents.active, first, end)

    def _first_samples(self) -> list[HourSamples]:
        position = self._position
        made: list[HourSamples] = []
        end = self._over()
        while position.through < end and len(made) < _AT_ONCE:
            first = position.through
            # Little is read for nothing: an hour has as many samples as the ones before it, or more.
            last = min(end, first + max(1, min(_HOURS_OF_DAY, _AT_ONCE // max(len(position.series), 1))))
            hours = self._amounts(first, last)
            for hour in range(first, last):
                made += position.first_samples(hours[hour])
                if len(made) >= _AT_ONCE:
                    break
            remote.write_told(self._connection, {hour: hours[hour] for hour in range(first, position.through)})
        return made

    def _over(self) -> int:
        """Return the hour before which all are over, and have been read to their end or waited for long enough."""
        hour = hour_number(hour_of(self._now))
        through = [
            hour if scope.data_through is None else hour_number(scope.data_through)
            for scopes in self._scopes.values()
            for scope in scopes
        ]
        return min(hour, max(min(through, default=hour), hour_number(hour_of(self._now - _PATIENCE))))

    def _corrections(self) -> list[HourSamples]:
        position = self._position
        made: list[HourSamples] = []
        position.rounds += 1
        first = max(position.begun, self._contents.horizon, hour_number(hour_of(self._now - _KEPT)))
        marks = changes.marks_of(self._connection.execute(changes.MARKS))
        for day in range(first // _HOURS_OF_DAY, (position.through - 1) // _HOURS_OF_DAY + 1):
            start = max(first, day * _HOURS_OF_DAY)
            end = min(position.through, (day + 1) * _HOURS_OF_DAY)
            mark = self._fingerprint(day, start, end, marks)
            if end <= start or position.days.get(day) == mark:
                continue
            if len(made) >= _AT_ONCE:
                break
            made += self._corrections_of_day(start, end)
            position.days[day] = mark
        return made

    def _fingerprint(self, day: int, start: int, end: int, marks: changes.Marks) -> str:
        """Return what is another one whenever what is known of a day may be."""
        facts = [
            (scope.id, marks.days.get((scope.id, day), 0), *(self._known(scope, start, end)))
            for scopes in self._scopes.values()
            for scope in scopes
        ]
        return hashlib.sha256(repr((marks.everything, start, end, facts)).encode()).hexdigest()[:16]

    def _known(self, scope: Scope, start: int, end: int) -> tuple[int, int]:
        """Return the hours of a span that a source has covered: the first, and the one after the last."""
        if scope.history_from is None or scope.data_through is None:
            return start, start
        return max(start, hour_number(scope.history_from)), min(end, hour_number(scope.data_through))

    def _corrections_of_day(self, start: int, end: int) -> list[HourSamples]:
        made: list[HourSamples] = []
        told, amounts = remote.read_told(self._connection, start, end), self._amounts(start, end)
        account_of = self._account_of
        known = {
            account: [self._known(scope, start, end) for scope in scopes] for account, scopes in self._scopes.items()
        }
        told_from = _told_from(self._contents, self._position)
        changed: dict[int, remote.Amounts] = {}
        for hour in range(start, end):
            before, now = told.get(hour, {}), amounts[hour]
            whole = {account for account, spans in known.items() if all(first <= hour < last for first, last in spans)}
            deltas = {
                key: now.get(key, 0) - before.get(key, 0)
                for key in before.keys() | now.keys()
                if now.get(key, 0) != before.get(key, 0) and account_of(key.label_set) in whole
            }
            if not deltas:
                continue
            changed[hour] = {**before, **{key: now.get(key, 0) for key in deltas}}
            if hour < self._reach:
                deltas = {key: by for key, by in deltas.items() if hour >= told_from[account_of(key.label_set)]}
            made += self._position.corrections(hour, deltas, account_of=account_of, reach=self._reach)
        remote.write_told(self._connection, changed)
        return made

    def _account_of(self, label_set: int) -> str:
        values = self._contents.directory.label_sets.get(label_set)
        return "" if values is None else self._labels.account_of(values)


def _pieces(samples: Iterable[HourSamples]) -> Iterator[list[HourSamples]]:
    """Yield samples in pieces of a parcel each."""
    piece: list[HourSamples] = []
    size = 0
    for item in samples:
        length = len(item.gauge) + len(item.counter)
        if piece and size + length > SAMPLES_OF_A_PARCEL:
            yield piece
            piece, size = [], 0
        piece.append(item)
        size += length
    if piece:
        yield piece
