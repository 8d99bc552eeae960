"""Accounting of machines: an hour's charge of an app by the states of its runners, and what requests cost.

fal bills a serverless runner while it starts, runs, waits, and ends, and reports per app and hour the mean number of
runners in each state. An amount of the hour is divided in proportion to these means. What is rounded off one state is
carried into the next, so that the parts of an amount always add up to it, and none has another sign than the whole.
An hour with a charge but without history, or whose history has no runner at all, is `unknown`: never idle by guess.

fal does not report the cost of a single request of one's own apps, so some figures of requests are estimates:

- A request of an app that fails takes a runner's time like one that succeeds: of the money of running runners its share
  is that of failed requests in all requests.
- A request of a model that fails for a reason of fal's is not charged; of those that fail for what was asked some are,
  and fal does not say which. Their share is an upper bound: as if all of them were.

Other settings are tried on the hours of an app's last week of which runners and requests are known. fal reports runners
by app and settings by environment, so that only an app in one environment alone has both.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import accumulate, pairwise

from exporter.charges import HOUR, Window, hour_of, hour_start
from exporter.forecasting.what_if import WEEK, AppHour, AppWeek, Setting, WhatIf
from exporter.ledger.accounting.counters import Labels
from exporter.machines import (
    SERVERLESS,
    AppSettings,
    Ceiling,
    Efficiency,
    Parts,
    RequestHour,
    RequestSum,
    RunnerHour,
    Runners,
    StateSum,
    app_name,
)
from exporter.samples import Pages

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


@dataclass(frozen=True, slots=True)
class MachineFigures:
    """Figures of runners at an instant; every table's values are in nano-units.

    Attributes:
        spend, gpu_seconds: counters by the labels of STATE_LABELS and the state.
        spend_of, gpu_time_of: the same as gauges, by the name of the period.
        settings: of the apps of the accounts that are published; environments as charges have them.
        ceilings: what apps can burn in an hour.
        efficiency: requests and what they cost, of the last 24 hours that are known whole.
        what_ifs: the lower settings of each app that would likely have saved most in the last week.
        tried: account, name and environment of the apps that lower settings could be tried on.
    """

    spend: Pages = ()
    gpu_seconds: Pages = ()
    spend_of: Mapping[str, Pages] = field(default_factory=dict)
    gpu_time_of: Mapping[str, Pages] = field(default_factory=dict)
    settings: tuple[AppSettings, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    efficiency: tuple[Efficiency, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()
    tried: frozenset[tuple[str, str, str]] = frozenset()


NO_MACHINES = MachineFigures()


def efficiency(
    states: Iterable[StateSum], requests: Iterable[RequestSum], models: Mapping[tuple[str, str], int]
) -> tuple[Efficiency, ...]:
    """Return what the requests of apps and models cost; what has no requests is left out.

    Args:
        states: cost of apps by state, all environments and GPU classes.
        requests: of the same hours.
        models: what each model cost, by account and model.
    """
    cost: dict[tuple[str, str], Parts] = {}
    gpu_seconds: dict[tuple[str, str], Parts] = {}
    for item in states:
        key = (item.account, app_name(item.app))
        cost[key] = cost.get(key, Parts()).plus(item.cost)
        gpu_seconds[key] = gpu_seconds.get(key, Parts()).plus(item.gpu_seconds)
    found = []
    for asked in requests:
        if not asked.requests:
            continue
        key = (asked.account, asked.name)
        if asked.product == SERVERLESS:
            its = cost.get(key, Parts())
            whole, failed = its.total, asked.requests - asked.succeeded
            failed_cost = _share(its.running, failed, asked.requests)
            start = (its.pending, gpu_seconds.get(key, Parts()).pending)
        else:
            whole, failed, start = models.get(key, 0), asked.user_errors + asked.errors, (0, 0)
            failed_cost = _share(whole, asked.user_errors, asked.succeeded + asked.user_errors)
        found.append(
            Efficiency(
                asked.account,
                asked.product,
                asked.name,
                asked.requests,
                asked.succeeded,
                failed,
                asked.cold_starts,
                whole,
                round(Fraction(whole, asked.succeeded)) if asked.succeeded else None,
                failed_cost,
                *start,
            )
        )
    return tuple(found)


def _share(amount: int, part: int, whole: int) -> int:
    return round(Fraction(amount * max(part, 0), whole)) if whole > 0 else 0


def week_before(now: datetime) -> Window:
    """Return the hours of the last week, the current one included."""
    end = hour_of(now) + HOUR
    return Window(end - WEEK * HOUR, end)


def app_weeks(
    settings: Iterable[AppSettings],
    through: Mapping[str, int | None],
    *,
    runners: Callable[[str], Iterable[RunnerHour]],
    requests: Callable[[str], Iterable[RequestHour]],
    states: Callable[[Window], Iterable[StateSum]],
) -> Iterator[AppWeek]:
    """Yield the apps that other settings can be tried on, each with the last of its known hours that have no gap.

    Args:
        settings: of the apps, as charges name them.
        through: number of the hour up to which the requests of each account are known; None before the first time.
        runners: returns those of an account, by hour in order.
        requests: returns those of an account.
        states: returns what apps cost in a window; asked once for each.
    """
    sums: dict[Window, dict[tuple[str, str], tuple[int, int]]] = {}
    listed = sorted(settings, key=lambda item: (item.account, app_name(item.app)))
    for account in sorted({item.account for item in listed} & through.keys()):
        known = _known_hours(runners(account), through[account])
        asked = {(item.name, item.hour): item for item in requests(account) if item.product == SERVERLESS}
        for app, its in _by_app(item for item in listed if item.account == account).items():
            hours = _unbroken(known.get(app, ()))
            if len(its) > 1 or its[0].keep_alive is None or its[0].min_concurrency is None or not hours:
                continue
            span = Window(hour_start(hours[0].hour), hour_start(hours[-1].hour + 1))
            if span not in sums:
                sums[span] = _sums_by_app(states(span))
            yield AppWeek(
                account,
                its[0].app,
                its[0].environment,
                Setting(its[0].keep_alive, its[0].min_concurrency),
                tuple(_tried(hour, asked.get((app, hour.hour))) for hour in hours),
                *sums[span].get((account, app), (0, 0)),
            )


def _known_hours(runners: Iterable[RunnerHour], through: int | None) -> dict[str, list[RunnerHour]]:
    found: dict[str, list[RunnerHour]] = {}
    for hour in runners:
        if hour.complete and through is not None and hour.hour < through:
            found.setdefault(app_name(hour.app), []).append(hour)
    return found


def _sums_by_app(states: Iterable[StateSum]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return cost and GPU time by account and app."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for item in states:
        key = (item.account, app_name(item.app))
        cost, gpu_seconds = found.get(key, (0, 0))
        found[key] = (cost + item.cost.total, gpu_seconds + item.gpu_seconds.total)
    return found


def _by_app(settings: Iterable[AppSettings]) -> dict[str, list[AppSettings]]:
    found: dict[str, list[AppSettings]] = {}
    for item in settings:
        found.setdefault(app_name(item.app), []).append(item)
    return found


def _unbroken(hours: Sequence[RunnerHour]) -> Sequence[RunnerHour]:
    """Return the last hours that follow each other without a gap."""
    first = next((at for at in range(len(hours) - 1, 0, -1) if hours[at].hour - hours[at - 1].hour != 1), 0)
    return hours[first:]


def _tried(hour: RunnerHour, asked: RequestHour | None) -> AppHour:
    return AppHour(hour.runners, *((asked.requests, asked.cold_starts) if asked else (0, 0)))
