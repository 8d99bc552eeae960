"""Effect that other settings of an app would have had in hours that are over: savings as bounds, and their cost.

fal tells of an app, hour by hour, the mean number of runners in each state and the number of requests, but not when a
runner fell idle. So an answer is a range that holds for every order of events, with a likely value inside:

- Each idle spell follows a request, so that there are at most as many as requests (and runners that were idle at the
  start). A spell that the keep-alive ends is as long as the keep-alive. With a shorter one no spell loses more than
  that share of its length, and all spells together are no longer than their number times the shorter keep-alive.
- A minimum of runners keeps that many alive; what is alive beyond it is subject to the keep-alive.
- A request starts a runner where one would have been idle for it, which costs what a cold start cost on average.

The likely value takes requests to come at random, evenly over each hour and over the runners that are alive
(exponential gaps). It is an estimate and no promise: a runner that takes several requests at a time, requests in
bursts, and settings that changed within the hours are outside it; the bounds take the settings as fixed, too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import exp
from typing import NamedTuple

from exporter.charges import NANO
from exporter.machines import Runners

WEEK = 7 * 24
"""Hours that other settings are tried on."""

SECONDS = 3600
_NEARLY = Fraction(1, 4)
LEAST_KEEP_ALIVE = 10
"""Seconds below which no keep-alive is proposed."""


class AppHour(NamedTuple):
    """An hour of an app: mean numbers of runners in nano-runners, requests, and those that waited for a start."""

    runners: Runners
    requests: int
    cold_starts: int


class Setting(NamedTuple):
    """Keep-alive in seconds, and the fewest runners."""

    keep_alive: int
    min_concurrency: int


class Saving(NamedTuple):
    """Effect of other settings: idle time less in nano-runner-seconds, and the requests that would wait for a start."""

    least: int
    likely: int
    most: int
    likely_starts: int
    most_starts: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Other settings of an app and what they would have saved, in nano-USD, less what more cold starts cost.

    Attributes:
        present, proposed: settings.
        hours: number of hours that it is told for.
        least: below zero where more cold starts may cost more than is saved.
        likely: by requests that come at random; between least and most.
        likely_starts, most_starts: cold starts more; there may be none.
    """

    account: str
    app: str
    environment: str
    present: Setting
    proposed: Setting
    hours: int
    least: int
    likely: int
    most: int
    likely_starts: int
    most_starts: int

    @property
    def changed(self) -> tuple[str, str]:
        """The name of the setting that is lower, and the value proposed."""
        if self.proposed.keep_alive != self.present.keep_alive:
            return "keep_alive", str(self.proposed.keep_alive)
        return "min_concurrency", str(self.proposed.min_concurrency)


def proposals(present: Setting) -> Iterator[Setting]:
    """Yield lower settings that are worth a look: half and a quarter of the keep-alive, a runner less, and none."""
    for keep_alive in sorted({present.keep_alive // 2, present.keep_alive // 4}, reverse=True):
        if keep_alive >= LEAST_KEEP_ALIVE:
            yield present._replace(keep_alive=keep_alive)
    for least in sorted({present.min_concurrency - 1, 0}, reverse=True):
        if 0 <= least < present.min_concurrency:
            yield present._replace(min_concurrency=least)


def saving(hours: Sequence[AppHour], present: Setting, proposed: Setting) -> Saving:
    """Return the idle time that lower settings would have saved in hours that follow each other.

    Args:
        hours: complete hours.
        present: the settings that the hours had.
        proposed: lower in one of the two, not in both.

    Raises:
        ValueError: the proposed settings are not lower in exactly one of the two.
    """
    shorter, fewer = present.keep_alive - proposed.keep_alive, present.min_concurrency - proposed.min_concurrency
    if (shorter > 0) + (fewer > 0) != 1 or shorter < 0 or fewer < 0:
        raise ValueError("one of the two settings has to be lower, and the other the same")
    if not hours:
        return Saving(0, 0, 0, 0, 0)
    spells = sum(hour.requests for hour in hours) + -(-hours[0].runners.idle // NANO)
    warm = sum(max(0, hour.requests - hour.cold_starts) for hour in hours)
    if shorter:
        return _of_keep_alive(hours, present, proposed.keep_alive, spells, warm)
    return _of_minimum(hours, present, proposed.min_concurrency, spells, warm)


def _of_keep_alive(hours: Sequence[AppHour], present: Setting, proposed: int, spells: int, warm: int) -> Saving:
    floor = present.min_concurrency * NANO
    lowest = highest = 0
    likely = starts = 0.0
    for hour in hours:
        idle = hour.runners.idle
        lowest += max(0, idle - floor) * SECONDS
        subject = min(idle, max(0, hour.runners.total - floor)) * SECONDS
        highest += subject
        rate = _rate(hour)
        ended, would_end = _ended(rate, present.keep_alive), _ended(rate, proposed)
        share = 1 - proposed / present.keep_alive if not rate else 1 - would_end / ended
        likely += subject * share
        starts += max(0, hour.requests - hour.cold_starts) * (ended - would_end) / ended if rate and subject else 0.0
    most = highest * (present.keep_alive - proposed) // present.keep_alive
    least = min(most, max(0, lowest - spells * proposed * NANO))
    most_starts = min(warm, highest // (proposed * NANO))
    return _within(least, likely, most, starts, most_starts)


def _of_minimum(hours: Sequence[AppHour], present: Setting, proposed: int, spells: int, warm: int) -> Saving:
    fewer = (present.min_concurrency - proposed) * NANO
    idle = most = 0
    likely = starts = 0.0
    for hour in hours:
        idle += hour.runners.idle * SECONDS
        kept = min(hour.runners.idle, fewer) * SECONDS
        most += kept
        longer = exp(-_rate(hour) * present.keep_alive)
        likely += kept * longer
        if hour.runners.idle:
            share = min(1.0, fewer / hour.runners.total)
            starts += max(0, hour.requests - hour.cold_starts) * longer * share
    still = spells * present.keep_alive * NANO + proposed * NANO * SECONDS * len(hours)
    least = min(most, max(0, idle - still))
    most_starts = min(warm, most // (present.keep_alive * NANO)) if present.keep_alive else warm
    return _within(least, likely, most, starts, most_starts)


def _rate(hour: AppHour) -> float:
    """Return the requests a second of each runner that was alive."""
    return hour.requests / SECONDS / max(1.0, (hour.runners.running + hour.runners.idle) / NANO)


def _ended(rate: float, seconds: int) -> float:
    """Return the share of gaps between requests that are over within some seconds."""
    return 1 - exp(-rate * seconds)


def _within(least: int, likely: float, most: int, starts: float, most_starts: int) -> Saving:
    return Saving(least, min(most, max(least, round(likely))), most, min(most_starts, round(starts)), most_starts)


@dataclass(frozen=True, slots=True)
class AppWeek:
    """An app whose settings are known, with its hours.

    Attributes:
        hours: complete hours that follow each other.
        cost: what they cost, in nano-USD.
        gpu_seconds: what was billed of them, in nano-GPU-seconds.
    """

    account: str
    app: str
    environment: str
    present: Setting
    hours: tuple[AppHour, ...]
    cost: int
    gpu_seconds: int = 0

    @property
    def gpus(self) -> int:
        """Number of GPUs of a runner: fal bills a second of several as so many; 1 where too little ran to tell.

        Seconds that are billed late are missing, so that a runner has as many GPUs as are used nearly in whole.
        """
        alive = sum(hour.runners.total for hour in self.hours)
        return max(1, int(Fraction(self.gpu_seconds, alive * SECONDS) + _NEARLY)) if alive >= NANO else 1


def best_of(apps: Iterable[AppWeek]) -> tuple[WhatIf, ...]:
    """Return for each app the settings that would likely have saved most; none where all would likely have lost."""
    best: dict[tuple[str, str, str], WhatIf] = {}
    for told in what_if(apps):
        if told.likely > 0:
            best.setdefault((told.account, told.app, told.environment), told)
    return tuple(best.values())


def what_if(apps: Iterable[AppWeek]) -> tuple[WhatIf, ...]:
    """Return for each app the lower settings that may have saved something, the likeliest first."""
    found = [told for app in apps for proposed in proposals(app.present) if (told := _told(app, proposed)) is not None]
    return tuple(sorted(found, key=lambda told: (-told.likely, -told.most, told.account, told.app)))


def _told(app: AppWeek, proposed: Setting) -> WhatIf | None:
    alive = sum(hour.runners.total for hour in app.hours) * SECONDS
    if alive <= 0 or app.cost <= 0:
        return None
    price = Fraction(app.cost, alive)
    found = saving(app.hours, app.present, proposed)
    if not found.most:
        return None
    pending, starts = sum(hour.runners.pending for hour in app.hours), sum(hour.cold_starts for hour in app.hours)
    start = Fraction(pending * SECONDS, starts) * price if starts else Fraction(0)
    return WhatIf(
        app.account,
        app.app,
        app.environment,
        app.present,
        proposed,
        len(app.hours),
        least=int(found.least * price - found.most_starts * start),
        likely=int(found.likely * price - found.likely_starts * start),
        most=int(found.most * price),
        likely_starts=found.likely_starts,
        most_starts=found.most_starts,
    )
