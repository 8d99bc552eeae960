"""An exporter as one would write it in an afternoon; the checks of a life must tell it from a true one.

It counts every hour that ends in its time, once, as it was when it was first seen complete; it keeps all in memory, and
it publishes a series with its first value.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from e2e.life.story import HOUR, NANO
from e2e.life.truth import MEASURES, Amounts, told
from e2e.life.witness import Committed

from exporter.charges import Charge


class NaiveExporter:
    """Sees exactly what the polls of the true exporter bring; a restart is a new one."""

    def __init__(self, zone: ZoneInfo, start: datetime) -> None:
        self._zone = zone
        self._start = start
        self._seen: set[tuple[str, datetime]] = set()
        self._counters: dict[str, Amounts] = {family: {} for family in MEASURES}
        self._spans: dict[tuple[str, str], Amounts] = {}

    def learn(self, committed: Committed) -> None:
        """Count the complete hours of a poll that have not been seen."""
        new = {
            hour
            for hour in committed.window.hours()
            if self._start < hour + HOUR <= committed.at and (committed.source, hour) not in self._seen
        }
        self._seen.update((committed.source, hour) for hour in new)
        for charge in committed.charges:
            if charge.hour in new:
                self._count(charge)

    def exposition(self, now: datetime) -> bytes:
        """Return what it shows to a scrape, in OpenMetrics' form."""
        local = now.astimezone(self._zone)
        last_month = local.replace(day=1) - timedelta(days=1)
        shown = self._counters | {
            "fal_spend_last_hour_usd": self._span("cost", _hour(now - HOUR)),
            "fal_gpu_time_last_hour_seconds": self._span("gpu_seconds", _hour(now - HOUR)),
            "fal_spend_today_usd": self._span("cost", f"{local:%Y-%m-%d}"),
            "fal_spend_month_to_date_usd": self._span("cost", f"{local:%Y-%m}"),
            "fal_gpu_time_month_to_date_seconds": self._span("gpu_seconds", f"{local:%Y-%m}"),
            "fal_spend_last_month_usd": self._span("cost", f"{last_month:%Y-%m}"),
        }
        return "\n".join(line for family, amounts in shown.items() for line in _lines(family, amounts)).encode()

    def _count(self, charge: Charge) -> None:
        hour, dimensions, amounts = charge
        by_name = dimensions._asdict()
        for family, measure in MEASURES.items():
            amount: int = getattr(amounts, measure)
            if not amount:
                continue
            labels = told(dimensions.account, measure, by_name)
            places = [self._counters[family]]
            if measure in {"cost", "gpu_seconds"}:
                local = hour.astimezone(self._zone)
                spans = (_hour(hour), f"{local:%Y-%m-%d}", f"{local:%Y-%m}")
                places += [self._spans.setdefault((measure, span), {}) for span in spans]
            for place in places:
                place[labels] = place.get(labels, 0) + amount

    def _span(self, measure: str, name: str) -> Amounts:
        return self._spans.get((measure, name), {})


def _hour(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H}"


def _lines(family: str, amounts: Amounts) -> Iterator[str]:
    for labels, amount in amounts.items():
        pairs = ",".join(f'{name}="{value}"' for name, value in sorted(labels))
        yield f"{family}{{{pairs}}} {amount / NANO!r}"
