"""Efficiency: what requests cost, what failed ones cost, and what starting runners costs.

fal does not report the cost of a single request of one's own apps, so some figures are estimates, and say how:

- A request of an app that fails takes a runner's time like one that succeeds: of the money of running runners its share
  is that of failed requests in all requests.
- A request of a model that fails for a reason of fal's is not charged; of those that fail for what was asked some are,
  and fal does not say which. Their share is an upper bound: as if all of them were.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from exporter.forecasting.what_if import WhatIf
from exporter.machines import SERVERLESS, AppSettings, Ceiling, Efficiency, Parts, RequestSum, StateSum, app_name
from exporter.samples import Pages


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
    """Return what the requests of apps and models cost; only what has requests is told of.

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
