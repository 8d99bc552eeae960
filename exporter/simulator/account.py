"""The account: the world plus what has been planted, asked for any span as of any instant."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from exporter.simulator.exact import FOREVER, HOUR
from exporter.simulator.plants import Plant
from exporter.simulator.world import Charge, Record, World, charge_of, known_from, visible_requests

_KEPT_RECORDS = 150_000
_KEPT_TOTALS = 50_000

_Value = TypeVar("_Value")

Span = tuple[int, int]
"""Half-open, in microseconds since 1970."""


class _Hour(NamedTuple):
    records: list[Record]
    known_from: int
    final: list[Charge]


class Account:
    """What fal knows of the account; answers are a function of world, plants, span and instant.

    Hours that were worked out are kept in bounded caches; nothing else is remembered.

    Attributes:
        plants: what tests have planted; replaced whole through `plant`.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.plants: tuple[Plant, ...] = ()
        self._hours: OrderedDict[int, _Hour] = OrderedDict()
        self._totals: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._kept_hours = max(26, _KEPT_RECORDS // max(1, len(world.lines)))

    def plant(self, plants: Iterable[Plant]) -> None:
        """Replace everything that is planted."""
        wanted = tuple(plants)
        for plant in {*self.plants} ^ {*wanted}:
            self._hours.pop(plant.hour, None)
            self._totals.pop(plant.hour, None)
        self.plants = wanted

    def records(self, hour: int) -> list[Record]:
        """Return the records of an hour (since 1970), plants included."""
        return self._hour(hour).records

    def charges(self, span: Span, as_of: int, team: str = "") -> Iterator[list[Charge]]:
        """Yield what is charged in a span as of an instant, hour by hour; empty hours are left out.

        Args:
            span: any instants; an hour that lies partly in it gives the requests made inside.
            as_of: the instant, in microseconds; FOREVER for the truth after everything has arrived.
            team: only this team's charges; empty for all.
        """
        start, end = span
        for hour in range(start // HOUR, -(-min(end, as_of) // HOUR) if as_of != FOREVER else -(-end // HOUR)):
            charges = self._charges(hour, (max(start, hour * HOUR), min(end, (hour + 1) * HOUR)), as_of)
            if team:
                charges = [charge for charge in charges if charge.line.team == team]
            if charges:
                yield charges

    def cost(self, hour: int, as_of: int) -> int:
        """Return what a whole hour (since 1970) costs as of an instant, in nano-USD."""
        kept = self._totals.get(hour)
        if kept and kept[0] <= as_of:
            return kept[1]
        total = sum(charge.cost for charge in self._charges(hour, (hour * HOUR, (hour + 1) * HOUR), as_of))
        settled = self._hour(hour).known_from
        if settled <= as_of:
            _keep(self._totals, hour, (settled, total), _KEPT_TOTALS)
        return total

    def known_from(self, hour: int) -> int:
        """Return the instant from which an hour does not change any more."""
        kept = self._totals.get(hour)
        return kept[0] if kept else self._hour(hour).known_from

    def _charges(self, hour: int, span: Span, as_of: int) -> list[Charge]:
        kept = self._hour(hour)
        if as_of >= kept.known_from and span == (hour * HOUR, (hour + 1) * HOUR):
            return kept.final
        charges = []
        for record in kept.records:
            first, last, percent = visible_requests(record, hour, span, as_of)
            if first < last:
                charges.append(charge_of(record, first, last, percent))
        return charges

    def _hour(self, hour: int) -> _Hour:
        kept = self._hours.get(hour)
        if kept is None:
            records = self.world.records(hour)
            for plant in self.plants:
                if plant.hour == hour:
                    records = plant.apply(records)
            final = []
            for record in records:
                _, cap, percent = record.phases[-1]
                if cap:
                    final.append(charge_of(record, 0, cap, percent))
            kept = _Hour(records, known_from(records, hour), final)
            _keep(self._hours, hour, kept, self._kept_hours)
        else:
            self._hours.move_to_end(hour)
        return kept


def _keep(cache: OrderedDict[int, _Value], hour: int, value: _Value, limit: int) -> None:
    cache[hour] = value
    if len(cache) > limit:
        cache.popitem(last=False)
