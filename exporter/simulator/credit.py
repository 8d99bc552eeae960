"""The prepaid balance and the invoices, worked out from the same charges as everything else."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from exporter.simulator.account import Account
from exporter.simulator.calendar import month_of, months_after
from exporter.simulator.exact import HOUR, NANO, instant_of, microseconds
from exporter.simulator.world import ISSUED_AFTER

TOP_UP = 10_000 * NANO
"""What is bought, in nano-USD for each step of the pace, whenever the credit runs low."""

_LOW = 2_000 * NANO
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
        """What is to be paid, in nano-USD."""
        return self.subtotal - self.credits + self.tax


async def balance(account: Account, now: datetime) -> int:
    """Return the credit balance at an instant, in nano-USD.

    On the first of a month the account is settled to a level; during the month the balance falls with whatever becomes
    visible, late charges and corrections of the month before included, and is topped up when it would run low.
    """
    if not account.world.prepaid:
        return 0
    as_of = microseconds(now)
    month = microseconds(month_of(now))
    top_up = TOP_UP * account.world.pace.busy
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
    bought = top_up * max(0, -(-(used - level + _LOW) // top_up))
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
    """Return the invoices that can be seen at an instant, newest first: the running months' as drafts."""
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
    """Return when the invoice of a UTC month is issued."""
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
