"""What has cost most this month: models, apps and GPU classes, with their share of everything."""

from collections.abc import Iterable

from exporter.metrics.publication import Ranking
from exporter.web.landing.marks import percent
from exporter.web.markup import Markup, fill, join
from exporter.web.wording import dollars

_TITLES = {"model": "Top models", "app": "Top apps", "gpu_class": "GPU classes"}


def rankings(found: Iterable[Ranking]) -> Markup:
    """Return a card for each ranking that has anything in it."""
    cards = [_card(it) for it in found if it.top]
    return fill('<div class="rankings">{cards}</div>', cards=join(cards)) if cards else Markup()


def _card(ranking: Ranking) -> Markup:
    most = max(ranking.other, *(amount for _, amount in ranking.top))
    rows = [_row(name, amount, ranking.total, most) for name, amount in ranking.top]
    if ranking.others:
        rows.append(_row(f"{ranking.others:,} more", ranking.other, ranking.total, most, "rest"))
    return fill(_CARD, title=_TITLES[ranking.label], rows=join(rows))


def _row(name: str, amount: int, total: int, most: int, mark: str = "") -> Markup:
    share = percent(amount, total)
    return fill(
        _ROW,
        name=name,
        amount=dollars(amount),
        share="<0.1 %" if amount > 0 and share < 0.1 else f"{share:.1f} %",  # noqa: PLR2004
        width=percent(amount, most),
        mark=mark,
    )


_CARD = """\
<section>
<h2>{title} <small>this month</small></h2>
<ol class="ranking">
{rows}
</ol>
</section>
"""

_ROW = """\
<li class="{mark}"><span class="name" title="{name}">{name}</span>
<span class="cost">{amount} <small>{share}</small></span>
<svg height="6" aria-hidden="true"><rect class="track" width="100%" height="6" rx="3"/>
<rect class="spent" width="{width}%" height="6" rx="3"/></svg></li>
"""
