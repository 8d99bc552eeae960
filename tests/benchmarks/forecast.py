"""Error of the forecast beside simple ones: `python tests/benchmarks/forecast.py --help`.

Whole simulated months are forecast as the exporter would have at 10:00 UTC of each of their days, late charges and
corrections included. The constants of the forecast were chosen on the tuning worlds (`--tuning`); the judging worlds
have other seeds, other sizes and other plants. The forecast is compared with

- the straight line: what has been spent, over the time that has passed;
- last month's shape: what has been spent, over the share that last month had spent at the same time;
- seasonal-naive: the last seven days, repeated to the end of the month.

They forecast the same months, so that their errors are compared month by month: a day is lost to a simple forecast
that is better on average by more than the standard error of that difference. The months of a story are its independent
draws, for the share in the band, too: the days of a month are in it or not together.

A second table says where a band misses: in which week of the month, and before, during and after what happens in a
story. The last sentences say what no band can know: before a campaign begins nothing in the account's past tells of it.

Prints Markdown for docs/numbers.md.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from math import ceil, sqrt
from random import Random
from statistics import fmean, median, stdev
from typing import NamedTuple

from exporter.charges import HOUR, Window, hour_of
from exporter.forecasting.forecast import forecast
from exporter.forecasting.rhythm import DAY, LONGEST, calibrated, learn
from exporter.forecasting.state import Forecast
from exporter.simulator.world.account import Account
from exporter.simulator.world.exact import FOREVER, microseconds
from exporter.simulator.world.injected_charges import Plant, PlantedRevision
from exporter.simulator.world.lines import Pace, WorldSize
from exporter.simulator.world.world import World

TUNING_SEEDS, JUDGING_SEEDS = 1_000, 13_000
SHOWN_DAYS = (1, 3, 7, 14, 21, 28)
WEEK = 7 * DAY
UNSETTLED = 120
"""Hours before an instant of which not everything need be visible at it."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = tuple(
    Window(datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC)) for month in range(7, 12)
)
BEFORE = 70
"""Days before a month that a life begins."""


class Story(NamedTuple):
    """A kind of life.

    Attributes:
        plants: returns the plants of a life, by a random source, its hours, and the first hour of the month.
        history: days that are known before the month.
        pace: by default models neither come nor go, and there are enough requests for percents of them.
    """

    plants: Callable[[Random, range, int], Iterator[Plant]]
    history: int = LONGEST // DAY
    pace: Pace = Pace(busy=8, birth_hours=100_000, life_hours=24)


def steady(_: Random, __: range, ___: int) -> Iterator[Plant]:
    return iter(())


def growth(_: Random, life: range, __: int) -> Iterator[Plant]:
    """Five percent more each week."""
    return (PlantedRevision(hour, round(100 * 1.05 ** ((hour - life.start) / WEEK))) for hour in life)


def halved(chance: Random, life: range, month: int) -> Iterator[Plant]:
    """Everything costs half from a day on, from three weeks before the month to the middle of the month."""
    start = month + chance.randrange(-21, 15) * DAY
    return (PlantedRevision(hour, 50) for hour in life if hour >= start)


def weekend_heavy(chance: Random, life: range, _: int) -> Iterator[Plant]:
    """Weekends cost two to four times as much as without."""
    percent = chance.randrange(320, 640)
    return (PlantedRevision(hour, percent) for hour in life if (hour // DAY + 3) % 7 >= 5)


def campaign(chance: Random, life: range, month: int) -> Iterator[Plant]:
    """Some days of much more, once."""
    start, days = month + chance.randrange(-5, 20) * DAY + chance.randrange(DAY), chance.randrange(3, 7)
    percent = chance.randrange(200, 450)
    return (PlantedRevision(hour, percent) for hour in life if start <= hour < start + days * DAY)


STORIES = {
    "steady": Story(steady),
    "growing 5 % a week": Story(growth),
    "halved by a contract": Story(halved),
    "weekend-heavy": Story(weekend_heavy),
    "one-off campaign": Story(campaign),
    "first month": Story(steady, history=0),
    "models come and go": Story(steady, pace=Pace()),
}
BASELINES = ("straight line", "last month's shape", "seasonal-naive")


def number(instant: datetime) -> int:
    """Return the hours since 1970."""
    return microseconds(instant) // microseconds(datetime(1970, 1, 1, 1, tzinfo=UTC))


class Told(NamedTuple):
    """One forecast and what came of it.

    Attributes:
        phase: before, during or after what happens in the story; empty where nothing does.
        baselines: errors as shares of what came, None where there is nothing to make a baseline of.
    """

    life: int
    day: int
    phase: str
    said: Forecast
    truth: int
    baselines: tuple[float | None, ...]

    @property
    def is_held(self) -> bool:
        return self.said.low <= self.truth <= self.said.high

    @property
    def error(self) -> float:
        return abs(self.said.expected - self.truth) / self.truth

    @property
    def width(self) -> float:
        return (self.said.high - self.said.low) / self.truth

    @property
    def week(self) -> str:
        first = min((self.day - 1) // 7, 3) * 7 + 1
        return f"days {first} to {first + 6}" if first < 22 else "from day 22 on"


class Life:
    """Cost of every hour of a story in the end, and what could be seen of it at an instant."""

    def __init__(self, name: str, seed: int) -> None:
        self.story = STORIES[name]
        self.seed = seed
        chance = Random(f"{seed}:{name}")  # noqa: S311  reproducible, no secrets
        size = WorldSize(models=chance.randrange(4, 9), callers=1, apps=3, compute=1, teams=2, api_keys=2)
        self.account = Account(World(seed, size=size, pace=self.story.pace))
        self.month = MONTHS[seed % len(MONTHS)]
        start = number(self.month.start)
        self.hours = range(start - BEFORE * DAY, number(self.month.end))
        by_hour: dict[int, list[Plant]] = {}
        for plant in self.story.plants(chance, self.hours, start):
            by_hour.setdefault(plant.hour, []).append(plant)
        self.plants = by_hour
        self.final = [self.cost(hour, FOREVER) for hour in self.hours]

    def phase(self, now: datetime) -> str:
        """Return before, during or after what happens once in the story; empty where nothing does."""
        if not self.plants or min(self.plants) <= self.hours.start + DAY * 7:
            return ""
        if number(now) <= min(self.plants):
            return "before"
        return "during" if number(now) <= max(self.plants) < self.hours.stop - 1 else "after"

    def cost(self, hour: int, as_of: int) -> int:
        # Planted hour by hour: an account looks through all its plants for each hour.
        self.account.plants = tuple(self.plants.get(hour, ()))
        self.account._totals.pop(hour, None)
        return self.account.cost(hour, as_of)

    def seen(self, now: datetime) -> list[int]:
        """Return the cost of the hours up to the running one as of an instant; those to come cost nothing."""
        place = number(now) - self.hours.start
        recent = [self.cost(self.hours.start + item, microseconds(now)) for item in range(place - UNSETTLED, place + 1)]
        return self.final[: place - UNSETTLED] + recent + [0] * (len(self.hours) - place - 1)

    def sums(self, hours: Sequence[int], window: Window) -> int:
        return sum(hours[number(window.start) - self.hours.start : number(window.end) - self.hours.start])


def baselines(life: Life, hours: Sequence[int], now: datetime) -> tuple[float | None, ...]:
    """Return the straight line, last month's shape and seasonal-naive; None where there is nothing to make one of."""
    month, place = life.month, number(now) - life.hours.start
    spent, passed = life.sums(hours, month), now - month.start
    line = spent * len(month) / (passed / HOUR)
    before = Window(datetime(2026, month.start.month - 1, 1, tzinfo=UTC), month.start)
    shape = None
    if life.story.history:
        reached = life.sums(hours, Window(before.start, min(before.start + passed, before.end)))
        shape = spent * life.sums(hours, before) / reached if reached else None
    since = max(place - WEEK, place - DAY * life.story.history - passed // HOUR)
    last = hours[since:place]
    rest = len(life.hours) - place
    naive = spent - hours[place] + sum(last[item % len(last)] for item in range(rest)) if len(last) >= DAY else None
    return line, shape, naive


def told(life: Life, day: int) -> Told | None:
    """Return the forecast of a day at 10:00 UTC; None where there is less than a day to learn from."""
    month = life.month
    now = month.start + (day - 1) * DAY * HOUR + 10 * HOUR
    hours = life.seen(now)
    edge = hour_of(now) - HOUR
    end = number(edge) - life.hours.start
    first = number(month.start) - life.hours.start - life.story.history * DAY
    past = hours[max(first, end - LONGEST) : end]
    rhythm = learn(past, edge)
    if rhythm is None:
        return None
    rhythm = calibrated(rhythm, past, edge)

    def spent(window: Window) -> int:
        return life.sums(hours, window)

    said = forecast(rhythm, edge=edge, known_until=hour_of(now), now=now, period=month, spent=spent)
    truth = life.sums(life.final, month)
    return Told(
        life.seed,
        day,
        life.phase(now),
        said,
        truth,
        tuple(None if item is None else abs(item - truth) / truth for item in baselines(life, hours, now)),
    )


def told_of(name: str, seed: int) -> list[Told]:
    """Return the forecasts of each day of a month of a story."""
    life = Life(name, seed)
    days = (told(life, day) for day in range(1, len(life.month) // DAY + 1))
    return [item for item in days if item is not None]


class Loss(NamedTuple):
    """By how much a baseline is better than the forecast on average, and the standard error of that."""

    baseline: str
    error: float
    by: float
    doubt: float

    @property
    def is_sure(self) -> bool:
        return self.by > self.doubt


class Cell(NamedTuple):
    """Mean errors on a day, of the forecast and of the best baseline, and the baselines that are better."""

    error: float
    best: float
    losses: tuple[Loss, ...]

    @property
    def is_lost(self) -> bool:
        return any(loss.is_sure for loss in self.losses)


def cell(them: Sequence[Told]) -> Cell:
    means, losses = [], []
    for name, column in zip(BASELINES, zip(*(item.baselines for item in them), strict=True), strict=True):
        errors = [error for error in column if error is not None]
        if len(errors) < len(them):
            continue
        ahead = [item.error - error for item, error in zip(them, errors, strict=True)]
        means.append(fmean(errors))
        if fmean(ahead) > 0:
            losses.append(Loss(name, means[-1], fmean(ahead), standard_error(ahead)))
    losses.sort(key=lambda loss: (not loss.is_sure, -loss.by))
    return Cell(fmean(item.error for item in them), min(means), tuple(losses))


def standard_error(draws: Sequence[float]) -> float:
    return stdev(draws) / sqrt(len(draws)) if len(draws) > 1 else 0.0


def cells(them: Sequence[Told]) -> dict[int, Cell]:
    days = sorted({item.day for item in them})
    return {day: cell([item for item in them if item.day == day]) for day in days}


def in_the_band(them: Sequence[Told]) -> str:
    """Return the share of forecasts whose band held, and its standard error over the months."""
    held = [fmean(item.is_held for item in them if item.life == life) for life in {item.life for item in them}]
    return f"{fmean(item.is_held for item in them):.0%} ± {100 * standard_error(held):.0f}"


def row(name: str, them: Sequence[Told]) -> str:
    by_day = cells(them)
    shown = (f"{by_day[day].error:.1%} ({by_day[day].best:.1%})" if day in by_day else "none yet" for day in SHOWN_DAYS)
    wins = sum(not of_day.is_lost for of_day in by_day.values())
    return f"| {name} | {in_the_band(them)} | {wins} of {len(by_day)} | {' | '.join(shown)} |"


def where(name: str, them: Sequence[Told]) -> Iterator[str]:
    """Yield where the band held and where not: by week of the month, and by what has happened in the story so far."""
    parts = {item.week: [other for other in them if other.week == item.week] for item in them}
    for phase in ("before", "during", "after"):
        parts[f"{phase} it"] = [item for item in them if item.phase == phase]
    for part, of_part in parts.items():
        if of_part:
            below = fmean(item.truth < item.said.low for item in of_part)
            above = fmean(item.truth > item.said.high for item in of_part)
            width = median(item.width for item in of_part)
            held = in_the_band(of_part)
            yield f"| {name} | {part} | {len(of_part):,} | {held} | {below:.0%} | {above:.0%} | {width:.1%} |"


LEAST_HELD = 0.75
"""Share of the forecasts of each story that the band is to hold."""


def unforeseen(campaigns: Sequence[Told], steady_ones: Sequence[Told]) -> Iterator[str]:
    """Yield what a band can hold of a campaign that nothing announces, and what holding more would cost the others."""
    ahead = sorted(item.truth / item.said.expected - 1 for item in campaigns if item.phase == "before")
    begun = [item for item in campaigns if item.phase != "before"]
    most = len(begun) / len(campaigns)
    yield (
        f"Campaigns: {1 - most:.0%} of the forecasts are made before one begins. A band that held every other one, and "
        f"knew all that the past can tell, would hold {most:.0%}; this one holds {fmean(i.is_held for i in begun):.0%} "
        f"of them. On average a month costs {fmean(ahead):.0%} more than was forecast before its campaign."
    )
    lacking = ceil(LEAST_HELD * len(campaigns)) - sum(item.is_held for item in begun)
    if 0 < lacking <= len(ahead):
        edge = ahead[lacking - 1]
        wider = [item for item in steady_ones if item.said.low <= item.truth <= item.said.expected * (1 + edge)]
        now = median(item.width for item in steady_ones)
        then = median((item.said.expected * (1 + edge) - item.said.low) / item.truth for item in steady_ones)
        yield (
            f"To hold {LEAST_HELD:.0%}, the upper edge would have to be {edge:.0%} above the forecast in every account "
            f"without a campaign so far. Steady ones would then be held in {len(wider) / len(steady_ones):.0%}, by a "
            f"band of {then:.1%} of the month in place of {now:.1%} (median of all days)."
        )


def losses(name: str, them: Sequence[Told]) -> Iterator[str]:
    for day, of_day in cells(them).items():
        if of_day.losses:
            worst = of_day.losses[0]
            lost = "lost" if of_day.is_lost else ""
            by = f"{worst.by:.2%} ± {worst.doubt:.2%}"
            yield f"| {name} | {day} | {of_day.error:.1%} | {worst.error:.1%} | {worst.baseline} | {by} | {lost} |"


def quiet_hours(lives: Iterable[Life]) -> tuple[int, int, int]:
    """Count the hours of a month, those called unusual, and those that would be if they cost five times more."""
    hours = above = surges = 0
    for life in lives:
        for place in range(BEFORE * DAY, len(life.hours)):
            rhythm = learn(life.final[place - LONGEST : place], EPOCH + (life.hours.start + place) * HOUR)
            assert rhythm is not None
            hours += 1
            above += life.final[place] > rhythm.high(0)
            surges += 5 * life.final[place] > rhythm.high(0)
    return hours, above, surges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", action="store_true", help="the worlds that constants may be chosen on")
    parser.add_argument("--lives", type=int, default=40, help="of each story")
    parser.add_argument("--processes", type=int, help="that forecast at the same time; one for each core by default")
    options = parser.parse_args()
    first = TUNING_SEEDS if options.tuning else JUDGING_SEEDS
    days = " | ".join(f"day {day}" for day in SHOWN_DAYS)
    print(
        f"{options.lives} months of each story, seeds from {first:,} on; mean error (and of the best simple forecast)\n"
    )
    print(f"| story | in the band | as good or better | {days} |\n|---|---|---|{'---|' * len(SHOWN_DAYS)}")
    by_story: dict[str, list[Told]] = {}
    seeds = range(first, first + options.lives)
    with ProcessPoolExecutor(options.processes) as pool:
        for name in STORIES:
            of_lives = pool.map(told_of, [name] * len(seeds), seeds)
            by_story[name] = [item for of_life in of_lives for item in of_life]
            print(row(name, by_story[name]), flush=True)
    everything = [item for them in by_story.values() for item in them]
    of_days = [[item.width for item in everything if item.day == day] for day in SHOWN_DAYS]
    widths = " | ".join(f"{median(width):.0%}" for width in of_days)
    print(f"| all, and median width of the band | {in_the_band(everything)} | | {widths} |\n")
    heads = ("story", "when", "forecasts", "in the band", "below it", "above it", "median width")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, them in by_story.items():
        print("\n".join(where(name, them)))
    print()
    print("\n".join(unforeseen(by_story["one-off campaign"], by_story["steady"])), end="\n\n")
    lost = [line for name, them in by_story.items() for line in losses(name, them)]
    if lost:
        heads = ("story", "day", "forecast", "simple one", "which", "better by", "beyond its error")
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        print("\n".join(lost))

    print("\n| story | hours | called unusual | if they cost five times more |\n|---|---|---|---|")
    for name in ("steady", "weekend-heavy"):
        hours, above, surges = quiet_hours(Life(name, seed) for seed in seeds[:2])
        print(f"| {name} | {hours:,} | {above} | {surges / hours:.0%} |", flush=True)

    past = Life("steady", first).final[: 60 * DAY]
    began = time.perf_counter()
    for _ in range(50):
        rhythm = learn(past, EPOCH)
        assert rhythm is not None
        calibrated(rhythm, past, EPOCH)
    print(f"\n50 accounts learn from 60 days in {(time.perf_counter() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
