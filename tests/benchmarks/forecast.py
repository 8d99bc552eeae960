"""How good the forecast is: `python tests/benchmarks/forecast.py`.

Whole simulated months are forecast as the exporter would have at 10:00 UTC of their days 1, 3, 7, 14 and 21, late
charges and corrections included, beside the straight line from what has been spent. The constants of the forecast were
chosen on worlds of other seeds (101 to 103); worlds and plants of these have not been looked at. Prints Markdown.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from statistics import median
from typing import NamedTuple

from exporter.charges import HOUR, Window, hour_of
from exporter.forecasting.forecast import forecast
from exporter.forecasting.rhythm import DAY, LONGEST, learn
from exporter.simulator.account import Account
from exporter.simulator.exact import FOREVER, NANO, microseconds
from exporter.simulator.injected_charges import GlitchedJob, Plant, PlantedRevision, PlantedSpend
from exporter.simulator.lines import WorldSize
from exporter.simulator.world import World

SEEDS = (11, 12, 13, 14)
DAYS = (1, 3, 7, 14, 21)
BEGIN, END = datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
MONTHS = (
    Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
)
BUSY = WorldSize(models=6, callers=1, apps=3, compute=1, teams=2, api_keys=2)
QUIET = WorldSize(models=1, callers=1, apps=0, compute=0, teams=1, api_keys=1)
UNSETTLED = 120
"""Hours before an instant of which not everything need be visible at it."""


def number(instant: datetime) -> int:
    """Hours since 1970."""
    return microseconds(instant) // microseconds(datetime(1970, 1, 1, 1, tzinfo=UTC))


FIRST, HOURS = number(BEGIN), number(END) - number(BEGIN)


def steady(_: Random) -> Iterator[Plant]:
    return iter(())


def growth(chance: Random) -> Iterator[Plant]:
    """A percent or two more each day."""
    daily = chance.uniform(1.005, 1.02)
    return (PlantedRevision(FIRST + at, round(100 * daily ** (at / DAY))) for at in range(HOURS))


def weekend_dips(chance: Random) -> Iterator[Plant]:
    """Nearly nothing on Saturdays and Sundays."""
    percent = chance.randrange(5, 30)
    hours = range(FIRST, FIRST + HOURS)
    return (PlantedRevision(hour, percent) for hour in hours if (hour // DAY + 3) % 7 >= 5)


def glitch(chance: Random) -> Iterator[Plant]:
    """One job of 40,500 dollars on the second of the first month."""
    hour = number(MONTHS[0].start) + DAY + chance.randrange(DAY)
    yield PlantedSpend(hour, GlitchedJob().line(40_500 * NANO))


def new_model(chance: Random) -> Iterator[Plant]:
    """A model that did not exist grows for a week, and then costs what it costs."""
    born = FIRST + chance.randrange(45, 85) * DAY
    most = chance.randrange(5, 40)
    for hour in range(born, FIRST + HOURS):
        dollars = most * min(1.0, (hour - born) / (7 * DAY)) * chance.uniform(0.5, 1.5)
        yield PlantedSpend(hour, GlitchedJob(model="fal-ai/brand-new").line(round(dollars * 100) * NANO // 100))


def launch_day(chance: Random) -> Iterator[Plant]:
    """Two days of much more, after which more remains than before."""
    day = FIRST + chance.randrange(65, 85) * DAY
    peak, rest = chance.randrange(200, 500), chance.randrange(110, 180)
    for hour in range(day, FIRST + HOURS):
        yield PlantedRevision(hour, peak if hour < day + 2 * DAY else rest)


STORIES: dict[str, tuple[WorldSize, Callable[[Random], Iterator[Plant]]]] = {
    "steady": (BUSY, steady),
    "growth": (BUSY, growth),
    "weekend dips": (BUSY, weekend_dips),
    "one glitch of $40,500": (BUSY, glitch),
    "new model": (BUSY, new_model),
    "launch day": (BUSY, launch_day),
    "quiet account": (QUIET, steady),
}


class Told(NamedTuple):
    """One forecast and what came of it; errors are shares of what came."""

    day: int
    is_held: bool
    error: float
    line: float
    width: float


class Life:
    """What every hour of a story cost in the end, and what could be seen of it at an instant."""

    def __init__(self, seed: int, size: WorldSize, plants: Callable[[Random], Iterator[Plant]]) -> None:
        self.account = Account(World(seed, size=size))
        by_hour: dict[int, list[Plant]] = {}
        for plant in plants(Random(f"{seed}:{plants.__name__}")):  # noqa: S311  reproducible, no secrets
            by_hour.setdefault(plant.hour, []).append(plant)
        self.plants = by_hour
        self.final = [self.cost(FIRST + at, FOREVER) for at in range(HOURS)]

    def cost(self, hour: int, as_of: int) -> int:
        # Planted hour by hour: an account looks through all its plants for each hour.
        self.account.plants = tuple(self.plants.get(hour, ()))
        self.account._totals.pop(hour, None)
        return self.account.cost(hour, as_of)

    def seen(self, now: datetime) -> list[int]:
        """What the hours up to the running one cost, as of an instant; those to come nothing."""
        at = number(now) - FIRST
        recent = [self.cost(FIRST + place, microseconds(now)) for place in range(at - UNSETTLED, at + 1)]
        return self.final[: at - UNSETTLED] + recent + [0] * (HOURS - at - 1)


def told(life: Life, month: Window, day: int, history: int) -> Told:
    now = month.start + (day - 1) * DAY * HOUR + 10 * HOUR
    hours = life.seen(now)
    edge = hour_of(now) - HOUR

    def spent(window: Window) -> int:
        return sum(hours[number(window.start) - FIRST : number(window.end) - FIRST])

    rhythm = learn(hours[max(0, number(edge) - FIRST - history) : number(edge) - FIRST])
    assert rhythm is not None
    said = forecast(rhythm, edge=edge, known_until=hour_of(now), now=now, period=month, spent=spent)
    truth = sum(life.final[number(month.start) - FIRST : number(month.end) - FIRST])
    line = spent(month) * len(month) / ((now - month.start) / HOUR)
    return Told(
        day,
        said.low <= truth <= said.high,
        abs(said.expected - truth) / truth,
        abs(line - truth) / truth,
        (said.high - said.low) / truth,
    )


def row(name: str, them: list[Told]) -> str:
    by_day = [[item for item in them if item.day == day] for day in DAYS]
    errors = (
        f"{median(item.error for item in those):.0%} ({median(item.line for item in those):.0%})" for those in by_day
    )
    held = sum(item.is_held for item in them) / len(them)
    return f"| {name} | {held:.0%} | {' | '.join(errors)} |"


def header(first: str) -> str:
    days = " | ".join(f"day {day}" for day in DAYS)
    return f"| {first} | in the band | {days} |\n|---|---|{'---|' * len(DAYS)}"


def unusual(lives: list[Life]) -> tuple[int, int, int]:
    """Count the hours of the last month, those called unusual, and those that would be if they cost five times more."""
    hours = above = surges = 0
    for life in lives:
        for at in range(number(MONTHS[-1].start) - FIRST, HOURS):
            rhythm = learn(life.final[max(0, at - LONGEST) : at])
            assert rhythm is not None
            hours += 1
            above += life.final[at] > rhythm.high(0)
            surges += 5 * life.final[at] > rhythm.high(0)
    return hours, above, surges


def main() -> None:
    lives = {name: [Life(seed, *story) for seed in SEEDS] for name, story in STORIES.items()}

    def tell(name: str, history: int = LONGEST) -> list[Told]:
        return [told(life, month, day, history) for life in lives[name] for month in MONTHS for day in DAYS]

    print(f"{len(SEEDS)} seeds, {len(MONTHS)} months; median error of the forecast (and of the straight line)\n")
    print(header("story"))
    everything = []
    for name in STORIES:
        them = tell(name)
        everything += them
        print(row(name, them), flush=True)
    print(row("all", everything))
    widths = (f"{median(item.width for item in everything if item.day == day):.0%}" for day in DAYS)
    print(f"| width of the band | | {' | '.join(widths)} |\n")
    print(header("all stories, with a history of"))
    for days in (56, 28, 14, 7, 2):
        print(row(f"{days} days", [item for name in STORIES for item in tell(name, days * DAY)]), flush=True)

    print("\n| story | hours | called unusual | if they cost five times more |\n|---|---|---|---|")
    for name in ("steady", "weekend dips", "quiet account"):
        hours, above, surges = unusual(lives[name])
        print(f"| {name} | {hours:,} | {above} | {surges / hours:.0%} |", flush=True)

    past = lives["steady"][0].final[: 60 * DAY]
    began = time.perf_counter()
    for _ in range(50):
        learn(past)
    print(f"\n50 accounts learn from 60 days in {(time.perf_counter() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
