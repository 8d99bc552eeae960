"""Checks of a life, asked of Prometheus; each returns its complaints.

On `increase()`: Prometheus extrapolates the difference of the last and the first sample in the range to the range's
ends: at each by the distance to the nearest sample if that is below 1.1 of the samples' mean distance, else by half of
that mean; at the start never beyond the point where the counter would have been zero. The range asked for here ends at
the instant of the last sample, so nothing is added there; it begins before the first sample, which is 0 where a series
is born as it should be, so nothing is added there either. The tolerance is therefore none: what is expected is the
float64 that is nearest to the exact amount.
"""

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

from e2e.life.prometheus import Prometheus, Values
from e2e.life.recording import COUNTERS
from e2e.life.story import HOUR, NANO, Story
from e2e.life.truth import Amounts
from e2e.processes import Labels

Expected = dict[str, dict[datetime, Amounts]]
"""Values that gauges must have at instants, by family."""

_HOUR_SECONDS = 3600


def falls(story: Story, prometheus: Prometheus, instance: str) -> list[str]:
    """Complain of counters that have fallen."""
    complaints = []
    for family in COUNTERS:
        resets = prometheus.at(f'resets({family}{{instance="{instance}"}}[{_life(story)}])', story.last_scrape)
        complaints += [f"{family} {_shown(labels)} falls {times} times" for labels, times in resets.items() if times]
        if not resets:
            complaints.append(f"{family} has no series")
    return complaints


def wrong_increases(
    story: Story, prometheus: Prometheus, instance: str, truth: Mapping[str, Amounts], waiting: Mapping[str, Amounts]
) -> list[str]:
    """Complain of increases over the whole life that are not what was learnt in it.

    Args:
        story: the life's.
        prometheus: where the life is.
        instance: whose.
        truth: by family, what the truth has grown by; less than nothing where more was taken back than came.
        waiting: by family, how much a counter must be ahead of it, since it cannot follow when money is taken back.
    """
    complaints = []
    for family, grown in truth.items():
        increases = prometheus.at(f'increase({family}{{instance="{instance}"}}[{_life(story)}])', story.last_scrape)
        amounts = {
            labels: grown.get(labels, 0) + waiting[family].get(labels, 0) for labels in {*grown, *waiting[family]}
        }
        complaints += _differences(f"increase of {family}", amounts, increases)
    pending = prometheus.at(f'fal_spend_pending_usd{{instance="{instance}"}}', story.last_scrape)
    return complaints + _differences("fal_spend_pending_usd", waiting["fal_spend_usd_total"], pending)


def wrong_gauges(prometheus: Prometheus, instance: str, expected: Expected) -> list[str]:
    """Complain of gauges that did not tell the truth of their instant."""
    complaints = []
    for family, by_instant in expected.items():
        query = f'{family}{{instance="{instance}"}}'
        for minute in {instant.minute for instant in by_instant}:
            instants = [instant for instant in by_instant if instant.minute == minute]
            found = prometheus.between(query, min(instants), max(instants), _HOUR_SECONDS)
            for instant in instants:
                values = found.get(instant.timestamp(), {})
                complaints += _differences(f"{family} at {instant:%d %b %H:%M}", by_instant[instant], values)
    return complaints


def wrong_month(prometheus: Prometheus, instance: str, at: datetime, total: int) -> list[str]:
    """Complain if last month does not add up to the invoice's total, to the nano-dollar."""
    told = prometheus.at(f'fal_spend_last_month_usd{{instance="{instance}"}}', at)
    # Up to nine million dollars each float64 is nearest to one amount of nano-dollars only.
    found = sum(round(Fraction(value) * NANO) for value in told.values())
    return [] if found == total else [f"last month is {found} nano-USD, its invoice is {total}"]


def _life(story: Story) -> str:
    return f"{(story.last_scrape - story.birth + HOUR).total_seconds():.0f}s"


def _differences(what: str, expected: Amounts, found: Values) -> list[str]:
    return [
        f"{what} {_shown(labels)} is {found.get(labels, 0.0)}, not {expected.get(labels, 0) / NANO}"
        for labels in {*expected, *found}
        if expected.get(labels, 0) / NANO != found.get(labels, 0.0)
    ]


def _shown(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={value}" for name, value in sorted(labels)) + "}"
