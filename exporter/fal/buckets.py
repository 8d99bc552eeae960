"""Buckets of a window that is asked for once, in as few calls as its days and months allow.

The ledger is read hour by hour. A window that the ledger does not have is asked for when somebody wants it: in whole
months of the zone, days where a month is cut, and hours where a day is, so that every bucket fal answers with lies in
the window and sums are exact. Where a zone's days do not begin on an hour of UTC, it is asked for by hours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from exporter.calendar import Every, first_hour_of, month_after
from exporter.charges import Window
from exporter.errors import UpstreamError

MOST_CALLS = 40
"""Calls for one question."""

_MOST_HOURS = 93 * 24
_UTC = ZoneInfo("UTC")
_ONE_DAY = timedelta(days=1)


class TooMuchError(UpstreamError):
    """A window has more than can be asked for at once."""

    reason = "too_much"

    def __init__(self) -> None:
        super().__init__(
            f"the answer takes more than {MOST_CALLS} calls to fal, which is the most for one question; ask for a "
            "shorter window, or by longer periods: month instead of day, day instead of hour"
        )


@dataclass(slots=True)
class Allowance:
    """Calls that may still be made for one question.

    Attributes:
        left: how many.
    """

    left: int = MOST_CALLS

    def take(self) -> None:
        """Count a call.

        Raises:
            TooMuchError: it is one too many.
        """
        if not self.left:
            raise TooMuchError
        self.left -= 1


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a window that is asked for by one timeframe.

    Attributes:
        edges: where its buckets begin.
    """

    window: Window
    timeframe: Every
    zone: ZoneInfo
    edges: frozenset[datetime]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Buckets to ask for.

    Attributes:
        every: the longest bucket that is wanted; None for the window as one.
        zone: whose days and months they are.
    """

    window: Window
    every: Every | None
    zone: ZoneInfo

    def windows(self) -> Iterator[Window]:
        """Yield the buckets, in order; the first and the last may be cut."""
        if self.every is None:
            yield self.window
            return
        edges = sorted({self.window.start, *_edges(self.window, self.every, self.zone), self.window.end})
        for start, end in pairwise(edges):
            yield Window(start, end)

    def pieces(self) -> tuple[Piece, ...]:
        """Return the parts to ask for, in order, each of whole buckets.

        Raises:
            TooMuchError: there are too many hours to ask for one by one.
        """
        zone = _UTC if self.every is None else self.zone
        return tuple(_pieces(self.window, self.every or "month", zone))


_FINER: dict[Every, Every] = {"month": "day", "day": "hour"}


def _pieces(window: Window, every: Every, zone: ZoneInfo) -> Iterator[Piece]:
    if every == "hour":
        if len(window) > _MOST_HOURS:
            raise TooMuchError
        yield Piece(window, every, _UTC, frozenset(window.hours()))
        return
    edges = _edges(window, every, zone)
    if len(edges) < 2 or not _begins_on_hours(edges, zone):  # noqa: PLR2004  no whole bucket
        yield from _pieces(window, _FINER[every], zone)
        return
    first, last = edges[0], edges[-1]
    if window.start < first:
        yield from _pieces(Window(window.start, first), _FINER[every], zone)
    yield Piece(Window(first, last), every, zone, frozenset(edges[:-1]))
    if last < window.end:
        yield from _pieces(Window(last, window.end), _FINER[every], zone)


def _edges(window: Window, every: Every, zone: ZoneInfo) -> list[datetime]:
    """Return the starts of hours, days or months in a window, and its end if it is one."""
    if every == "hour":
        return [*window.hours(), window.end]
    day = window.start.astimezone(zone).date()
    day = day.replace(day=1) if every == "month" else day
    edges: list[datetime] = []
    while (edge := first_hour_of(day, zone)) <= window.end:
        if edge >= window.start and edge not in edges[-1:]:
            edges.append(edge)
        day = day + _ONE_DAY if every == "day" else month_after(day)
    return edges


def _begins_on_hours(edges: list[datetime], zone: ZoneInfo) -> bool:
    return all((local := edge.astimezone(zone)).minute == local.second == 0 and local.hour == 0 for edge in edges)
