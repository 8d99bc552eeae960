"""Savings by other settings beside what they save in truth: `python tests/benchmarks/what_if.py [--lives N]`.

Apps are simulated request by request, once with the settings that they have and once with others. From the hours of
the first life, as fal reports them, the exporter says what the others would have saved; the second life shows it.
Prints Markdown for docs/gpu.md.
"""

import argparse
from collections.abc import Iterator
from random import Random
from statistics import median
from typing import NamedTuple

from exporter.charges import NANO
from exporter.forecasting.what_if import SECONDS, AppHour, Saving, Setting, saving
from exporter.machines import Runners

HOURS = 168
STATES = ("running", "idle", "pending")


class Story(NamedTuple):
    """Rhythm of an app: mean requests an hour by the hour of the day, seconds of each, requests that come together."""

    name: str
    by_day: tuple[float, ...]
    seconds: tuple[float, float]
    burst: int = 1


STORIES = (
    Story("steady, 40 an hour", (40.0,) * 24, (4, 12)),
    Story("busy, 600 an hour", (600.0,) * 24, (4, 12)),
    Story("by day alone", (0.0,) * 8 + (60.0,) * 12 + (0.0,) * 4, (5, 40)),
    Story("rare, 2 an hour", (2.0,) * 24, (10, 60)),
    Story("bursts of ten", (30.0,) * 24, (4, 12), 10),
    Story("nobody asks", (0.0,) * 24, (4, 12)),
)
SETTINGS = (
    (Setting(300, 0), Setting(150, 0)),
    (Setting(300, 0), Setting(75, 0)),
    (Setting(60, 0), Setting(30, 0)),
    (Setting(300, 1), Setting(150, 1)),
    (Setting(60, 1), Setting(60, 0)),
    (Setting(60, 3), Setting(60, 2)),
)
START = 20.0
"""Seconds that a runner takes to start."""


class Life(NamedTuple):
    hours: list[AppHour]
    idle: int
    cold_starts: int


def requests(story: Story, chance: Random) -> Iterator[tuple[float, float]]:
    """Yield instants and durations of requests in seconds, in order."""
    for hour in range(HOURS):
        mean = story.by_day[hour % 24]
        if not mean:
            continue
        at = chance.expovariate(mean / story.burst / SECONDS)
        while at < SECONDS:
            for _ in range(story.burst):
                yield hour * SECONDS + at, chance.uniform(*story.seconds)
            at += chance.expovariate(mean / story.burst / SECONDS)


def live(asked: list[tuple[float, float]], setting: Setting) -> Life:  # noqa: C901  a small world
    """Live through all requests; a request goes to the runner that became free last, else a new one starts."""
    seconds = {state: [0.0] * HOURS for state in STATES}
    counts, colds = [0] * HOURS, [0] * HOURS

    def spend(state: str, since: float, until: float) -> None:
        hour = int(since // SECONDS)
        while since < until and hour < HOURS:
            end = min(until, (hour + 1) * SECONDS)
            seconds[state][hour] += end - since
            since, hour = end, hour + 1

    free: list[float] = [0.0] * setting.min_concurrency  # since when each free runner has been idle
    busy: list[float] = []  # until when

    def move_on(now: float) -> None:
        """Let runners fall idle, and end those that have been idle for too long, as long as enough stay."""
        busy.sort()
        while True:
            expiry = min(free) + setting.keep_alive if free else float("inf")
            ends = len(free) + len(busy) > setting.min_concurrency
            if busy and busy[0] <= now and (not ends or busy[0] <= expiry):
                free.append(busy.pop(0))
            elif ends and expiry <= now:
                since = min(free)
                free.remove(since)
                spend("idle", since, expiry)
            elif busy and busy[0] <= now:
                free.append(busy.pop(0))
            else:
                return

    for at, duration in asked:
        move_on(at)
        hour = int(at // SECONDS)
        counts[hour] += 1
        began = at
        if free:
            since = max(free)
            free.remove(since)
            spend("idle", since, at)
        else:
            colds[hour] += 1
            spend("pending", at, at + START)
            began = at + START
        spend("running", began, began + duration)
        busy.append(began + duration)
    end = HOURS * SECONDS
    move_on(end)
    for since in free:
        spend("idle", since, end)
    hours = [
        AppHour(Runners(*(round(seconds[state][hour] * NANO / SECONDS) for state in STATES)), counts[hour], colds[hour])
        for hour in range(HOURS)
    ]
    return Life(hours, sum(hour.runners.idle for hour in hours) * SECONDS, sum(colds))


class Judged(NamedTuple):
    story: str
    present: Setting
    proposed: Setting
    told: Saving
    idle: int
    saved: int
    starts: int

    @property
    def holds(self) -> bool:
        """True where what is saved lies within the bounds, to a thousandth of the idle time.

        A runner that starts later than another would have been there is also free later, which the bounds leave out.
        """
        leeway = self.idle // 1000
        return self.told.least - leeway <= self.saved <= self.told.most + leeway


def judged(lives: int, seed: int = 1) -> Iterator[Judged]:
    """Yield what was told and what was true, for every story and setting and some lives of each."""
    for story in STORIES:
        for present, proposed in SETTINGS:
            for number in range(lives):
                asked = list(requests(story, Random(f"{seed}:{story.name}:{number}")))  # noqa: S311  reproducible, no secrets
                before, after = live(asked, present), live(asked, proposed)
                told = saving(before.hours, present, proposed)
                yield Judged(
                    story.name,
                    present,
                    proposed,
                    told,
                    before.idle,
                    before.idle - after.idle,
                    after.cold_starts - before.cold_starts,
                )


def table(lives: int) -> str:
    """Return the table of the documentation: idle runner-hours saved in a week, medians of the lives."""
    rows: dict[tuple[str, Setting, Setting], list[Judged]] = {}
    for item in judged(lives):
        rows.setdefault((item.story, item.present, item.proposed), []).append(item)
    lines = [
        "| app | settings | at least | likely | at most | truth | within | cold starts: likely, most, truth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (story, present, proposed), found in rows.items():
        told = [item.told for item in found]
        amounts = [
            f"{median(values) / NANO / SECONDS:.1f}"
            for values in (
                [item.least for item in told],
                [item.likely for item in told],
                [item.most for item in told],
                [item.saved for item in found],
            )
        ]
        starts = ", ".join(
            f"{median(values):.0f}"
            for values in (
                [item.likely_starts for item in told],
                [item.most_starts for item in told],
                [item.starts for item in found],
            )
        )
        change = (
            f"keep-alive {present.keep_alive} to {proposed.keep_alive} s, minimum {present.min_concurrency}"
            if present.keep_alive != proposed.keep_alive
            else f"minimum {present.min_concurrency} to {proposed.min_concurrency}, keep-alive {present.keep_alive} s"
        )
        within = f"{sum(item.holds for item in found)} of {len(found)}"
        lines.append(f"| {story} | {change} | {' | '.join(amounts)} | {within} | {starts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=10)
    print(table(parser.parse_args().lives))
