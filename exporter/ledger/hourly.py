"""What every hour cost by series, and which hours have changed since one asked last.

For whoever keeps sums of its own over many hours: it asks for all of them once, and then again for those that were
touched.
"""

from collections import deque
from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, select

from exporter.charges import HOUR, Window
from exporter.ledger.schema import charges, hour_number, hour_start

HourlyCosts = dict[datetime, dict[int, int]]
"""Nano-USD by series, for every hour of a window, those that cost nothing too."""

_REMEMBERED = 10_000


def read_hourly(connection: Connection, scopes: Collection[int], window: Window) -> HourlyCosts:
    """Return what the series of some scopes cost in each hour of a window."""
    first = hour_number(window.start)
    hours: list[dict[int, int]] = [{} for _ in range(len(window))]
    rows = connection.execute(
        select(charges.c.hour, charges.c.series_id, charges.c.cost).where(
            charges.c.scope_id.in_(scopes), charges.c.hour >= first, charges.c.hour < first + len(window)
        )
    )
    for hour, series, cost in rows:
        hours[hour - first][series] = cost
    return dict(zip(window.hours(), hours, strict=True))


class TouchedHours:
    """Which hours were changed by which revision; knows nothing of what came before `since`."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._spans: deque[tuple[int, Window]] = deque()

    def note(self, revision: int, hours: Iterable[int]) -> None:
        """Note that a revision has changed hours, by their numbers."""
        for window in _runs(sorted(set(hours))):
            self._spans.append((revision, window))
        while len(self._spans) > _REMEMBERED:
            self._since = self._spans.popleft()[0]

    def after(self, revision: int) -> tuple[Window, ...] | None:
        """Return what was touched after a revision, each hour at most once, in order; None if that is not known."""
        if revision < self._since:
            return None
        touched = {hour for at, window in self._spans if at > revision for hour in window.hours()}
        return tuple(_runs(sorted(map(hour_number, touched))))


def _runs(hours: Iterable[int]) -> Iterable[Window]:
    run: list[int] = []
    for hour in hours:
        if run and hour != run[-1] + 1:
            yield Window(hour_start(run[0]), hour_start(run[-1]) + HOUR)
            run = []
        run.append(hour)
    if run:
        yield Window(hour_start(run[0]), hour_start(run[-1]) + HOUR)
