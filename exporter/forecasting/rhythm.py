"""Rhythm of spend: weekly and daily pattern around a level (`levels`), and what of it is in doubt.

Everything is in blocks of 24 hours that end at the edge, the first hour that is not learnt from: a block has every
hour of the day once, whatever the time zone. Floats are for the statistics alone; amounts go in as whole nano-USD and
are made whole again by those who publish them. `tests/benchmarks/forecast.py` measures how good it is; the numbers
below were chosen on other worlds than it uses.

The spread that a rhythm states is a model's. So weeks of the past are forecast from what was known before them, and the
errors, measured in that spread, say by which factor it is too wide or too narrow for this account (`calibrated`): too
wide for one that is steady, too narrow for one where models come and go. The largest error is left out: a week with a
contract or a campaign in it is no rule, and the change of level by itself is in the rhythm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import erf, exp, log, sqrt
from operator import sub
from statistics import fmean, median

from exporter.forecasting.levels import SEEN, WEEK, Level, Stretches, grown, growth_of, level_of, noise_of, stretches_of

DAY = 24
LONGEST = 56 * DAY
"""Hours that are learnt from: eight weeks."""

_HABIT_DAYS, _HABIT_FACTOR = 3, 3
"""An hour counts for at most so many times the peak of the day with the third-highest peak: a glitch is no habit."""

_ADAPTS = 0.2
"""Weight of the newest day in the level, once there are a few."""

_QUIETER_WEEKEND = 0.8
"""Cost of a day of the weekend to one of the week that is assumed of an account before a week has been seen."""

_ASSUMED_WEEKS, _LEAST_FACTOR = 0.5, 0.02
"""Weeks that this assumption counts for beside those that have been seen."""

_UNSEEN_WEEKDAYS = 0.2**2
"""Variance of a day's logarithm by its weekday, before a week has been seen."""

_ROUGHER, _OF_ONE_WEEK = 1.2, 0.6
"""Variance of days to come, in that of the days that were learnt from; and its part that is noise where only one week
has been seen: the rest is the difference of the weekdays, which is in the factors by then."""

_COMMON_WEEKS = 0.2
"""Weeks that the shares of the hours in all days count for beside those of a weekday."""

_LAST_WEEK, _ALIKE = 0.4, 1.2
"""Weight of each day of the last week in the same day to come, and up to which factor it may differ from what the level
makes of it: what is further away is a change, which the level judges, or a surprise."""

_FRIDAY = 4
_RECENT_DAYS = 28
"""Over which the hours of the day, and what is unusual, are learnt."""

_PRIOR_DRIFT, _PRIOR_DRIFT_DAYS = 0.00004, 30
"""Drift that is assumed before any is seen, and how many days it is worth."""

_UNSEEN_MOVES = 8.0
"""Changes to come for each that has been seen that are too small, or too short, to be seen; the further it was above
what can be seen, the fewer."""

_HABIT_MOVES = 2.0
"""Changes after the first that make a habit of them: one contract does not say that there will be another."""

_PASSING = 1.6
"""Variance by whether a change will last to that of its two outcomes alone: it may also go on to a third level."""

_USUAL_FACTOR, _USUAL_SURPRISES = 1.5, 1.5

_WEEKS, _LEAST_WEEKS = 6, 2
"""Weeks of the past that are forecast at most, and weeks before one that it takes."""

_USUAL, _USUAL_WEEKS = 0.2, 1.0
"""Factor that is assumed of an account before any of its weeks, and how many weeks it counts for."""

_MOST = 5.0
"""Spreads that an error counts for at most."""

_MEAN_ERRORS = (0.798, 0.469, 0.536, 0.576, 0.606, 0.626)
"""Mean absolute error of a normal distribution, in standard deviations, by how many errors there are: of the only one,
and of all but the largest where there are more."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Expected cost of the days after the edge, in nano-USD, and its spread.

    Attributes:
        days: whole days that were learnt from, at least one.
        level: what an average day costs, and its growth.
        weekdays: factor on the level of each of the 7 days after the edge.
        shares: of each of these days, the share of its cost in each of its 24 hours; they sum up to 1.
        drift: variance of the small changes of level that any account may have, of the logarithm of a day, a day.
        unseen: likewise of those that come with the changes that have been seen.
        moves: changes to come, a day, of the size of those that have been seen; 0 where only one has been.
        move: mean square of such a change, in logarithms.
        surprise: by how much an hour has been above what was expected on the second most surprising day.
        cap: what an hour counts for at most.
        scale: factor on the doubt about level, growth and changes, by the errors of the past (`calibration`). What
            changes have been seen is not made smaller by it, and the noise of single days is measured.
    """

    days: int
    level: Level
    weekdays: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    drift: float
    unseen: float
    moves: float
    move: float
    surprise: float
    cap: int
    scale: float = 1.0

    def expected(self, first: int, end: int) -> float:
        """Return what the hours cost that begin from `first` to before `end` hours after the edge."""
        total = 0.0
        for day in range(first // DAY, -(-end // DAY)):
            start, stop = max(first - day * DAY, 0), min(end - day * DAY, DAY)
            share = 1.0 if stop - start == DAY else sum(self.shares[day % WEEK][start:stop])
            total += self.level.amount * exp(self.level.growth * (day + 0.5)) * self.weekdays[day % WEEK] * share
        return total

    def high(self, place: int) -> float:
        """Return what the hour so many hours after the edge may cost without being unusual."""
        return _USUAL_FACTOR * self.expected(place, place + 1) + _USUAL_SURPRISES * self.surprise

    def spread(self, first: int, end: int) -> float:
        """Return the standard deviation of the logarithm of what some hours will cost; see `expected`.

        Of a normal distribution with the same band of 80%, that is: a change of the size of earlier ones may come, or
        none. One that is unlikely in that time does not widen the band, and one that is likely widens it.
        """
        days, level, weeks = max(end - first, 1) / DAY, self.level, self.days // WEEK
        known = _OF_ONE_WEEK if weeks == 1 else 1.0
        noise = _ROUGHER * known * level.noise
        of_day = noise + (noise / weeks if weeks else _UNSEEN_WEEKDAYS)
        doubt = known * level.doubt + level.growth_doubt * (days / 2) ** 2 + self.drift * days / 3
        changes = max(self.scale, 1.0) ** 2
        calm = of_day / self._equal_days(first, end) + self.scale**2 * doubt + _PASSING * level.passing
        calm += changes * self.unseen * days / 3
        chance = 1 - exp(-self.moves * days)
        if not chance:
            return sqrt(calm)
        moved = calm + changes * self.move * self.moves * days / chance / 3
        return _mixed(sqrt(calm), sqrt(moved), chance)

    def _equal_days(self, first: int, end: int) -> float:
        """Return how many days of equal cost err by as much as some hours do: two dear days err by more than seven."""
        whole = squares = 0.0
        for day in range(first // DAY, -(-end // DAY)):
            start = max(first, day * DAY)
            share = self.expected(start, min(end, (day + 1) * DAY))
            whole += share
            squares += share**2 * DAY / (min(end, (day + 1) * DAY) - start)
        return whole**2 / squares if squares else max(end - first, 1) / DAY


_BAND, EDGE = 0.8, 1.2816
"""Share of a normal distribution within a band, and the band's edge in standard deviations."""

_HALVINGS = 20


def _mixed(narrow: float, wide: float, chance: float) -> float:
    """Return the standard deviation of a normal distribution with the band of a mixture of two.

    Args:
        narrow: standard deviation of the one.
        wide: that of the other.
        chance: of the other.
    """
    low, high = narrow, wide
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        inside = (1 - chance) * _within(EDGE * middle / narrow) + chance * _within(EDGE * middle / wide)
        low, high = (middle, high) if inside < _BAND else (low, middle)
    return high


def _within(edge: float) -> float:
    return erf(edge / sqrt(2))


def learn(hours: Sequence[int], edge: datetime) -> Rhythm | None:
    """Learn from what the hours before an edge have cost, oldest first; None while they are less than a day.

    Days are fitted twice, with the growth that their weeks show and without any; the fit that explains more with fewer
    changes of level counts.

    Args:
        hours: nano-USD of consecutive hours, the last one ending at the edge.
        edge: the first hour that is not learnt from; its weekday says which days are those of a weekend.
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
    assumed, found = _assumed(edge), growth_of(sums)
    weekdays, stretches = _fitted(sums, 0.0, assumed)
    even = [amount / weekdays[place % WEEK] for place, amount in enumerate(sums, -days)]
    if found:
        other = _fitted(sums, found, assumed, stretches.noise)
        if other[1].cost < stretches.cost:
            weekdays, stretches = other
    levels = list(_levels(even))[:-1]
    shares = _shares(blocks[-_RECENT_DAYS:])
    level = level_of(stretches)
    weight = _PRIOR_DRIFT_DAYS + days
    move = level.moved / level.moves if level.moves else 0.0
    habit = max(0.0, min(1.0, (level.moves - 1) / _HABIT_MOVES))
    seen = SEEN * level.noise
    unseen = _UNSEEN_MOVES * level.moves * min(move, seen, seen**3 / move**2 if move else 0.0)
    expected = [item * weekdays[place % WEEK] for place, item in enumerate(levels, -days)]
    weekdays = _with_last_week(weekdays, grown(sums, level.growth), level.amount)
    return Rhythm(
        days=days,
        level=level,
        weekdays=weekdays,
        shares=shares,
        drift=_PRIOR_DRIFT * _PRIOR_DRIFT_DAYS / weight,
        unseen=unseen / weight,
        moves=habit * level.moves / weight,
        move=move,
        surprise=_surprise(blocks[-_RECENT_DAYS:], expected[-_RECENT_DAYS:], shares),
        cap=cap,
    )


def _fitted(
    sums: Sequence[int], growth: float, assumed: Sequence[float], noise: float | None = None
) -> tuple[tuple[float, ...], Stretches]:
    """Return the factors of the weekdays and the stretches of one level, of days that grow so much a day."""
    flat = grown(sums, growth)
    weekdays = _weekdays(flat, assumed)
    even = [amount / weekdays[place % WEEK] for place, amount in enumerate(flat, -len(flat))]
    return weekdays, stretches_of(even, growth, noise_of(flat, even) if noise is None else noise)


def _with_last_week(weekdays: Sequence[float], flat: Sequence[float], amount: float) -> tuple[float, ...]:
    """Return factors of the weekdays that follow the last week in part.

    The level averages weeks, so that a slow change reaches it late; the last week alone is noisy. The two together err
    less than either.

    Args:
        weekdays: the factor of each of the 7 days after the edge.
        flat: days without growth, in nano-USD.
        amount: what an average day costs.
    """
    if len(flat) < WEEK or amount <= 0:
        return tuple(weekdays)
    ratios = (day / (amount * factor) for day, factor in zip(flat[-WEEK:], weekdays, strict=True))
    moved = [1 + _LAST_WEEK * (max(1 / _ALIKE, min(_ALIKE, ratio)) - 1) for ratio in ratios]
    return tuple(factor * by for factor, by in zip(weekdays, moved, strict=True))


def _assumed(edge: datetime) -> tuple[float, ...]:
    """Return the factor that is assumed of each of the 7 days after an edge, by the weekday that most of it is on."""
    middle = edge + timedelta(hours=DAY // 2)
    factors = [_QUIETER_WEEKEND if (middle.weekday() + day) % WEEK >= _FRIDAY + 1 else 1.0 for day in range(WEEK)]
    whole = sum(factors)
    return tuple(WEEK * factor / whole for factor in factors)


def _weekdays(sums: Sequence[float], assumed: Sequence[float]) -> tuple[float, ...]:
    """Return the factor of each day of the week, the day after the newest first.

    Weeks that differ from each other as much as their days do teach little of the days: what is assumed counts more.
    """
    weeks = [sums[end - WEEK : end] for end in range(len(sums), WEEK - 1, -WEEK)]
    ratios = [[WEEK * amount / sum(week) for amount in week] for week in weeks if sum(week) > 0]
    if not ratios:
        return tuple(assumed)
    of_days = list(zip(*ratios, strict=True))
    seen = [median(of_day) for of_day in of_days]
    kept = len(ratios) / (len(ratios) + _ASSUMED_WEEKS)
    if len(ratios) > 1:
        apart = fmean((factor - usual) ** 2 for factor, usual in zip(seen, assumed, strict=True))
        noise = fmean((ratio - middle) ** 2 for of_day, middle in zip(of_days, seen, strict=True) for ratio in of_day)
        doubt = noise / (len(ratios) - 1)
        kept = max(0.0, 1 - doubt / apart) if apart > 0 else 0.0
    return tuple(
        max(_LEAST_FACTOR, usual + kept * (factor - usual)) for factor, usual in zip(seen, assumed, strict=True)
    )


def _levels(days: Sequence[float]) -> Iterator[float]:
    """Yield the level before each day, and after the last."""
    level = sum(days[:WEEK]) / len(days[:WEEK])
    for number, amount in enumerate(days, 1):
        yield level
        level += max(_ADAPTS, 1 / number) * (amount - level) if number > 1 else 0.0
    yield level


def _shares(blocks: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
    """Return the shares of the hours in each of the 7 days after the edge: of that weekday, and a little of all."""
    common = _share_of(blocks) or (1 / DAY,) * DAY
    of_weekdays = []
    for day in range(WEEK):
        own = blocks[(len(blocks) + day) % WEEK :: WEEK]
        weight = len(own) / (len(own) + _COMMON_WEEKS)
        pairs = zip(_share_of(own) or common, common, strict=True)
        of_weekdays.append(tuple(weight * of_day + (1 - weight) * of_all for of_day, of_all in pairs))
    return tuple(of_weekdays)


def _share_of(blocks: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the share of each hour in what some days cost; nothing where they cost nothing."""
    by_hour = [sum(hours) for hours in zip(*blocks, strict=True)]
    whole = sum(by_hour)
    return tuple(item / whole for item in by_hour) if whole else ()


def _surprise(blocks: Sequence[Sequence[int]], expected: Sequence[float], shares: Sequence[Sequence[float]]) -> float:
    """Return the second-largest of the days' largest surprises, so that a glitch makes the next one no less unusual."""
    largest: list[float] = sorted(
        max(map(sub, block, [of_day * share for share in shares[place % WEEK]]))
        for place, (block, of_day) in enumerate(zip(blocks, expected, strict=True), -len(blocks))
    )
    return max(largest[-2:][0], 0.0)


def calibrated(rhythm: Rhythm, hours: Sequence[int], edge: datetime) -> Rhythm:
    """Return a rhythm whose doubt is scaled by the errors of the account's own past.

    Args:
        rhythm: what was learnt from the hours.
        hours: nano-USD of consecutive hours, the last one ending at the edge.
        edge: the first hour that is not learnt from.
    """
    errors = sorted(min(error, _MOST) for error in _errors(hours[-LONGEST:], edge))
    known = len(errors)
    if not known:
        return replace(rhythm, scale=_USUAL)
    own = fmean(errors[: max(1, known - 1)]) / _MEAN_ERRORS[known - 1]
    return replace(rhythm, scale=(_USUAL_WEEKS * _USUAL + known * own) / (_USUAL_WEEKS + known))


def _errors(hours: Sequence[int], edge: datetime) -> list[float]:
    """Return the errors of the forecasts of the last weeks, each by what was known before it, in its own spread."""
    span = WEEK * DAY
    found = []
    for weeks in range(1, _WEEKS + 1):
        end = len(hours) - weeks * span
        if end < _LEAST_WEEKS * span:
            break
        rhythm = learn(hours[:end], edge - timedelta(weeks=weeks))
        if rhythm is not None:
            expected, happened = rhythm.expected(0, span), sum(hours[end : end + span])
            found.append(abs(log(max(happened, 1.0) / max(expected, 1.0))) / rhythm.spread(0, span))
    return found
