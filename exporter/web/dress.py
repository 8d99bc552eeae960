"""What all pages wear: the style, the logo, and the headers that let them load nothing from outside."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from exporter.web.markup import Markup

LOGO = Markup(
    '<svg viewBox="0 0 32 32" width="36" height="36" aria-hidden="true"><rect width="32" height="32" rx="8"/>'
    '<path d="M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13"/></svg>'
)
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' "
    "rx='8' fill='%234f46e5'/%3E%3Cpath d='M8 22.5V18m5.3 4.5V13m5.4 9.5v-7M24 22.5v-13' stroke='%23fff' "
    "stroke-width='3' stroke-linecap='round'/%3E%3C/svg%3E"
)


def style(*names: str) -> Markup:
    """Return the style sheets of this package with these names, after each other."""
    folder = files("exporter.web")
    return Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))


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
