"""The knowledge that an exporter can have: what its polls have brought so far, by nothing but addition."""

from datetime import datetime

from e2e.life.story import HOUR
from e2e.life.truth import MEASURES, Amounts, told
from e2e.life.witness import Committed

from exporter.charges import Charge


class Learnt:
    """Adds up, poll by poll, what was learnt since the birth.

    Attributes:
        now: what has been learnt of each counter's series; it falls when fal takes something back.
        highest: the most that had ever been learnt, which is where a counter that never falls must stand.
    """

    def __init__(self, birth: datetime) -> None:
        self.now: dict[str, Amounts] = {family: {} for family in MEASURES}
        self.highest: dict[str, Amounts] = {family: {} for family in MEASURES}
        self._begun_before = birth.replace(minute=0) + HOUR
        self._stated: dict[tuple[str, datetime], list[Charge]] = {}

    def waiting(self, family: str) -> Amounts:
        """Return by how much each series that is not where it should be must be ahead."""
        now = self.now[family]
        return {labels: most - now[labels] for labels, most in self.highest[family].items() if most != now[labels]}

    def learn(self, committed: Committed) -> None:
        """Take up what a poll has brought: hours that began before the birth are history when first seen."""
        moved: dict[str, Amounts] = {family: {} for family in MEASURES}
        by_hour: dict[datetime, list[Charge]] = {hour: [] for hour in committed.window.hours()}
        for charge in committed.charges:
            by_hour[charge.hour].append(charge)
        for hour, charges in by_hour.items():
            before = self._stated.get((committed.source, hour))
            self._stated[committed.source, hour] = charges
            if before != charges and (before is not None or hour >= self._begun_before):
                _add(moved, charges, 1)
                _add(moved, before or [], -1)
        for family, amounts in moved.items():
            now, highest = self.now[family], self.highest[family]
            for labels, amount in amounts.items():
                now[labels] = now.get(labels, 0) + amount
                highest[labels] = max(highest.get(labels, 0), now[labels])


def _add(sums: dict[str, Amounts], charges: list[Charge], sign: int) -> None:
    for _, dimensions, amounts in charges:
        by_name = dimensions._asdict()
        for family, measure in MEASURES.items():
            amount: int = getattr(amounts, measure)
            if amount:
                labels = told(dimensions.account, measure, by_name)
                sums[family][labels] = sums[family].get(labels, 0) + sign * amount
