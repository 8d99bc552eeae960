"""What all pages wear: the style, the logo, and the headers that let them load nothing from outside."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from exporter.web.markup import Markup, fill

_LOGO = Markup(
    '<svg viewBox="0 0 32 32" width="36" height="36" aria-hidden="true"><rect width="32" height="32" rx="8"/>'
    '<path d="M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13"/></svg>'
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' "
    "rx='8' fill='%234f46e5'/%3E%3Cpath d='M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13' stroke='%23fff' "
    "stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E"
)


def style(*names: str) -> Markup:
    """Return the style sheets of this package with these names, after each other."""
    folder = files("exporter.web")
    return Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))


def document(
    *, title: str, heading: str, subtitle: str, status: Markup, css: Markup, main: Markup, footer: Markup, head: Markup
) -> str:
    """Return a whole document.

    Args:
        title: of the browser's window.
        heading: the page's name, with a subtitle below it.
        subtitle: what the page is for.
        status: spans at the other end of the header.
        css: the style, as `style` returns it.
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


def safe_headers(css: str) -> Mapping[str, str]:
    """Return the headers of a page that has this style within it, and nothing else that could run or load."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return {
        "content-security-policy": (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


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
