"""Figures at the top and the chart of the last days.

The figures at the top: the month against its forecast, today, this hour, balance and runway.

The last days by product: stacked bars in SVG, whose places are percentages so that it fits every width.
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime

from exporter.forecasting.state import AccountOutlook
from exporter.publication import DailySpend, Publication
from exporter.web.pages.formatting import ago, dollars, round_dollars, runway
from exporter.web.pages.layout import Markup, colours, fill, join, percent


def figures(publication: Publication, now: datetime) -> Markup:
    """Return the figures of all accounts together."""
    accounts, ahead = publication.overview.accounts, publication.outlook.accounts
    zone = publication.overview.time_zone
    balances = [it.balance_at for it in accounts if it.balance is not None and it.balance_at is not None]
    lasting = [it.runway for it in ahead if it.runway is not None]
    balance = _total(it.balance for it in accounts)
    note = f"read {ago(min(balances), now)}" if balances else "not known yet"
    if lasting:
        note = f"lasts {runway(min(lasting))}" + (" where it is shortest" if len(accounts) > 1 else "")
    tiles = (
        ("Today", _total(it.today for it in accounts), f"since midnight, {zone}", ""),
        ("This hour", _total(it.current_hour for it in accounts), "so far; fal is often late", ""),
        ("Last hour", _total(it.last_hour for it in accounts), "last complete hour", ""),
        ("Credit balance", balance, note, " low" if balance is not None and balance <= 0 else ""),
    )
    return fill(
        _FIGURES,
        month=_month(publication),
        tiles=join(
            fill(_TILE, title=title, amount=dollars(it), note=text, mark=mark) for title, it, text, mark in tiles
        ),
    )


def _month(publication: Publication) -> Markup:
    accounts = publication.overview.accounts
    spent = _total(it.month_to_date for it in accounts)
    forecasts = [it.forecast for it in publication.outlook.accounts if it.forecast is not None]
    last = _total(it.last_month for it in accounts)
    before = fill("<p>Last month: {amount}</p>", amount=dollars(last)) if last is not None else Markup()
    if spent is None or not forecasts or len(forecasts) < len(accounts):
        return fill(_MONTH, amount=dollars(spent), meter=Markup(), forecast=_NO_FORECAST, before=before)
    low, expected, high = (sum(getattr(it, edge) for it in forecasts) for edge in ("low", "expected", "high"))
    return fill(
        _MONTH,
        amount=dollars(spent),
        meter=_meter(spent, low, expected, high, last or 0),
        forecast=fill(
            _FORECAST,
            expected=dollars(expected),
            low=dollars(low),
            high=dollars(high),
            band="80 % band" if len(forecasts) == 1 else "the accounts' 80 % bands added up",
        ),
        before=before,
    )


def _meter(spent: int, low: int, expected: int, high: int, last: int) -> Markup:
    whole = max(spent, high, last) * 105 // 100
    return fill(
        _METER,
        said=f"{dollars(spent)} spent, forecast {dollars(expected)}",
        spent=percent(spent, whole),
        low=percent(low, whole),
        band=round(percent(high, whole) - percent(low, whole), 2),
        expected=percent(expected, whole),
    )


def accounts_table(publication: Publication) -> Markup:
    """Return a row for each account where there are several."""
    accounts = publication.overview.accounts
    ahead = {it.account: it for it in publication.outlook.accounts}
    if len(accounts) < 2:  # noqa: PLR2004  one account is what the figures are of
        return Markup()
    rows = (
        fill(
            _ROW,
            name=it.name,
            balance=dollars(it.balance),
            runway=_runway(ahead.get(it.name)),
            today=dollars(it.today),
            month=dollars(it.month_to_date),
            forecast=_forecast(ahead.get(it.name)),
            state=join(_states(it.locked, {source.state for source in it.sources})),
        )
        for it in sorted(accounts, key=lambda it: -(it.month_to_date or 0))
    )
    return fill(_ACCOUNTS, rows=join(rows))


def _states(locked: str, states: set[str]) -> Iterator[Markup]:
    if locked:
        yield Markup('<span class="badge failing">Locked</span>')
    elif "failing" in states:
        yield Markup('<span class="badge failing">Failing</span>')
    elif states == {"up"}:
        yield Markup('<span class="badge up">Up</span>')
    else:
        yield Markup('<span class="badge waiting">Waiting</span>')


def _runway(ahead: AccountOutlook | None) -> str:
    return runway(ahead.runway) if ahead is not None and ahead.runway is not None else "none"


def _forecast(ahead: AccountOutlook | None) -> str:
    return dollars(ahead.forecast.expected) if ahead is not None and ahead.forecast is not None else "none"


def _total(amounts: Iterable[int | None]) -> int | None:
    known = [it for it in amounts if it is not None]
    return sum(known) if known else None


_NO_FORECAST = Markup("<p>Forecast: not yet; it needs the month so far and some days before.</p>")
_FORECAST = "<p><strong>{expected}</strong> forecast for the month <span>{low} to {high}, {band}</span></p>"

_FIGURES = """\
<section class="figures" aria-label="Spend and credit">
{month}
<dl>
{tiles}
</dl>
</section>
"""

_MONTH = """\
<div class="month"><h2>Month to date</h2><p class="amount">{amount}</p>
{meter}
{forecast}
{before}
</div>
"""

_METER = """\
<svg class="meter" height="20" role="img" aria-label="{said}">
<rect class="track" y="5" width="100%" height="10" rx="5"/>
<rect class="band" x="{low}%" y="5" width="{band}%" height="10"/>
<rect class="spent" y="5" width="{spent}%" height="10" rx="5"/>
<svg x="{expected}%" overflow="visible"><rect class="expected" x="-1.5" width="3" height="20" rx="1.5"/></svg>
</svg>
"""

_TILE = '<div class="figure{mark}"><dt>{title}</dt><dd>{amount}<small>{note}</small></dd></div>\n'

_ACCOUNTS = """\
<section>
<h2>Accounts</h2>
<table class="numbers" role="table">
<caption>Spend and credit by account</caption>
<thead><tr role="row"><th role="columnheader" scope="col">Account</th><th role="columnheader" scope="col">Month</th>
<th role="columnheader" scope="col">Forecast</th><th role="columnheader" scope="col">Today</th>
<th role="columnheader" scope="col">Balance</th><th role="columnheader" scope="col">Runway</th>
<th role="columnheader" scope="col">State</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</section>
"""

_ROW = """\
<tr role="row"><th role="rowheader" scope="row">{name}</th><td role="cell" data-title="Month">{month}</td>
<td role="cell" data-title="Forecast">{forecast}</td><td role="cell" data-title="Today">{today}</td>
<td role="cell" data-title="Balance">{balance}</td><td role="cell" data-title="Runway">{runway}</td>
<td role="cell" data-title="State">{state}</td></tr>
"""

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
