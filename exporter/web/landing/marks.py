"""The small pieces that every part of the page is made of."""

from datetime import datetime

from exporter.web.markup import Markup, fill
from exporter.web.wording import ago, instant

UNKNOWN = Markup('<span class="unknown">not yet</span>')

_PRODUCTS = ("model_apis", "serverless", "compute")
_COLOURS = 7


def badge(state: str, text: str) -> Markup:
    """Return a word with the colour of a state: up, waiting or failing."""
    return fill('<span class="badge {state}">{text}</span>', state=state, text=text)


def stamp(at: datetime | None, now: datetime) -> Markup:
    """Return an instant and how long ago it was."""
    if at is None:
        return UNKNOWN
    return fill(
        '<time datetime="{iso}">{at} <span class="ago">{ago}</span></time>',
        iso=at.isoformat(),
        at=instant(at),
        ago=ago(at, now),
    )


def percent(part: int, whole: int) -> float:
    """Return a share in percent, cut to what a bar can show, 0 to 100."""
    return round(min(max(100 * part / whole, 0.0), 100.0), 2) if whole > 0 else 0.0


def colours(products: tuple[str, ...]) -> dict[str, int]:
    """Return the number of each product's colour: fal's own products always have theirs, others what is left."""
    rest = iter(range(len(_PRODUCTS), _COLOURS))
    return {it: _PRODUCTS.index(it) if it in _PRODUCTS else next(rest, _COLOURS - 1) for it in sorted(products)}
