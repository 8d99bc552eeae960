"""Level of daily spend, its growth, and its changes: what a day costs now, and how sure that is.

Days are compared by the logarithm of their cost, so that five percent are five percent at any level. Growth is what
days have in common with the same day a week later. What remains is cut into stretches of one level where a cut explains
more than chance would: a new contract, a new model, a campaign. A recent change is believed only in part, because it
may pass: a rise less than a fall, as campaigns are more common than half-bills that double again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import exp, log, sqrt
from statistics import median

WEEK = 7
_LEAST_PART = 0.02
"""Of an average day, added to every day: one without cost is far below the others, and not infinitely far."""

_LEAST_NOISE = 0.02
_MAD = 0.6745
"""Median absolute deviation of a normal distribution, in standard deviations."""

_LEAST_GROWTH_DAYS, _MOST_GROWTH, _UNKNOWN_GROWTH = 21, 0.04, 0.002**2
_SLOPE_VARIANCE = 48.0
"""Of a robust slope, in variances of the noise over the cube of the days."""

_MAY_END = 3.0
"""Variance of a growth that has been found, in that of its slope: it may also end, or become more."""

SEEN = 14.0
"""Squared standard deviations that one more stretch must explain: the square of a change that a single day shows."""

_RISE_DAYS, _FALL_DAYS = 7.0, 1.5
"""Days after which a rise or a fall is taken to last."""

_SAME = 0.12
"""Difference of logarithms up to which two stretches have the same level."""

_FORGETS = 0.97
"""Weight of a day against the one after it; the days of a week weigh the same."""


@dataclass(frozen=True, slots=True)
class Level:
    """Level at the end of some days.

    Attributes:
        amount: what an average day costs after the last, in nano-USD.
        growth: of the logarithm of a day's cost, a day.
        noise: variance of a day's logarithm around its level.
        doubt: variance of the level's logarithm, as an average of noisy days.
        passing: variance of the level's logarithm by whether the last change will last.
        growth_doubt: variance of the growth.
        moves: changes of level, each as far as it seems to last.
        moved: sum of their squares, in logarithms.
    """

    amount: float
    growth: float
    noise: float
    doubt: float
    passing: float
    growth_doubt: float
    moves: float
    moved: float


def growth_of(days: Sequence[float]) -> float:
    """Return the growth of the logarithm a day by which whole weeks differ: the median of all pairs of weeks."""
    if len(days) < _LEAST_GROWTH_DAYS:
        return 0.0
    weeks = [sum(days[end - WEEK : end]) for end in range(len(days), WEEK - 1, -WEEK)]
    logs = _logs(weeks)
    slopes = [(logs[new] - logs[old]) / (old - new) for new in range(len(logs)) for old in range(new + 1, len(logs))]
    return max(-_MOST_GROWTH, min(_MOST_GROWTH, median(slopes) / WEEK))


def grown(days: Sequence[float], growth: float) -> list[float]:
    """Return what days would have cost had they all had the growth of the last."""
    return [amount * exp(growth * (len(days) - at - 0.5)) for at, amount in enumerate(days)]


@dataclass(frozen=True, slots=True)
class Stretches:
    """Days cut into stretches of one level.

    Attributes:
        days: without the difference of the weekdays and without growth, in nano-USD.
        growth: that they are without.
        noise: standard deviation of a day's logarithm.
        cuts: first day of each stretch, and the end of the last.
        cost: what the stretches leave unexplained and what they cost, in variances of the noise.
    """

    days: Sequence[float]
    growth: float
    noise: float
    cuts: Sequence[int]
    cost: float


def noise_of(days: Sequence[float], even: Sequence[float]) -> float:
    """Return the standard deviation of a day's logarithm, by what neighbouring days differ by.

    Args:
        days: with the difference of the weekdays, which counts as noise before it has been seen twice.
        even: without it; it was learnt from these days, so that they differ by less than others will.
    """
    weeks = len(days) // WEEK
    return _noise(_logs(days)) if weeks <= 1 else _noise(_logs(even)) * sqrt(weeks / (weeks - 1))


def stretches_of(days: Sequence[float], growth: float, noise: float) -> Stretches:
    """Cut days into stretches of one level, at a given noise."""
    logs = _logs(days)
    cuts, cost = _cuts(logs, SEEN * noise**2)
    return Stretches(days, growth, noise, cuts, cost / noise**2 + (SEEN if growth else 0.0))


def level_of(stretches: Stretches) -> Level:
    """Return the level after the last of the stretches."""
    flat, noise = stretches.days, stretches.noise
    count = len(flat)
    variance = _SLOPE_VARIANCE * noise**2 / count**3
    growth = stretches.growth
    growth_doubt = min(_UNKNOWN_GROWTH, variance if count >= _LEAST_GROWTH_DAYS else _UNKNOWN_GROWTH)
    growth_doubt *= _MAY_END if growth else 1.0
    levels: list[tuple[float, int]] = []  # of each stretch its amount and days
    passing = moves = moved = 0.0
    amount, weight = 0.0, 0.0
    for start, end in pairwise(stretches.cuts):
        of_stretch, stretch_weight = _average(flat[start:end], count - end)
        if not levels:
            amount, weight = of_stretch, stretch_weight
            levels.append((amount, end - start))
            continue
        returned = next((item for item in levels if abs(_step(item[0], of_stretch)) < _SAME), None)
        step = _step(amount, of_stretch)
        usual = _RISE_DAYS if step > 0 else _FALL_DAYS
        lasts = 1.0 if returned else min(1.0, (end - start) / usual)
        passing = lasts * (1 - lasts) * step**2
        amount = lasts * of_stretch + (1 - lasts) * amount
        weight = stretch_weight
        moves += lasts
        moved += (lasts * step) ** 2
        levels.append((of_stretch, end - start))
    return Level(amount, growth, noise**2, noise**2 / max(weight, 1.0), passing, growth_doubt, moves, moved)


def _step(before: float, after: float) -> float:
    least = max(before, after, 1.0) * _LEAST_PART
    return log((after + least) / (before + least))


def _logs(days: Sequence[float]) -> list[float]:
    least = max(_LEAST_PART * sum(days) / len(days), 1.0)
    return [log(max(amount, 0.0) + least) for amount in days]


def _noise(logs: Sequence[float]) -> float:
    steps = [abs(after - before) for before, after in pairwise(logs)]
    return max(_LEAST_NOISE, median(steps) / _MAD / sqrt(2)) if steps else 10 * _LEAST_NOISE


def _average(days: Sequence[float], age: int) -> tuple[float, float]:
    """Return the average of days of which the newest count more, and how many equal days it is worth.

    Of a week or more it is of whole weeks, so that wrong differences of the weekdays do not matter.
    """
    days = days[-(len(days) // WEEK * WEEK) :] if len(days) >= WEEK else days
    weights = [_FORGETS ** (age + (len(days) - 1 - at) // WEEK * WEEK) for at in range(len(days))]
    whole = sum(weights)
    average = sum(weight * day for weight, day in zip(weights, days, strict=True)) / whole
    return average, whole**2 / sum(weight**2 for weight in weights)


def _cuts(logs: Sequence[float], price: float) -> tuple[list[int], float]:
    """Return the first day of each stretch and the end of the last, and the cost: the cheapest way to cut."""
    sums = [0.0, *accumulate(logs)]
    squares = [0.0, *accumulate(item * item for item in logs)]
    best, previous = [0.0], [0]
    for end in range(1, len(logs) + 1):
        cost, start = min(
            (
                best[start] + price + squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start),
                start,
            )
            for start in range(end)
        )
        best.append(cost)
        previous.append(start)
    cuts = [len(logs)]
    while cuts[-1]:
        cuts.append(previous[cuts[-1]])
    return cuts[::-1], best[-1]
