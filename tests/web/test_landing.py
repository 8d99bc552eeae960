import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.exposition import Exposition
from exporter.metrics.publication import AccountOverview, Overview, Publication, SourceOverview
from exporter.web.landing import LandingPage

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
VOID = {"meta", "link", "rect", "path"}

FAILING = SourceOverview(
    "serverless",
    "set by SOURCES",
    "failing",
    last_success_at=AT - timedelta(hours=2),
    data_through=AT - timedelta(hours=2),
    history_progress=0.625,
    problem="GET /serverless/usage answered 500.",
)
OVERVIEW = Overview(
    "1.2.3",
    (
        AccountOverview(
            "production",
            (SourceOverview("models", "chosen automatically", "up", AT, AT, AT - timedelta(hours=48), 1.0), FAILING),
            balance=24_512_330_000_000,
            balance_at=AT - timedelta(minutes=3),
            last_hour=12_480_000_000,
            today=402_118_000_000,
            month_to_date=8_913_450_000_000,
            last_month=11_204_998_000_000,
        ),
        AccountOverview(
            "research", (SourceOverview("reporting", "", "waiting"),), balance=-180_000_000, locked="Exhausted balance."
        ),
    ),
    time_zone="Europe/Berlin",
    series=1389,
    charges=1_204_331,
    notes=("This is a demo.",),
    links=(("Documentation", "https://example.com/docs"),),
)


class Outline(HTMLParser):
    """The elements of a document in order, its text, and whether they are nested well."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def outline(overview: Overview | None, *, ready: bool = True, refresh: str = "") -> Outline:
    publication = None if overview is None else Publication(1, AT, Exposition(), overview, ready)
    document = Outline()
    document.feed(LandingPage(lambda: AT).html(publication, ready=ready, refresh=refresh))
    document.close()
    assert document.open == []
    return document


@pytest.mark.parametrize(
    "words",
    [
        "Ready version 1.2.3 up 0 s",
        "This is a demo.",
        "2 accounts · 1,389 series · 1,204,331 hourly charges in the ledger · as of 2026-11-21 22:00 UTC",
        "Account production Credit balance $24,512.33 read 3 min ago Last hour $12.48",
        "Today $402.12 since midnight, Europe/Berlin Month to date $8,913.45",
        "Last month $11,205.00",
        "models chosen automatically Up 2026-11-21 22:00 UTC just now",
        "serverless set by SOURCES Failing 2026-11-21 20:00 UTC 2 h ago 2026-11-21 20:00 UTC 2 h ago not yet 62 %",
        "GET /serverless/usage answered 500.",
        "Account research Locked by fal: Exhausted balance. Credit balance -$0.1800 not known yet",
        "Waiting not yet not yet not yet not yet",
        "/metrics REST /-/healthy /-/ready Documentation",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_before_the_first_publication_it_says_so_and_looks_again_by_itself() -> None:
    document = outline(None, ready=False)
    assert "Starting" in document.text
    assert "The first snapshot is being made" in document.text
    assert ("meta", {"http-equiv": "refresh", "content": "2"}) in document.elements


def test_totals_that_are_not_given_are_not_shown() -> None:
    text = outline(Overview("1", (AccountOverview("a", ()),))).text
    assert "Credit balance unknown not known yet" in text
    assert "Today" not in text
    assert "1 account ·" in text


def test_uptime_is_counted_from_the_start() -> None:
    instants = iter((AT, AT + timedelta(hours=3)))
    page = LandingPage(lambda: next(instants))
    assert "up 3 h" in page.html(None, ready=False)


def test_nothing_is_loaded_from_outside_and_no_script_runs() -> None:
    elements = outline(OVERVIEW).elements
    assert not {"script", "img", "iframe", "object", "form"} & {tag for tag, _ in elements}
    (icon,) = [attributes["href"] for tag, attributes in elements if tag == "link"]
    assert icon is not None
    assert icon.startswith("data:image/svg+xml,")
    assert not any(name.startswith("on") or name == "style" for _, attributes in elements for name in attributes)


def test_the_policy_allows_this_style_and_nothing_else() -> None:
    page = LandingPage(lambda: AT)
    style = re.search("<style>(.*)</style>", page.html(None, ready=False), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "url(" not in style[1]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{style}", "</style>", "&lt;"]
)


@given(TEXT, TEXT, TEXT)
def test_no_text_from_outside_can_change_the_document(name: str, problem: str, locked: str) -> None:
    def of(name: str, problem: str, locked: str) -> Outline:
        source = SourceOverview(name, problem, "failing", problem=problem)
        account = AccountOverview(name, (source,), locked=locked, problems=(problem,))
        return outline(Overview(name, (account,), time_zone=name, notes=(problem,), links=((name, problem),)))

    hostile = of(name, problem or "x", locked or "x")
    harmless = of("name", "problem", "locked")
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert [sorted(attributes) for _, attributes in hostile.elements] == [
        sorted(attributes) for _, attributes in harmless.elements
    ]
    assert " ".join((problem or "x").split()) in hostile.text


@pytest.mark.parametrize(("refresh", "seconds"), [("5", "5"), ("3600", "3600")])
def test_the_page_follows_if_asked(refresh: str, seconds: str) -> None:
    document = outline(OVERVIEW, refresh=refresh)
    assert ("meta", {"http-equiv": "refresh", "content": seconds}) in document.elements
    assert "stop refreshing" in document.text


@pytest.mark.parametrize("refresh", ["", "0", "3601", "-1", "5;url=https://evil.example", "\u0665", "9" * 5000, "x"])
def test_a_wrong_wish_to_follow_is_ignored(refresh: str) -> None:
    document = outline(OVERVIEW, refresh=refresh)
    assert not any("http-equiv" in attributes for _, attributes in document.elements)
    assert "refresh every 5 s" in document.text


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("ink", "back"),
        ("soft", "back"),
        ("soft", "card"),
        ("brand", "back"),
        ("bad", "card"),
        ("good", "good-back"),
        ("wait", "wait-back"),
        ("bad", "bad-back"),
    ],
)
def test_text_can_be_read_by_people_with_low_vision(mode: int, ink: str, paper: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
    roots = re.findall(r":root \{(.*?)\}", LandingPage(lambda: AT)._style, re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", roots[mode]))
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
