"""The budgets as bars: spend, forecast with its band, thresholds and limit."""

from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction

from exporter.outlook.state import BudgetOutlook
from exporter.web.landing.marks import percent
from exporter.web.markup import Markup, fill, join
from exporter.web.wording import dollars, span


def budgets(found: Iterable[BudgetOutlook], now: datetime) -> Markup:
    """Return the section; nothing where there are no budgets."""
    rows = [_budget(it, now) for it in found]
    return fill(_SECTION, rows=join(rows)) if rows else Markup()


def _budget(budget: BudgetOutlook, now: datetime) -> Markup:
    spend, forecast, limit = budget.spend, budget.forecast, budget.limit
    whole = max(limit, spend or 0, forecast.high if forecast else 0) * 105 // 100
    reached = [it for it in budget.thresholds if spend is not None and spend >= it * limit]
    state = "over" if spend is not None and spend > limit else "near" if reached else ""
    if spend is None:
        told = f"not yet, of {dollars(limit)}"
    else:
        told = f"{dollars(spend)} of {dollars(limit)}, {_share(spend, limit)}"
    return fill(
        _BUDGET,
        name=budget.budget,
        period=f"{budget.period}, {span((budget.window.end - now.astimezone(UTC)).total_seconds())} left",
        told=told,
        state=state,
        track=percent(limit, whole),
        spent=percent(spend or 0, whole),
        band=fill(
            _BAND,
            low=percent(forecast.low, whole),
            width=round(percent(forecast.high, whole) - percent(forecast.low, whole), 2),
            expected=percent(forecast.expected, whole),
        )
        if forecast
        else Markup(),
        thresholds=join(fill(_TICK, mark="threshold", at=_place(it, limit, whole)) for it in budget.thresholds),
        limit=fill(_TICK, mark="limit", at=percent(limit, whole)),
        forecast=f"forecast {dollars(forecast.expected)} ({dollars(forecast.low)} to {dollars(forecast.high)})"
        if forecast
        else "no forecast yet",
    )


def _place(threshold: Fraction, limit: int, whole: int) -> float:
    return percent(round(threshold * limit), whole)


def _share(spend: int, limit: int) -> str:
    return f"{100 * spend // limit} %" if limit > 0 else "no limit"


_BAND = """\
<rect class="band" x="{low}%" y="5" width="{width}%" height="10"/>
<svg x="{expected}%" overflow="visible"><rect class="expected" x="-1.5" y="2" width="3" height="16" rx="1.5"/></svg>
"""
_TICK = '<svg x="{at}%" overflow="visible"><rect class="{mark}" x="-1" width="2" height="20"/></svg>'

_BUDGET = """\
<li class="{state}"><p><strong>{name}</strong> <span>{period}</span></p>
<svg class="meter" height="20" role="img" aria-label="{name}: {told}, {forecast}">
<rect class="track" y="5" width="{track}%" height="10" rx="5"/>
{band}<rect class="spent" y="5" width="{spent}%" height="10" rx="5"/>
{thresholds}{limit}</svg>
<p><span class="told">{told}</span> <span>{forecast}</span></p></li>
"""

_SECTION = """\
<section>
<h2>Budgets</h2>
<ul class="budgets">
{rows}
</ul>
<p class="key"><span class="of spent">spent</span><span class="of band">80 % band of the forecast</span>
<span class="of threshold">thresholds</span><span class="of limit">limit</span></p>
</section>
"""
