"""Forecasts of a period, and the runway of a balance."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import exp
from typing import Generic, TypeVar

from exporter.charges import HOUR, Balance, Window
from exporter.forecasting.levels import WEEK
from exporter.forecasting.rhythm import DAY, EDGE, Rhythm
from exporter.forecasting.state import Forecast, Path

Key = TypeVar("Key", bound=Hashable)


class HourlySpend(Generic[Key]):
    """Nano-USD by key and hour, in a window that only moves forward.

    Attributes:
        versions: by key, how often one of its hours has changed that lay before the window's last two: whoever has
            learnt from those hours learns anew when the number has moved.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.versions: dict[Key, int] = {}
        self._spend: dict[Key, list[int]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._spend

    def __iter__(self) -> Iterator[Key]:
        return iter(self._spend)

    def move_to(self, window: Window) -> None:
        """Leave the hours before a window and take up those after, as free of cost; keys without any cost go."""
        gone = (window.start - self.window.start) // HOUR
        new = (window.end - self.window.end) // HOUR
        if gone < 0 or new < 0:
            raise ValueError(f"a window of hours moves forward, not from {self.window} to {window}")
        for key, hours in list(self._spend.items()):
            del hours[:gone]
            hours.extend([0] * (len(window) - len(hours)))
            if not any(hours):
                del self._spend[key], self.versions[key]
        self.window = window

    def set_hour(self, hour: datetime, spend: Mapping[Key, int]) -> None:
        """Set what an hour of the window cost; keys that are not named have cost nothing."""
        place = (hour - self.window.start) // HOUR
        is_learnt_from = place < len(self.window) - 2
        for key in spend.keys() - self._spend.keys():
            self._spend[key] = [0] * len(self.window)
            self.versions[key] = 0
        for key, hours in self._spend.items():
            amount = spend.get(key, 0)
            if hours[place] != amount:
                hours[place] = amount
                self.versions[key] += is_learnt_from

    def of(self, key: Key) -> Sequence[int]:
        """Return what each hour of the window cost, in order; a key that is not known has cost nothing."""
        return self._spend.get(key) or [0] * len(self.window)

    def total(self, key: Key, window: Window) -> int:
        """Return what the hours of a window cost, those outside the known ones nothing."""
        start, end = ((edge - self.window.start) // HOUR for edge in (window.start, window.end))
        return sum(self.of(key)[max(0, start) : max(0, end)])


def forecast(
    rhythm: Rhythm,
    *,
    edge: datetime,
    known_until: datetime,
    now: datetime,
    period: Window,
    spent: Callable[[Window], int],
) -> Forecast:
    """Add what the rest of a period is expected to cost to what has been spent.

    Hours after `known_until` have been seen in part, or not at all: what they have cost so far counts as a part of what
    was expected of them, and anything above that on top. So a surprise is in what has been spent and is not expected
    again, and a forecast is never below what has been spent.

    Args:
        rhythm: what the past teaches.
        edge: the first hour that it was not learnt from.
        known_until: the end of the last hour that is known as a whole; not before `edge`.
        now: an aware instant in the period.
        period: whole, with the hours that are still to come.
        spent: tells what a window has cost, in nano-USD.
    """
    open_from = min(max(known_until, period.start), period.end)
    first, end = (open_from - edge) // HOUR, (period.end - edge) // HOUR
    total = spent(period)
    if open_from == period.end:
        return Forecast(total, total, total)
    expected = rhythm.expected(first, end)
    seen = 0.0
    for place in range(first, (now - edge) // HOUR + 1):
        hour = edge + place * HOUR
        seen += min(spent(Window(hour, hour + HOUR)), rhythm.expected(place, place + 1))
    rest, spread = max(expected - seen, 0.0), exp(EDGE * rhythm.spread(first, end))
    return Forecast(total + round(rest), total + round(rest / spread), total + round(rest * spread))


HORIZONS = (1, 7, 14, 28)
"""Days ahead for which a path states its spread: between them it changes little, and evenly."""


def path_of(rhythm: Rhythm, edge: datetime, now: datetime) -> Path:
    """Return the path on which spend is expected to go on.

    Args:
        rhythm: what the past teaches.
        edge: the first hour that it was not learnt from.
        now: an aware instant.
    """
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    ahead = (midnight - edge) // HOUR
    weekdays = [0] * WEEK
    for day in range(WEEK):
        place = ahead + day * DAY
        weekdays[(midnight.isoweekday() + day) % WEEK] = round(rhythm.expected(place, place + DAY))
    return Path(tuple(weekdays), {days: exp(EDGE * rhythm.spread(ahead, ahead + days * DAY)) for days in HORIZONS})


_LONGEST = timedelta(days=3650)
_SPAN = timedelta(days=1)
_LEAST_SPAN = timedelta(hours=1)


def runway(balance: int, burn: float | None) -> timedelta | None:
    """Return how long a balance lasts, ten years at most.

    Args:
        balance: nano-USD; at 0 and below nothing is left.
        burn: nano-USD an hour, None where it is not known; at 0 a balance lasts for ever. Both are told as None.
    """
    if balance <= 0:
        return timedelta(0)
    if not burn or burn < 0:
        return None
    hours = balance / burn
    return _LONGEST if hours >= _LONGEST / HOUR else timedelta(seconds=int(hours * 3600))


def burn_of_usage(hours: Sequence[int], cap: float, unusual: int) -> float:
    """Return what is burnt an hour, in nano-USD: the larger of the last day and the last week, on average.

    The day tells what has just become more, the week that today is a Sunday.

    Args:
        hours: what the complete hours cost, the newest last.
        cap: what an hour counts for at most, so that a glitch does not burn on.
        unusual: what the newest hour costs if that is unusual, else 0: it burns on as long as it lasts.
    """
    spans = [span for span in (DAY, WEEK * DAY) if span <= len(hours)]
    return max((sum(min(hour, cap) for hour in hours[-span:]) / span for span in spans), default=0.0) + unusual


class BalanceFall:
    """Burn of an account by the fall of its balance over the last day; rises are purchases and burn nothing.

    Attributes:
        burn: nano-USD an hour; None while the balance has been watched for less than an hour.
    """

    def __init__(self) -> None:
        self.burn: float | None = None
        self._seen: deque[tuple[datetime, int]] = deque()

    def note(self, balance: Balance) -> None:
        """Take up what the balance was at an instant; one that is not newer than the newest is left out."""
        seen = self._seen
        if seen and balance.at <= seen[-1][0]:
            return
        seen.append((balance.at, balance.amount))
        while len(seen) > 1 and seen[1][0] <= balance.at - _SPAN:
            seen.popleft()
        span = seen[-1][0] - seen[0][0]
        if span >= _LEAST_SPAN:
            fallen = sum(max(0, before - after) for (_, before), (_, after) in pairwise(seen))
            self.burn = fallen / (span / HOUR)
