"""Rhythm of spend: level, weekly and daily pattern, and how far past forecasts were off.

Everything is in blocks of 24 hours that end at the edge, the first hour that is not learnt from: a block has every
hour of the day once, whatever the time zone. Floats are for the statistics alone; amounts go in as whole nano-USD and
are made whole again by those who publish them. `tests/benchmarks/forecast.py` measures how good it is; the numbers
below were chosen on other worlds than it uses.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import log1p, sqrt
from operator import sub
from statistics import median

DAY, WEEK = 24, 7
LONGEST = 56 * DAY
"""Hours that are learnt from: eight weeks."""

_HABIT_DAYS, _HABIT_FACTOR = 3, 3
"""An hour counts for at most so many times the peak of the day with the third-highest peak: a glitch is no habit."""

_ADAPTS = 0.2
"""Weight of the newest day in the level, once there are a few."""

_EVEN_WEEKS, _LEAST_FACTOR = 1.0, 0.02
"""Weeks of days that are all alike with which the fit of the weekdays begins."""

_RECENT_DAYS = 28
"""Over which the hours of the day, and what is unusual, are learnt."""

_PRIOR_COUNT, _PRIOR_DAY, _PRIOR_WEEK, _PRIOR_UNSEEN_WEEK = 0.6, 0.3, 0.15, 0.35
"""Errors that are assumed before there are any: how many, of a day, of a week, and of a week when none was seen yet."""

_OVERLAP = 4
"""Weekly errors are taken every day; so many of them say as much as one."""

_LEAST_DRIFT, _LARGEST_ERROR = 0.3, 3.0
_USUAL_FACTOR, _USUAL_SURPRISES = 1.5, 1.5


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Expected cost of the days after the edge, in nano-USD, and its spread.

    Attributes:
        days: whole days that were learnt from, at least one.
        level: what an average day costs.
        weekdays: factor on the level of each of the 7 days after the edge.
        shares: share of a day's cost in each of the 24 hours after the edge; they sum up to 1.
        noise: variance of a day around the level, relative to its square; it averages out over many days.
        drift: variance of a whole week around the level, likewise; it grows with time.
        surprise: by how much an hour has been above what was expected on the second most surprising day.
        cap: what an hour counts for at most.
    """

    days: int
    level: float
    weekdays: tuple[float, ...]
    shares: tuple[float, ...]
    noise: float
    drift: float
    surprise: float
    cap: int

    def expected(self, first: int, end: int) -> float:
        """Return what the hours cost that begin from `first` to before `end` hours after the edge."""
        total = 0.0
        for day in range(first // DAY, -(-end // DAY)):
            start, stop = max(first - day * DAY, 0), min(end - day * DAY, DAY)
            share = 1.0 if stop - start == DAY else sum(self.shares[start:stop])
            total += self.level * self.weekdays[day % WEEK] * share
        return total

    def high(self, place: int) -> float:
        """Return what the hour so many hours after the edge may cost without being unusual."""
        return _USUAL_FACTOR * self.expected(place, place + 1) + _USUAL_SURPRISES * self.surprise

    def spread(self, hours: int) -> float:
        """Return the standard deviation of the logarithm of what so many hours cost, by the errors of the past."""
        days = max(hours, 1) / DAY
        return sqrt(log1p(self.noise / sqrt(days) + self.drift * max(1.0, days / WEEK)))


def learn(hours: Sequence[int]) -> Rhythm | None:
    """Learn from what the hours before an edge have cost, oldest first; None while they are less than a day.

    The level is smoothed exponentially, over days without the difference of the weekdays; its errors are those that the
    same smoothing made on the way, for the next day and for the next week.
    """
    days = min(len(hours), LONGEST) // DAY
    if not days:
        return None
    blocks = [hours[at : at + DAY] for at in range(len(hours) - days * DAY, len(hours), DAY)]
    peaks = [max(block) for block in blocks]
    cap = _HABIT_FACTOR * max(0, *sorted(peaks)[-_HABIT_DAYS:][:1])
    blocks = [
        [max(0, min(hour, cap)) for hour in block] if peak > cap or min(block) < 0 else block
        for block, peak in zip(blocks, peaks, strict=True)
    ]
    sums = [sum(block) for block in blocks]
    weekdays = _weekdays(sums)
    even = [amount / weekdays[place % WEEK] for place, amount in enumerate(sums, -days)]
    *levels, level = _levels(even)
    shares = _shares(blocks[-_RECENT_DAYS:])
    noise, drift = _errors(even, levels)
    expected = [item * weekdays[place % WEEK] for place, item in enumerate(levels, -days)]
    return Rhythm(
        days=days,
        level=level,
        weekdays=weekdays,
        shares=shares,
        noise=noise,
        drift=drift,
        surprise=_surprise(blocks[-_RECENT_DAYS:], expected[-_RECENT_DAYS:], shares),
        cap=cap,
    )


def _weekdays(sums: Sequence[int]) -> tuple[float, ...]:
    """Return the factor of each day of the week, the day after the newest first."""
    weeks = [sums[end - WEEK : end] for end in range(len(sums), WEEK - 1, -WEEK)]
    ratios = [[WEEK * amount / sum(week) for amount in week] for week in weeks if any(week)]
    if not ratios:
        return (1.0,) * WEEK
    return tuple(
        max(_LEAST_FACTOR, (_EVEN_WEEKS + len(of_day) * median(of_day)) / (_EVEN_WEEKS + len(of_day)))
        for of_day in zip(*ratios, strict=True)
    )


def _levels(days: Sequence[float]) -> Iterator[float]:
    """Yield the level before each day, and after the last."""
    level = sum(days[:WEEK]) / len(days[:WEEK])
    for number, amount in enumerate(days, 1):
        yield level
        level += max(_ADAPTS, 1 / number) * (amount - level) if number > 1 else 0.0
    yield level


def _shares(blocks: Sequence[Sequence[int]]) -> tuple[float, ...]:
    by_hour = [sum(hours) for hours in zip(*blocks, strict=True)]
    whole = sum(by_hour)
    return tuple(item / whole for item in by_hour) if whole else (1 / DAY,) * DAY


def _errors(days: Sequence[float], levels: Sequence[float]) -> tuple[float, float]:
    """Return the variances `noise` and `drift`, from how far the levels were off one day and one week later."""
    least = max(*levels, 1000.0) / 1000
    next_day = [_relative(days[at], levels[at], least) ** 2 for at in range(1, len(days))]
    until = [0.0, *accumulate(days)]
    next_week = [
        _relative((until[at + WEEK] - until[at]) / WEEK, levels[at], least) ** 2
        for at in range(WEEK, len(days) - WEEK + 1)
    ]
    prior = _PRIOR_WEEK if len(days) >= WEEK else _PRIOR_UNSEEN_WEEK
    day = (sum(next_day) + _PRIOR_COUNT * _PRIOR_DAY**2) / (len(next_day) + _PRIOR_COUNT)
    week = (sum(next_week) / _OVERLAP + _PRIOR_COUNT * prior**2) / (len(next_week) / _OVERLAP + _PRIOR_COUNT)
    # A week's error is drift and a seventh of the noise, a day's is drift and noise.
    drift = max((week - day / WEEK) * WEEK / (WEEK - 1), _LEAST_DRIFT * week)
    return max(day - drift, 0.0), drift


def _relative(amount: float, level: float, least: float) -> float:
    return max(-_LARGEST_ERROR, min(_LARGEST_ERROR, (amount - level) / max(level, least)))


def _surprise(blocks: Sequence[Sequence[int]], expected: Sequence[float], shares: Sequence[float]) -> float:
    """Return the second-largest of the days' largest surprises, so that a glitch makes the next one no less unusual."""
    largest: list[float] = sorted(
        max(map(sub, block, [of_day * share for share in shares]))
        for block, of_day in zip(blocks, expected, strict=True)
    )
    return max(largest[-2:][0], 0.0)
