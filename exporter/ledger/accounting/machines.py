"""Split of an hour's charge of an app by the states of its runners, exact to the nano-unit.

fal bills a serverless runner while it starts, runs, waits, and ends, and reports per app and hour the mean number of
runners in each state. An amount of the hour is divided in proportion to these means. What is rounded off one state is
carried into the next, so that the parts of an amount always add up to it, and none has another sign than the whole.

An hour with a charge but without history, or whose history has no runner at all, is `unknown`: never idle by guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from exporter.ledger.accounting.counters import Labels
from exporter.machines import Parts, Runners

STATE_LABELS = Labels(("account", "app", "environment", "gpu_class"))
"""Dimensions of figures by state; the state comes last."""

UNKNOWN_AFTER = 24
"""Hours after its end for which an hour's history is waited for, before its charge counts as `unknown`."""


NOTHING_SPLIT = Parts()


def split(amount: int, runners: Runners | None) -> Parts:
    """Divide an amount of an hour by the states of the runners that it is for.

    Args:
        amount: nano-units; below zero for what has been taken back.
        runners: None where the hour has no history.
    """
    if runners is None or runners.total <= 0:
        return Parts(unknown=amount)
    sign, whole = (-1, -amount) if amount < 0 else (1, amount)
    edges = (whole * share // runners.total for share in accumulate(runners, initial=0))
    return Parts(*(sign * (until - since) for since, until in pairwise(edges)))


@dataclass(frozen=True, slots=True)
class StateSplit:
    """The charge of a series in an hour, divided by state.

    Attributes:
        place: number of the label values under which it is published.
        cost: nano-USD.
        gpu_seconds: GPU nano-seconds.
        counted: whether counters have taken it up.
    """

    place: int
    cost: Parts
    gpu_seconds: Parts
    counted: bool = False


MEASURES = ("cost", "gpu_seconds")
"""The measures that are divided."""


def counted_change(before: StateSplit | None, after: StateSplit | None) -> Mapping[str, Parts]:
    """Return by how much counters grow, by measure, when the split of an hour is replaced.

    What counters had taken up is replaced by what they take up now; each state moves by its own difference.
    """
    change: dict[str, Parts] = {}
    for measure in MEASURES:
        was = NOTHING_SPLIT if before is None or not before.counted else getattr(before, measure)
        now = NOTHING_SPLIT if after is None or not after.counted else getattr(after, measure)
        change[measure] = now.minus(was)
    return change


def is_ripe(hour: int, *, is_complete: bool, asked_through: int) -> bool:
    """Return whether counters take an hour's split up.

    Args:
        hour: the hour's number.
        is_complete: whether the runners of the hour have been read after its end.
        asked_through: number of the hour up to which fal has been asked for runners. Where it had none for an hour,
            they may still come, so that the hour counts as unknown only some time later.
    """
    return is_complete or hour + 1 + UNKNOWN_AFTER <= asked_through
