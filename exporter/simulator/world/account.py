"""The account as fal knows it: charges of any span as of any instant, the prepaid balance, and the invoices.

Everything is computed from the world and the injected charges; nothing is stored but bounded caches of finished hours.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random
from typing import NamedTuple, TypeVar

from exporter.simulator.world.exact import FOREVER, HOUR, NANO, instant_of, microseconds, month_of, months_after
from exporter.simulator.world.injected_charges import Plant
from exporter.simulator.world.world import ISSUED_AFTER, Charge, Record, World, charge_of, known_from, visible_requests

_KEPT_RECORDS = 150_000
_KEPT_PLANTED = 1_000
_KEPT_TOTALS = 50_000

_Value = TypeVar("_Value")

Span = tuple[int, int]
"""Half-open, in microseconds since 1970."""


class _Hour(NamedTuple):
    records: list[Record]
    known_from: int
    final: list[Charge]


class Account:
    """Charges of the world with those injected, a function of world, injections, span and instant.

    Attributes:
        plants: charges that tests have injected; replaced whole through `plant`.
    """

    def __init__(self, world: World) -> None:
        self.world, self._unplanted = _shared(world)
        self.plants: tuple[Plant, ...] = ()
        self._planted: OrderedDict[int, _Hour] = OrderedDict()
        self._totals: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def plant(self, plants: Iterable[Plant]) -> None:
        """Replace all injected charges."""
        wanted = tuple(plants)
        for plant in {*self.plants} ^ {*wanted}:
            self._planted.pop(plant.hour, None)
            self._totals.pop(plant.hour, None)
        self.plants = wanted

    def records(self, hour: int) -> list[Record]:
        """Return the records of an hour (since 1970), injected ones included."""
        return self._hour(hour).records

    def charges(self, span: Span, as_of: int, team: str = "") -> Iterator[list[Charge]]:
        """Yield the charges of a span as of an instant, hour by hour; empty hours are left out.

        Args:
            span: any instants; of an hour partly inside, only the requests made inside count.
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
        """Return the cost of a whole hour (since 1970) as of an instant, in nano-USD."""
        kept = self._totals.get(hour)
        if kept and kept[0] <= as_of:
            return kept[1]
        total = sum(charge.cost for charge in self._charges(hour, (hour * HOUR, (hour + 1) * HOUR), as_of))
        settled = self._hour(hour).known_from
        if settled <= as_of:
            _keep(self._totals, hour, (settled, total), _KEPT_TOTALS)
        return total

    def known_from(self, hour: int) -> int:
        """Return the instant from which an hour no longer changes."""
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
        planted = [plant for plant in self.plants if plant.hour == hour]
        if not planted:
            return self._unplanted(hour)
        kept = self._planted.get(hour)
        if kept is None:
            records = self._unplanted(hour).records
            for plant in planted:
                records = plant.apply(records)
            kept = _finished(records, hour)
            _keep(self._planted, hour, kept, _KEPT_PLANTED)
        return kept


class _Shared(NamedTuple):
    world: World
    hour: Callable[[int], _Hour]


@lru_cache(maxsize=4)
def _shared(world: World) -> _Shared:
    """Return one world for all that equal it, as lines are compared by identity, and its hours without injections."""
    hours = max(26, _KEPT_RECORDS // max(1, len(world.lines)))
    return _Shared(world, lru_cache(maxsize=hours)(lambda hour: _finished(world.records(hour), hour)))


def _finished(records: list[Record], hour: int) -> _Hour:
    final = []
    for record in records:
        _, cap, percent = record.phases[-1]
        if cap:
            final.append(charge_of(record, 0, cap, percent))
    return _Hour(records, known_from(records, hour), final)


def _keep(cache: OrderedDict[int, _Value], hour: int, value: _Value, limit: int) -> None:
    cache[hour] = value
    if len(cache) > limit:
        cache.popitem(last=False)


_LOW_PART = 5
"""Part of what is bought at a time, below which the credit is low."""

_UNSETTLED_HOURS = 8 * 24
_DUE_AFTER = timedelta(days=15)


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice of one UTC month; amounts in nano-USD, total = subtotal - credits + tax."""

    id: str
    number: str
    status: str
    period_start: datetime
    period_end: datetime
    issued_at: datetime | None
    due_at: datetime | None
    subtotal: int
    credits: int
    tax: int

    @property
    def total(self) -> int:
        """Amount to be paid, in nano-USD."""
        return self.subtotal - self.credits + self.tax


async def balance(account: Account, now: datetime) -> int:
    """Return the credit balance at an instant, in nano-USD.

    On the first of a month the account is settled to a level; during the month the balance falls with whatever becomes
    visible, including late charges and corrections of the month before, and is topped up before it runs low.
    """
    if not account.world.prepaid:
        return 0
    as_of = microseconds(now)
    month = microseconds(month_of(now))
    top_up = account.world.top_up * account.world.pace.busy
    low = account.world.top_up // _LOW_PART
    level = top_up + Random(f"{account.world.seed}:{month}").randrange(top_up)  # noqa: S311  reproducible, no secrets
    spent = used = 0
    for hour in range(month // HOUR, as_of // HOUR + 1):
        spent += account.cost(hour, as_of)
        if (hour + 1) * HOUR <= as_of:
            # Buying follows what was used, not what is charged so far: no correction ever undoes a purchase.
            used += account.cost(hour, max(as_of, account.known_from(hour)))
        if hour % 24 == 0:
            await asyncio.sleep(0)
    for hour in range(month // HOUR - _UNSETTLED_HOURS, month // HOUR):
        if account.known_from(hour) > month:
            spent += account.cost(hour, as_of) - account.cost(hour, month)
    bought = top_up * max(0, -(-(used - level + low) // top_up))
    return level + bought - spent


async def month_cost(account: Account, month: datetime, as_of: int) -> int:
    """Return the cost of a UTC month as of an instant (microseconds), in nano-USD."""
    total = 0
    for hour in range(microseconds(month) // HOUR, microseconds(months_after(month, 1)) // HOUR):
        if hour * HOUR >= as_of:
            break
        total += account.cost(hour, as_of)
        if hour % 24 == 0:
            await asyncio.sleep(0)
    return total


async def invoices(account: Account, now: datetime) -> list[Invoice]:
    """Return the invoices that can be seen at an instant, newest first: the current months' as drafts."""
    if not account.world.invoiced_months:
        return []
    found = []
    for back in range(account.world.invoiced_months + 1):
        month = months_after(month_of(now), -back)
        subtotal = await month_cost(account, month, microseconds(min(now, issue_of(month))))
        found.append(invoice_of(account, month, subtotal, now))
        void = _voided(account, month, now)
        if void:
            found.append(void)
    return found


def issue_of(month: datetime) -> datetime:
    """Return the instant at which the invoice of a UTC month is issued."""
    return instant_of(microseconds(months_after(month, 1)) + ISSUED_AFTER)


def last_invoiced(now: datetime) -> datetime:
    """Return the latest UTC month whose invoice has been issued."""
    month = months_after(month_of(now), -1)
    return month if issue_of(month) <= now else months_after(month, -1)


def invoice_id(account: Account, month: datetime) -> str:
    """Return the id of the invoice of a UTC month."""
    return f"inv_{month:%Y%m}_{account.world.seed % 2**32:08x}"


def invoice_of(account: Account, month: datetime, subtotal: int, now: datetime) -> Invoice:
    """Return the invoice of a month whose charges, as of its issue or now, cost `subtotal` nano-USD."""
    world, issued = account.world, issue_of(month)
    credits_used = min(world.monthly_credit, subtotal)
    due = issued + _DUE_AFTER
    status = "draft" if now < issued else "open" if now < due else "paid"
    return Invoice(
        id=invoice_id(account, month),
        number=f"FAL-{month:%Y%m}-0001",
        status=status,
        period_start=month,
        period_end=months_after(month, 1),
        issued_at=None if status == "draft" else issued,
        due_at=None if status == "draft" else due,
        subtotal=subtotal,
        credits=credits_used,
        tax=(subtotal - credits_used) * world.tax_percent // 100,
    )


def _voided(account: Account, month: datetime, now: datetime) -> Invoice | None:
    """Return the invoice of a month that was issued by mistake and voided, which happens about once in four months."""
    chance = Random(f"{account.world.seed}:void:{month:%Y%m}")  # noqa: S311  reproducible, no secrets
    issued = issue_of(month)
    if chance.randrange(4) or now < issued:
        return None
    return Invoice(
        id=f"{invoice_id(account, month)}_void",
        number=f"FAL-{month:%Y%m}-0000",
        status="void",
        period_start=month,
        period_end=months_after(month, 1),
        issued_at=issued - timedelta(hours=1),
        due_at=issued + _DUE_AFTER,
        subtotal=(1 + chance.randrange(900)) * NANO,
        credits=0,
        tax=0,
    )
