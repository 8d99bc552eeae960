"""The forms of PromQL that the dashboards ask.

Four rules hold for all of them. A series counts once for each exporter, whatever labels its target has besides `job`
and `instance`; series are then added up in each exporter, and of two exporters that report one account the larger sum
is taken: neither a second replica nor a second Prometheus doubles anything. A range is read as few instants, never as
every sample of it, so that ten thousand series stay cheap. What is shown as of the end of the time range is asked with
`@ to`, which Prometheus works out once for a whole graph. A gauge of a window (today, the month) is absent for an
account while hours of it are not covered; so a sum over accounts, and a bar, is absent while a selected account lacks
hours.
"""

from collections.abc import Iterable, Sequence
from textwrap import indent

DIMENSIONS = ("account", "team", "product", "model", "app", "gpu_class")
"""The labels that have a variable of the same name."""

TO = "${__to:date:seconds}"
FROM = "${__from:date:seconds}"
STACKED_BY = "$by"
"""The label that the reader has chosen."""

OF_CHARGES = (*DIMENSIONS, "environment", "api_key", "member", "surge")
"""All labels that a charge may have, whichever are published."""

_TOP = 9
"""Number of groups that a graph tells apart; the others are one more."""


def selected(labels: Sequence[str] = DIMENSIONS, *also: str) -> str:
    """Return the selector of what the variables select.

    Args:
        labels: those of the family that have a variable.
        also: further matchers, such as `gpu_class!=""`.
    """
    return "{" + ",".join([*(f'{label}=~"${label}"' for label in labels), *also]) + "}"


_WINDOWS = {
    "fal_spend_current_hour_usd": "current_hour",
    "fal_spend_last_hour_usd": "last_hour",
    "fal_gpu_time_last_hour_seconds": "last_hour",
    "fal_spend_today_usd": "today",
    "fal_spend_last_day_usd": "last_day",
    "fal_discount_last_day_usd": "last_day",
    "fal_usage_quantity_last_day": "last_day",
    "fal_spend_month_to_date_usd": "month_to_date",
    "fal_gpu_time_month_to_date_seconds": "month_to_date",
    "fal_spend_surge_month_to_date_usd": "month_to_date",
    "fal_gpu_time_surge_month_to_date_seconds": "month_to_date",
    "fal_spend_last_month_usd": "last_month",
    "fal_spend_last_month_to_date_usd": "last_month",
    "fal_spend_month_compared_usd": "last_month",
}
"""The gauges of windows, and the label `window` of their coverage."""


def covered(*windows: str, by: Sequence[str] = (), at: str = "") -> str:
    """Return the share of the hours of some windows that is known, of the account that lacks most of them."""
    matcher = f'window=~"{"|".join(windows)}"' if len(windows) > 1 else f'window="{windows[0]}"'
    ratio = of_accounts("fal_window_coverage_ratio", ("account", "window"), matcher, at=at)
    return f"min by ({', '.join(by)}) ({ratio})" if by else f"min({ratio})"


def while_whole(expression: str, metric: str, at: str = "") -> str:
    """Return an expression over a gauge of a window; no data while a selected account lacks hours of the window.

    A Prometheus that does not know the coverage, as of the time before the exporter was started, does not stop it.
    """
    return f"{expression}\nunless on () {covered(_WINDOWS[metric], at=at)} < 1"


def total(metric: str, by: Sequence[str] = (), *also: str, at: str = "") -> str:
    """Return the sum of a family of charges, or of anything else that carries all charge labels.

    Args:
        metric: the family's name.
        by: the labels to keep.
        also: further matchers.
        at: an offset or `@` modifier.
    """
    series = f"{metric}{selected(DIMENSIONS, *also)}" + (f" {at}" if at else "")
    labels = (*OF_CHARGES, "unit") if "_quantity_" in metric else OF_CHARGES
    each = of_each(series, labels, dict.fromkeys(("account", *by)), at=at)
    if by:
        return f"sum by ({', '.join(by)}) ({each})"
    if metric not in _WINDOWS:
        return f"sum({each})"
    # Of a window that is covered, no charge is a sum of 0, and not one that is unknown.
    nothing = f"0 * {covered(_WINDOWS[metric], at=at)}"
    return f"({while_whole(f'(sum({each}) or on () {nothing})', metric, at)})"


TOTAL, REST = "Total", "all others"
"""Names of the rows of a table that add up what is in it, and what is not."""


def ranked(metric: str, label: str, ranked_by: str, count: int) -> str:
    """Return the sums of a family by a label: of the largest, of all others, and of everything.

    Args:
        metric: the family's name.
        label: the label to group by; may be a variable of Grafana.
        ranked_by: the gauge by which the largest are chosen, as of the end of the range.
        count: how many have a row of their own.
    """

    def each(of: str, at: str = "") -> str:
        return f'label_replace({total(of, [label], at=at)}, "{label}", "without {label}", "{label}", "^$")'

    sums = each(metric)
    # Where the first is absent, as of a month that is not loaded, by what is shown.
    order = dict.fromkeys((ranked_by, metric))
    largest = f"topk({count}, {' or on () '.join(each(of, at=f'@ {TO}') for of in order)})"
    return (
        f"(({sums}) and on ({label}) {largest})\n"
        f'or label_replace(sum(({sums}) unless on ({label}) {largest}), "{label}", "{REST}", "", "")\n'
        f'or label_replace({total(metric)}, "{label}", "{TOTAL}", "", "")'
    )


def of_each(
    expression: str, labels: Iterable[str] = OF_CHARGES, by: Iterable[str] = ("account",), *, at: str = ""
) -> str:
    """Return sums over labels in each exporter; where several exporters tell of the same, the largest.

    One whose figures are old while others are current does not count, where the recording rules are loaded.

    Args:
        expression: one or several series of each exporter.
        labels: all that its series have; further ones are of targets.
        by: the labels to keep, the account among them.
        at: the expression's offset or `@` modifier.
    """
    kept = ", ".join(by)
    outdated = f"fal:exporter_outdated{' ' + at if at else ''}"
    return (
        f"max by ({kept}) (sum by ({kept}, job, instance) (\n"
        f"  max by ({', '.join(labels)}, job, instance) ({expression})\n"
        f") unless on (job, instance) {outdated})"
    )


def of_ledgers(metric: str) -> str:
    """Return the sum of a family without labels over ledgers, which replicas share: each is known by when it began."""
    began = 'count_values by (job, instance) ("began", fal_exporter_ledger_birth_timestamp_seconds)'
    each = f"max by (job, instance) ({metric}) * on (job, instance) group_left (began) (0 * {began} + 1)"
    return f"sum(max by (began) ({each}))"


NOT_PAID = 'status!~"draft|paid|void"'
"""Matches invoices that are to be paid: open ones, and those in a state that fal introduces later, as they may be."""


def of_accounts(metric: str, labels: Sequence[str] = ("account",), *also: str, at: str = "") -> str:
    """Return a family that tells of accounts, each series once however many exporters tell of it."""
    return f"max by ({', '.join(labels)}) ({metric}{selected(('account',), *also)}{' ' + at if at else ''})"


def of_runners(metric: str, by: Sequence[str] = (), *also: str, at: str = "") -> str:
    """Return the sum of a family about runners of apps, which has no label of a charge but account, app and GPU class.

    Args:
        metric: the family's name.
        by: the labels to keep.
        also: further matchers.
        at: an offset or `@` modifier.
    """
    series = f"{metric}{selected(('account', 'app', 'gpu_class'), *also)}" + (f" {at}" if at else "")
    labels = ("account", "app", "environment", "gpu_class", *(("state",) if "_by_state_" in metric else ()))
    each = of_each(series, labels, dict.fromkeys(("account", *by)), at=at)
    return f"sum by ({', '.join(by)}) ({each})" if by else f"sum({each})"


def of_apps(metric: str, how: str, *also: str) -> str:
    """Return a setting or ratio of apps, the `how` (max, min) of an app in several environments and accounts."""
    return f"{how} by (app) ({metric}{selected(('account', 'app'), *also)})"


def whole(metric: str) -> str:
    """Return the sum of a family of charges over whole accounts, where no other variable selects."""
    sums = f"sum({of_each(metric + selected(('account',)))})"
    if metric not in _WINDOWS:
        return sums
    return while_whole(f"({sums} or on () 0 * {covered(_WINDOWS[metric])})", metric)


def share(part: str, of: str) -> str:
    """Return a share from 0 to 1; no data where the whole is 0."""
    return f"{part}\n/ ({of} != 0)"


def growth(metric: str, since: str, by: Sequence[str] = (), *also: str) -> str:
    """Return by which share a sum differs from what it was that long ago; no data where it was 0."""
    before = total(metric, by, *also, at=f"offset {since}")
    grown = f"{total(metric, by, *also)}\n/ ({before} > 0)\n- 1"
    return while_whole(while_whole(grown, metric), metric, f"offset {since}") if by else grown


def counted(metric: str, hours: int, by: Sequence[str] = (), *also: str) -> str:
    """Return what a counter has counted in the last hours: exactly, from two instants.

    Sums are subtracted, not series, so that an exporter that has moved to another instance counts nothing twice. Where
    the ledger itself is younger, all that it has counted.
    """
    now, then = total(metric, by, *also), total(metric, by, *also, at=f"offset {hours}h")
    young = f"time() - min(fal_exporter_ledger_birth_timestamp_seconds) < {hours * 3600}"
    # What stood there before the ledger began is of another ledger, or was written by a backfill: no difference to it.
    return f"({now} and on () {young})\nor (({now} - {then}) >= 0 unless on () {young})"


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
    window = _WINDOWS[metric]
    days = (
        f"sum by ({group}) (\n{indent(grown, '  ')}\n)\n"
        "# of days that are known at both ends\n"
        f"unless on () {covered(window, at='offset -1439m')} < 1\n"
        f"unless on () ({covered(window, at='offset 1m')} < 1 unless day_of_month(vector(time() + 43200)) == 1)\n"
        f"unless on () ({covered(window, at=f'@ {TO}')} < 1 and vector(time()) > {TO} - 86340)\n"
        # A Prometheus that began within a month knows no start of its first day, which would be the month so far.
        f"and on () ({total(metric, at='offset 1m')} or on () day_of_month(vector(time() + 43200)) == 1)"
    )
    return _named(group, f"(\n{indent(days, '  ')}\n)", metric, *also)


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
    now = f"@ {TO}"
    known, last = (while_whole(total(complete, [group], *also, at=at), complete, at) for at in ("offset -119m", now))
    hours = [f"({known})", f"(({last})\n  and on () (vector(time()) > {TO} - 7140) <= {TO} - 3600)"]
    if running:
        present = while_whole(total(running, [group], *also, at=now), running, now)
        hours.append(f"(({present})\n  and on () vector(time()) > {TO} - 3600)")
    joined = f"\nor on ({group})\n".join(hours)
    return _named(group, f"(\n{indent(joined, '  ')}\n)", ranked_by, *also, otherwise=complete)


def _named(group: str, values: str, ranked_by: str, *also: str, otherwise: str = "") -> str:
    """Add up what is not among the groups that rank highest at the end of the range, and name the sums.

    `otherwise` is the gauge by which they are ranked where the first one is absent, as of a month that is not loaded.
    """
    ranked = total(ranked_by, [group], *also, at=f"@ {TO}")
    if otherwise:
        ranked = f"({ranked} or on () {total(otherwise, [group], *also, at=f'@ {TO}')})"
    named = f'label_replace(0 * topk({_TOP}, {ranked}) + 1, "name", "$1", "{group}", "(.+)")'
    without = f'label_replace({named}, "name", "without {group}", "{group}", "")'
    others = f'label_replace(0 * {ranked} + 1, "name", "all others", "", "")'
    return (
        f"sum by (name) (\n{indent(values, '  ')}\n"
        f"  # under its name, or among all others\n"
        f"  * on ({group}) group_left (name)\n"
        f"  ({without}\n   or on ({group}) {others})\n)"
    )
