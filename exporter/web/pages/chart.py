"""Values of the charts: places as percentages of width and height, so that a chart fills every card."""

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.forecasting.state import Forecast
from exporter.overview import OTHER, DailySpend
from exporter.web.pages.formatting import dollars, percent, round_dollars

_PRODUCTS = ("model_apis", "serverless", "compute")
_COLOURS = 7

_LEFT, _WIDTH = 8, 92
"""The place of the bars, in percent of the chart's width; the amounts stand left of them."""

_GAP = 0.5
"""Between the bars of a day, in percent of the chart's height."""

_STEPS = (1, 2, 5, 10)
_LINES = 4


@dataclass(frozen=True, slots=True)
class Band:
    """The band of a forecast on a meter, in percent of its width."""

    low: float
    width: float
    expected: float


@dataclass(frozen=True, slots=True)
class Product:
    """A product in the legend, with the number of its colour."""

    name: str
    colour: int


@dataclass(frozen=True, slots=True)
class Line:
    """A horizontal line, in percent of the chart's height, and the amount above it."""

    y: float
    amount: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Cost of a product on a day: x and width in percent of the chart's width, y and height of its height."""

    product: str
    amount: str
    colour: int
    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Day:
    """A day: its bars from the bottom up, its label below them, and its row of the table.

    Attributes:
        x: middle of the label, in percent of the chart's width.
        below: the second line of the label, the month or the day of the week.
        amounts: by product, in the order of the legend.
    """

    title: str
    number: int
    below: str
    x: float
    bars: tuple[Bar, ...]
    amounts: tuple[str, ...]
    total: str
    is_known: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """Spend by day and product, the first day first.

    Attributes:
        unknown_days: how many of the days are not all loaded.
    """

    total: str
    products: tuple[Product, ...]
    lines: tuple[Line, ...]
    days: tuple[Day, ...]
    unknown_days: int


def band(forecast: Forecast, whole: int) -> Band:
    """Return the band of a forecast on a meter that shows this amount in its whole width."""
    low, high = percent(forecast.low, whole), percent(forecast.high, whole)
    return Band(low, round(high - low, 2), percent(forecast.expected, whole))


def chart(daily: DailySpend) -> Chart | None:
    """Return the chart of daily spend; None where no spend is known."""
    if not daily.products:
        return None
    totals = [sum(amounts) for amounts in zip(*(amounts for _, amounts in daily.products), strict=True)]
    most = max(1, *totals)
    step = _step(most)
    top = step * -(-most // step)
    colour_of = colours(tuple(name for name, _ in daily.products))
    return Chart(
        total=dollars(sum(totals)),
        products=tuple(Product(product_name(name), colour_of[name]) for name, _ in daily.products),
        lines=tuple(_line(step * number, top) for number in range(top // step + 1)),
        days=tuple(_day(daily, index, totals[index], top, colour_of) for index in range(len(daily.days))),
        unknown_days=sum(not daily.is_known(day) for day in daily.days),
    )


def colours(products: tuple[str, ...]) -> dict[str, int]:
    """Return the number of each product's colour: fal's own products always have theirs, others what is left."""
    rest = iter(range(len(_PRODUCTS), _COLOURS))
    return {
        product: _PRODUCTS.index(product) if product in _PRODUCTS else next(rest, _COLOURS - 1)
        for product in sorted(products)
    }


_PRODUCT_NAMES = {
    "model_apis": "Model APIs",
    "serverless": "Serverless",
    "compute": "Compute machines",
    OTHER: "Others",
}


def product_name(name: str) -> str:
    """Return a product's name for people."""
    return _PRODUCT_NAMES.get(name, name) or "No product"


def _step(most: int) -> int:
    """Return the distance of the lines: 1, 2 or 5 times a power of ten."""
    size = 1
    while size * 10 * _LINES < most:
        size *= 10
    return next(size * step for step in _STEPS if size * step * _LINES >= most or step == _STEPS[-1])


def _line(amount: int, top: int) -> Line:
    return Line(_y(amount, top), round_dollars(amount) if amount else "")


def _day(daily: DailySpend, index: int, total: int, top: int, colour_of: dict[str, int]) -> Day:
    day = daily.days[index]
    slot = _WIDTH / len(daily.days)
    return Day(
        title=f"{day:%a} {day.day} {day:%b}",
        number=day.day,
        below=f"{day:%b}" if index == 0 or day.day == 1 else f"{day:%a}"[:2],
        x=round(_LEFT + slot * (index + 0.5), 3),
        bars=tuple(_bars(daily, index, top, colour_of)),
        amounts=tuple(dollars(amounts[index]) for _, amounts in daily.products),
        total=dollars(total),
        is_known=daily.is_known(day),
    )


def _bars(daily: DailySpend, index: int, top: int, colour_of: dict[str, int]) -> Iterator[Bar]:
    slot = _WIDTH / len(daily.days)
    x, width = round(_LEFT + slot * (index + 0.14), 3), round(slot * 0.72, 3)
    base = 0
    # From below by name, as the dashboards stack them.
    for name, amounts in sorted(daily.products):
        amount = amounts[index]
        if amount <= 0:
            continue
        y, bottom = _y(base + amount, top), _y(base, top)
        base += amount
        height = round(max(bottom - y - _GAP, _GAP / 2), 2)
        yield Bar(product_name(name), dollars(amount), colour_of[name], x, width, y, height)


def _y(amount: int, top: int) -> float:
    return round(100 - 100 * amount / top, 2)
