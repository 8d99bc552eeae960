import base64
import hashlib
import re
from datetime import UTC, datetime

import pytest

from exporter.web.pages import LandingPage
from exporter.web.pages.rendering import HEADERS, STYLESHEET
from exporter.web.rest.documentation import page

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
TEXTS = (
    ("ink", "back"),
    ("ink", "card"),
    ("ink", "bad-back"),
    ("ink", "wait-back"),
    ("ink", "track"),
    ("soft", "back"),
    ("soft", "card"),
    ("brand", "back"),
    ("brand", "card"),
    ("brand", "bad-back"),
    ("brand", "wait-back"),
    ("brand", "track"),
    ("bad", "card"),
    ("good", "good-back"),
    ("wait", "wait-back"),
    ("bad", "bad-back"),
)
"""Colours of text and of the ground under it, on either page."""

SHAPES = ("p0", "p1", "p2", "p3", "p4", "p5", "p6", "brand", "bad", "ink")
"""The bars and marks of the pictures, which all stand on cards."""


@pytest.mark.parametrize("which", ["landing", "docs"])
def test_the_policy_allows_a_pages_own_style_and_nothing_else(which: str) -> None:
    if which == "docs":
        html, headers = page(guarded=False), HEADERS
    else:
        landing = LandingPage(lambda: AT)
        html, headers = landing.html(None, ready=False), landing.headers
    css = re.search("<style>(.*)</style>", html, re.DOTALL)
    assert css is not None
    digest = base64.b64encode(hashlib.sha256(css[1].encode()).digest()).decode()
    policy = headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert {"base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
    assert "unsafe" not in policy
    assert "url(" not in css[1]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str, *, dark: bool) -> float:
    """Return the contrast of two of the style's colours, as WCAG 2.2 defines it."""
    colours: dict[str, str] = {}
    # Each sheet declares its colours for the light, then for the dark.
    for sheet in re.findall(r":root \{(.*?)\}", STYLESHEET, re.DOTALL)[dark::2]:
        colours |= re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+);", sheet)
    lighter, darker = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "paper"), TEXTS)
def test_text_can_be_read_by_people_with_low_vision(ink: str, paper: str, *, dark: bool) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
    assert contrast(ink, paper, dark=dark) >= 4.5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_can_be_seen_by_people_with_low_vision(shape: str, *, dark: bool) -> None:
    """WCAG 2.2, 1.4.11: a contrast of at least 3 to 1."""
    assert contrast(shape, "card", dark=dark) >= 3


def test_no_colour_of_text_or_pictures_has_been_forgotten_here() -> None:
    assert set(re.findall(r"(?<![-a-z])color: var\(--([a-z0-9-]+)\)", STYLESHEET)) == {ink for ink, _ in TEXTS}
    decoration = {"line", "track", "band", "soft", "of"}
    assert set(re.findall(r"(?:fill|--of): var\(--([a-z0-9-]+)\)", STYLESHEET)) - decoration == set(SHAPES)
