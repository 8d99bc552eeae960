import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import NANO, Window
from exporter.metrics.exposition import Exposition
from exporter.metrics.publication import AccountOverview, DailySpend, Overview, Publication, Ranking, SourceOverview
from exporter.outlook.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.web.landing import LandingPage

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
VOID = {"meta", "link"}

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
            current_hour=7_010_000_000,
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
    daily=DailySpend(
        tuple(date(2026, 11, 8) + timedelta(days=place) for place in range(14)),
        (("serverless", (3 * NANO,) * 14), ("<i>new</i>", (NANO // 1000,) * 14)),
        date(2026, 11, 10),
    ),
    rankings=(
        Ranking("model", (("fal-ai/veo3", 60 * NANO), ("fal-ai/flux", 30 * NANO)), 7, 9 * NANO, 100 * NANO),
        Ranking("app", (), 0, 0, 100 * NANO),
        Ranking("gpu_class", (("H100", NANO // 100),), 0, 0, 100 * NANO),
    ),
)
DAYS = OVERVIEW.daily.days
MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
OUTLOOK = Outlook(
    accounts=(
        AccountOutlook(
            "production", MONTH, runway=timedelta(days=40), forecast=Forecast(12 * NANO, 10 * NANO, 15 * NANO)
        ),
        AccountOutlook("research", MONTH, forecast=Forecast(3 * NANO, 2 * NANO, 4 * NANO)),
    ),
    budgets=(
        BudgetOutlook(
            "everything",
            "month",
            MONTH,
            100 * NANO,
            {},
            (Fraction(1, 2), Fraction(4, 5)),
            99 * NANO + 999_999_999,
            Forecast(120 * NANO, 110 * NANO, 130 * NANO),
        ),
        BudgetOutlook("burst", "month", MONTH, 10 * NANO, {}, spend=12 * NANO),
        BudgetOutlook("unknown", "month", MONTH, 10 * NANO, {}),
    ),
)


class Outline(HTMLParser):
    """The elements of a document in order, its text, and whether they are nested well."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

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


def outline(overview: Overview | None, *, ready: bool = True, refresh: str = "", outlook: Outlook = OUTLOOK) -> Outline:
    publication = None if overview is None else Publication(1, AT, Exposition(), overview, ready, outlook)
    document = Outline()
    document.feed(LandingPage(lambda: AT, 9090).html(publication, ready=ready, refresh=refresh))
    document.close()
    assert document.open == []
    return document


@pytest.mark.parametrize(
    "words",
    [
        "Ready version 1.2.3 up 0 s",
        "This is a demo.",
        "3 urgent · 1 to look at",
        "production The source serverless fails: GET /serverless/usage answered 500.",
        "research Locked by fal: Exhausted balance.",
        "Budget burst Exceeded by $2.00: $12.00 of $10.00.",
        "Budget everything Forecast to end at $120.00, above its limit of $100.00.",
        "Month to date $8,913.45",
        "$15.00 forecast for the month $12.00 to $19.00, the accounts' 80 % bands added up",
        "Last month: $11,205.00",
        "Today $402.12 since midnight, Europe/Berlin",
        "This hour $7.01 so far; fal is often late Last hour $12.48 last complete hour",
        "Credit balance $24,512.15 lasts 40 d where it is shortest",
        "$100.00 of $100.00, 99 % forecast $120.00 ($110.00 to $130.00)",
        "not yet, of $10.00 no forecast yet",
        "Top models this month fal-ai/veo3 $60.00 60.0 %",
        "7 more $9.00 9.0 %",
        "GPU classes this month H100 $0.0100 <0.1 %",
        "Sun 8 Nov not all loaded $3.00 $0.0010 $3.00",
        "Tue 10 Nov $3.00",
        "production · models chosen automatically Up 2026-11-21 22:00 UTC just now",
        "research · reporting Waiting not yet not yet not yet not yet",
        "2 accounts · 1,389 series · 1,204,331 hourly charges in the ledger · as of 2026-11-21 22:00 UTC",
        "/metrics REST MCP: port 9090, /mcp /-/healthy /-/ready Documentation",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_before_the_first_publication_it_says_so_and_looks_again_by_itself() -> None:
    document = outline(None, ready=False)
    assert "Starting" in document.text
    assert "The first snapshot is being made" in document.text
    assert ("meta", {"http-equiv": "refresh", "content": "2"}) in document.elements


def test_what_is_not_known_is_said_not_to_be() -> None:
    text = outline(Overview("1", (AccountOverview("a", ()),)), outlook=Outlook()).text
    assert "Credit balance unknown not known yet" in text
    assert "Today unknown" in text
    assert "No spend is known of the last days." in text
    assert "Top models" not in text
    assert "Budgets" not in text
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
        overview = Overview(
            name,
            (account, account),
            time_zone=name,
            notes=(problem,),
            links=((name, problem),),
            daily=DailySpend((date(2026, 11, 21),), ((name, (NANO,)),)),
            rankings=(Ranking("model", ((name, NANO),), 0, 0, NANO),),
        )
        budget = BudgetOutlook(name or "x", "month", MONTH, NANO, {}, (Fraction(1, 2),), 2 * NANO)
        return outline(overview, outlook=Outlook(budgets=(budget,)))

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


def amounts() -> st.SearchStrategy[int]:
    return st.integers(-(2**63) + 1, 2**63 - 1) | st.sampled_from([0, 1, -1, NANO])


@given(st.lists(amounts(), min_size=14, max_size=14), amounts(), st.integers(1, 2**62))
def test_no_amount_leaves_the_picture(days: Sequence[int], spend: int, limit: int) -> None:
    overview = Overview(
        "1", (AccountOverview("a", (), month_to_date=spend),), daily=DailySpend(DAYS, (("x", tuple(days)),))
    )
    ahead = Forecast(spend, spend - 5, spend + 5)
    budget = BudgetOutlook("b", "month", MONTH, limit, {}, (Fraction(4, 5),), spend, ahead)
    document = outline(overview, outlook=Outlook((AccountOutlook("a", MONTH, forecast=ahead),), (budget,)))
    shapes = [attributes for tag, attributes in document.elements if tag == "rect"]
    assert all(
        0 <= float(value.rstrip("%")) <= 244
        for it in shapes
        for value in (it.get("width"), it.get("height"), it.get("y"))
        if value
    )


def test_fifty_accounts_are_a_table_and_their_sources_are_folded_up() -> None:
    many = tuple(AccountOverview(f"team-{it}", (SourceOverview("models", "", "up", AT, AT),)) for it in range(50))
    document = outline(Overview("1", many), outlook=Outlook())
    assert "Nothing needs attention. The data reach to 2026-11-21 22:00 UTC." in document.text
    assert [attributes for tag, attributes in document.elements if tag == "details"] == [{}]
    assert document.text.count("team-49") == 2


def test_a_page_is_written_once_for_a_publication_and_minute() -> None:
    publication = Publication(1, AT, Exposition(), OVERVIEW, ready=True, outlook=OUTLOOK)
    now = AT
    page = LandingPage(lambda: now)
    page.html(publication, ready=True)
    first = page._written
    page.html(publication, ready=True, refresh="5")
    assert page._written is first
    now += timedelta(minutes=1)
    assert "1 min ago" in page.html(publication, ready=True)
