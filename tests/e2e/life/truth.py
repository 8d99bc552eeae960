"""The truth, by the simulator's own statement: nothing of the exporter has a part in it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from e2e.life.story import HOUR
from e2e.processes import Labels

from exporter.simulator import Simulator

MEASURES: Mapping[str, str] = {
    "fal_spend_usd_total": "cost",
    "fal_discount_usd_total": "discount",
    "fal_gpu_seconds_total": "gpu_seconds",
    "fal_usage_quantity_total": "quantity",
}
"""The counters of charges, and what of a charge they count."""

Amounts = dict[Labels, int]
"""Nano-units by the labels of a series."""


class Span(NamedTuple):
    """A half-open span of hours in UTC."""

    start: datetime
    end: datetime


def told(account: str, measure: str, dimensions: Mapping[str, str]) -> Labels:
    """Return the labels of the series in which a charge is told; without those that are empty."""
    names = ("product", "model", "app", "gpu_class", *(("unit",) if measure == "quantity" else ()))
    return frozenset({("account", account), *((name, dimensions[name]) for name in names if dimensions[name])})


class Truth:
    """Asks the simulator what it charges as of the instant of its clock."""

    def __init__(self, simulator: Simulator, account: str) -> None:
        self._simulator = simulator
        self._account = account

    def counted(self, start: datetime, end: datetime) -> dict[str, Amounts]:
        """Return what each counter would show if it counted a span from nothing."""
        rows = self._rows(Span(start, end))
        return {family: self._summed(rows, measure) for family, measure in MEASURES.items()}

    def _summed(self, rows: list[dict[str, str]], measure: str) -> Amounts:
        amounts: Amounts = {}
        for row in rows:
            amount = int(Decimal(row[measure]).scaleb(9))
            if amount:
                labels = told(self._account, measure, row)
                amounts[labels] = amounts.get(labels, 0) + amount
        return amounts

    def of_the_day(self, now: datetime, zone: ZoneInfo) -> Iterator[tuple[str, Amounts]]:
        """Yield what the gauges of the last hour and of the day must tell."""
        hour = now.replace(minute=0)
        last = self._rows(Span(hour - HOUR, hour))
        yield "fal_spend_last_hour_usd", self._summed(last, "cost")
        yield "fal_gpu_time_last_hour_seconds", self._summed(last, "gpu_seconds")
        midnight = now.astimezone(zone).replace(hour=0, minute=0, fold=0)
        today = self._rows(Span(midnight.astimezone(UTC), hour + HOUR))
        yield "fal_spend_today_usd", self._summed(today, "cost")

    def of_the_months(self, now: datetime, zone: ZoneInfo) -> Iterator[tuple[str, Amounts]]:
        """Yield what the gauges of this month and the last must tell."""
        first = now.astimezone(zone).replace(day=1, hour=0, minute=0, fold=0)
        before = (first.replace(tzinfo=None) - timedelta(days=1)).replace(day=1, tzinfo=zone)
        month = self._rows(Span(first.astimezone(UTC), now.replace(minute=0) + HOUR))
        yield "fal_spend_month_to_date_usd", self._summed(month, "cost")
        yield "fal_gpu_time_month_to_date_seconds", self._summed(month, "gpu_seconds")
        last_month = self._rows(Span(before.astimezone(UTC), first.astimezone(UTC)))
        yield "fal_spend_last_month_usd", self._summed(last_month, "cost")

    def _rows(self, span: Span) -> list[dict[str, str]]:
        statement = self._simulator.statement(
            start=span.start.isoformat(), end=span.end.isoformat(), group_by="product,model,app,gpu_class,unit"
        )
        rows = statement["charges"]
        if not isinstance(rows, list):
            raise TypeError("a statement lists its charges")
        return rows
