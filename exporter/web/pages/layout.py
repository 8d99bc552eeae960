"""Layout of all pages: escaping, style, logo, headers and small components.

HTML from templates that are written in the code, filled with values that are not trusted.

The one door to markup: whatever comes in from outside is escaped on its way. A template engine (Jinja2 and MarkupSafe,
2 MB) would be much for a single page.

What all pages wear: the style, the logo, and the headers that let them load nothing from outside.

The small pieces that every part of the page is made of.
"""

from collections.abc import Iterable
from datetime import datetime
from html import escape

from exporter.web.pages.formatting import ago, instant


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def fill(template: str, /, **values: object) -> Markup:
    """Fill a template's `{names}`; every value that is not markup is escaped.

    Args:
        template: a constant of the calling module, never text from outside.
        **values: what to put in.
    """
    safe = {name: value if isinstance(value, Markup) else escape(str(value)) for name, value in values.items()}
    return Markup(template.format_map(safe))


def join(pieces: Iterable[Markup]) -> Markup:
    """Put pieces after each other."""
    return Markup("".join(pieces))


_LOGO = Markup(
    '<svg viewBox="0 0 32 32" width="36" height="36" aria-hidden="true"><rect width="32" height="32" rx="8"/>'
    '<path d="M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13"/></svg>'
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' "
    "rx='8' fill='%234f46e5'/%3E%3Cpath d='M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13' stroke='%23fff' "
    "stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E"
)


def document(
    *, title: str, heading: str, subtitle: str, status: Markup, css: Markup, main: Markup, footer: Markup, head: Markup
) -> str:
    """Return a whole document.

    Args:
        title: of the browser's window.
        heading: the page's name, with a subtitle below it.
        subtitle: what the page is for.
        status: spans at the other end of the header.
        css: the style.
        main: what the page is there for.
        footer: what ends it.
        head: further elements of the document's head.
    """
    return fill(
        _DOCUMENT,
        title=title,
        heading=heading,
        subtitle=subtitle,
        status=status,
        css=css,
        main=main,
        footer=footer,
        head=head,
        icon=_ICON,
        logo=_LOGO,
    )


_DOCUMENT = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{head}
<title>{title}</title>
<link rel="icon" href="{icon}">
<style>{css}</style>
</head>
<body>
<header>
{logo}
<div class="title"><h1>{heading}</h1><p>{subtitle}</p></div>
<div class="status">{status}</div>
</header>
<main>
{main}
</main>
<footer>
{footer}
</footer>
</body>
</html>
"""

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
