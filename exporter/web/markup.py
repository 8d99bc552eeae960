"""HTML from templates that are written in the code, filled with values that are not trusted.

The one door to markup: whatever comes in from outside is escaped on its way. A template engine (Jinja2 and MarkupSafe,
2 MB) would be much for a single page.
"""

from collections.abc import Iterable
from html import escape


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
