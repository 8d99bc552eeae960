"""Pages made from the Jinja2 templates of this package, their stylesheet, and the headers that they are sent with.

Every value that a template shows is escaped, and a name that is not defined is an error.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

STYLESHEET = files("exporter.web.pages").joinpath("templates/style.css").read_text(encoding="utf-8")
"""The stylesheet of all pages, which each of them contains."""


def _only_own_style(stylesheet: str) -> str:
    """Return a content security policy by which a page uses this stylesheet and loads and runs nothing else."""
    digest = base64.b64encode(hashlib.sha256(stylesheet.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )


HEADERS: Mapping[str, str] = {
    "content-security-policy": _only_own_style(STYLESHEET),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""The headers of every page."""


def render(template: str, **values: object) -> str:
    """Return the text of a template.

    Args:
        template: file name of the template.
        **values: what the template shows.

    Raises:
        jinja2.UndefinedError: The template uses a name that has no value.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> "Environment":
    # Imported for the first page and not at the start, so that metrics are served sooner.
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("exporter.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["stylesheet"] = STYLESHEET
    return environment
