"""The forms of PromQL that the dashboards ask.

Three rules hold for all of them. Series are added up in each exporter first, and of two exporters that tell of one
account the larger sum is taken: a second replica doubles nothing. A range is read as few instants, never as every
sample of it, so that ten thousand series stay cheap. What is shown as of the end of the time range is asked with
`@ to`, which Prometheus works out once for a whole graph.
"""

from collections.abc import Sequence
from textwrap import indent

DIMENSIONS = ("account", "team", "product", "model", "app", "gpu_class")
"""The labels that have a variable of the same name."""

TO = "${__to:date:seconds}"
FROM = "${__from:date:seconds}"
STACKED_BY = "$by"
"""The label that the reader has chosen."""

_TOP = 9
"""How many groups a graph tells apart; the others are one more."""


def selected(labels: Sequence[str] = DIMENSIONS, *also: str) -> str:
    """Return the selector of what the variables select.

    Args:
        labels: those of the family that have a variable.
        also: further matchers, such as `gpu_class!=""`.
    """
    return "{" + ",".join([*(f'{label}=~"${label}"' for label in labels), *also]) + "}"


def total(metric: str, by: Sequence[str] = (), *also: str, at: str = "") -> str:
    """Return the sum of a family of charges, or of anything else that carries all charge labels.

    Args:
        metric: the family's name.
        by: the labels to keep.
        also: further matchers.
        at: an offset or `@` modifier.
    """
    series = f"{metric}{selected(DIMENSIONS, *also)}" + (f" {at}" if at else "")
    kept = ", ".join(dict.fromkeys(("account", *by)))
    each = f"max by ({kept}) (sum by ({kept}, job, instance) ({series}))"
    return f"sum by ({', '.join(by)}) ({each})" if by else f"sum({each})"


def of_accounts(metric: str, labels: Sequence[str] = ("account",), *also: str, at: str = "") -> str:
    """Return a family that tells of accounts, each series once however many exporters tell of it."""
    return f"max by ({', '.join(labels)}) ({metric}{selected(('account',), *also)}{' ' + at if at else ''})"


def whole(metric: str) -> str:
    """Return the sum of a family of charges over whole accounts, where no other variable selects."""
    return f"sum(max by (account) (sum by (account, job, instance) ({metric}{selected(('account',))})))"


def share(part: str, of: str) -> str:
    """Return a share from 0 to 1; no data where the whole is 0."""
    return f"{part}\n/ ({of} != 0)"


def growth(metric: str, since: str, by: Sequence[str] = (), *also: str) -> str:
    """Return by which share a sum differs from what it was that long ago; no data where it was 0."""
    before = total(metric, by, *also, at=f"offset {since}")
    return f"{total(metric, by, *also)}\n/ ({before} > 0)\n- 1"


def counted(metric: str, hours: int, by: Sequence[str] = (), *also: str) -> str:
    """Return what a counter has counted in the last hours: exactly, from two instants.

    Sums are subtracted, not series, so that an exporter that has moved to another instance counts nothing twice. Where
    the ledger itself is younger, all that it has counted.
    """
    now, then = total(metric, by, *also), total(metric, by, *also, at=f"offset {hours}h")
    young = f"time() - min(fal_exporter_ledger_birth_timestamp_seconds) < {hours * 3600}"
    return f"({now} - {then}) >= 0\nor ({now} and on () {young})"


def by_day(group: str, metric: str, *also: str) -> str:
    """Return what each day added to a month-to-date gauge, by group, under the name of the group.

    At a step of a day a value stands at the start of its day. A day adds what the month to date grew by from one
    midnight to the next, so a month's days add up to the month to date; today is as of the end of the range.

    Args:
        group: the label to group by.
        metric: a gauge that starts at 0 with each month.
        also: further matchers.
    """
    ends = (
        f"{total(metric, [group], *also, at='offset -1439m')}\n"
        f"or on ({group}) ({total(metric, [group], *also, at=f'@ {TO}')} and on () vector(time()) > {TO} - 86340)"
    )
    starts = (
        f"-({total(metric, [group], *also, at='offset 1m')} unless on () day_of_month(vector(time() + 43200)) == 1)"
    )
    grown = (
        f"# at the end of each day\n{ends}\n"
        "# less at its start, but for the first of a month\n"
        f'or label_replace({starts}, "edge", "start", "", "")'
    )
    return _named(group, f"sum by ({group}) (\n{indent(grown, '  ')}\n)", metric, *also)


def by_hour(group: str, complete: str, running: str, ranked_by: str, *also: str) -> str:
    """Return what each hour cost (or burnt), by group, under the name of the group.

    At a step of an hour a value stands at the start of its hour. It is the hour as it was known at the end of the one
    after it; of the last complete hour and of the running one, as it is known now.

    Args:
        group: the label to group by.
        complete: a gauge of the last complete hour.
        running: the gauge of the running hour; empty if there is none.
        ranked_by: the gauge by which the groups are ranked that have a name of their own.
        also: further matchers.
    """
    hours = [
        total(complete, [group], *also, at="offset -119m"),
        f"({total(complete, [group], *also, at=f'@ {TO}')}\n  and on () (vector(time()) > {TO} - 7140) <= {TO} - 3600)",
    ]
    if running:
        hours.append(f"({total(running, [group], *also, at=f'@ {TO}')} and on () vector(time()) > {TO} - 3600)")
    known = f"\nor on ({group})\n".join(hours)
    return _named(group, f"(\n{indent(known, '  ')}\n)", ranked_by, *also)


def _named(group: str, values: str, ranked_by: str, *also: str) -> str:
    """Add up what is not among the groups that rank highest at the end of the range, and name the sums."""
    ranked = total(ranked_by, [group], *also, at=f"@ {TO}")
    named = f'label_replace(0 * topk({_TOP}, {ranked}) + 1, "name", "$1", "{group}", "(.+)")'
    without = f'label_replace({named}, "name", "without {group}", "{group}", "")'
    others = f'label_replace(0 * {ranked} + 1, "name", "all others", "", "")'
    return (
        f"sum by (name) (\n{indent(values, '  ')}\n"
        f"  # under its name, or among all others\n"
        f"  * on ({group}) group_left (name)\n"
        f"  ({without}\n   or on ({group}) {others})\n)"
    )
