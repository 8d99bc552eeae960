"""The last days by product: stacked bars in SVG, whose places are percentages so that it fits every width."""

from collections.abc import Iterator
from datetime import date

from exporter.metrics.publication import DailySpend
from exporter.web.landing.marks import colours
from exporter.web.markup import Markup, fill, join
from exporter.web.wording import dollars, round_dollars

_TOP, _BOTTOM, _HEIGHT = 18, 208, 244
_STEPS = (1, 2, 5, 10)
_LINES = 4


def chart(daily: DailySpend) -> Markup:
    """Return the section; a sentence in place of the chart where nothing is known yet."""
    if not daily.products:
        return _EMPTY
    totals = [sum(amounts) for amounts in zip(*(it for _, it in daily.products), strict=True)]
    step = _step(max(1, *totals))
    colour_of = colours(tuple(name for name, _ in daily.products))
    top = step * -(-max(1, *totals) // step)
    return fill(
        _CHART,
        height=_HEIGHT,
        said=f"{len(daily.days)} days, {dollars(sum(totals))} together; the table below has every figure.",
        lines=join(_line(step * place, top) for place in range(top // step + 1)),
        bars=join(_bars(daily, totals, top, colour_of)),
        legend=join(
            fill('<li><span class="of p{colour}">{name}</span></li>', colour=colour_of[name], name=name or "no product")
            for name, _ in daily.products
        ),
        head=join(fill('<th scope="col">{name}</th>', name=name or "no product") for name, _ in daily.products),
        rows=join(_row(daily, place, totals[place]) for place in reversed(range(len(daily.days)))),
    )


def _step(most: int) -> int:
    """Return the distance of the lines: 1, 2 or 5 times a power of ten."""
    size = 1
    while size * 10 * _LINES < most:
        size *= 10
    return next(size * it for it in _STEPS if size * it * _LINES >= most or it == _STEPS[-1])


def _line(amount: int, top: int) -> Markup:
    y = _y(amount, top)
    return fill(
        '<rect class="grid" y="{y}" width="100%" height="1"/><text y="{text}">{amount}</text>',
        y=y,
        text=round(y - 4, 1),
        amount=round_dollars(amount) if amount else "",
    )


def _bars(daily: DailySpend, totals: list[int], top: int, colour_of: dict[str, int]) -> Iterator[Markup]:
    slot = 92 / len(daily.days)
    for place, day in enumerate(daily.days):
        left = 8 + slot * place
        base = 0
        for name, amounts in daily.products:
            amount = amounts[place]
            if amount <= 0:
                continue
            y, bottom = _y(base + amount, top), _y(base, top)
            base += amount
            yield fill(
                _BAR,
                colour=colour_of[name],
                x=round(left + slot * 0.14, 3),
                y=y,
                width=round(slot * 0.72, 3),
                height=round(max(bottom - y - 1, 0.5), 1),
                said=f"{_day(day)}: {name or 'no product'} {dollars(amount)} of {dollars(totals[place])}",
            )
        yield fill(
            _LABEL,
            x=round(left + slot / 2, 3),
            day=day.day,
            below=f"{day:%b}" if place == 0 or day.day == 1 else f"{day:%a}"[:2],
            mark="now" if place == len(daily.days) - 1 else "",
        )


def _row(daily: DailySpend, place: int, total: int) -> Markup:
    day = daily.days[place]
    is_known = daily.known_from is not None and day >= daily.known_from
    return fill(
        '<tr><th scope="row">{day}{note}</th>{cells}<td>{total}</td></tr>\n',
        day=_day(day),
        note=Markup() if is_known else Markup("<small>not all loaded</small>"),
        cells=join(fill("<td>{amount}</td>", amount=dollars(amounts[place])) for _, amounts in daily.products),
        total=dollars(total),
    )


def _y(amount: int, top: int) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * amount / top, 1)


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


_BAR = (
    '<rect class="p{colour}" x="{x}%" y="{y}" width="{width}%" height="{height}" rx="2"><title>{said}</title></rect>\n'
)
_LABEL = (
    '<text class="{mark}" x="{x}%" y="224" text-anchor="middle">{day}</text>'
    '<text x="{x}%" y="239" text-anchor="middle">{below}</text>\n'
)

_CHART = """\
<section class="chart">
<h2>Last days by product</h2>
<ul class="legend">{legend}</ul>
<svg height="{height}" role="img" aria-labelledby="chart-title chart-text"><title id="chart-title">Spend a day by
product</title><desc id="chart-text">{said}</desc>
{lines}
{bars}</svg>
<details><summary>The same as a table</summary>
<div class="wide" tabindex="0" role="region" aria-label="Spend a day by product, table"><table class="plain">
<caption>Spend a day by product</caption>
<thead><tr><th scope="col">Day</th>{head}<th scope="col">All</th></tr></thead>
<tbody>
{rows}
</tbody></table></div></details>
</section>
"""

_EMPTY = Markup(
    '<section class="chart"><h2>Last days by product</h2><p class="unknown">No spend is known of the last days.</p>'
    "</section>\n"
)
