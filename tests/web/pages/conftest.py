"""A publication in which everything is to be seen, and the page that is made of it."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from html.parser import HTMLParser

from exporter.charges import NANO, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.overview import AccountOverview, DailySpend, Overview, Ranking, SourceOverview
from exporter.publication import Exposition, Publication
from exporter.web.pages import LandingPage

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
VOID = {"meta", "link", "input"}

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
        date(2026, 11, 20),
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


def outline(
    overview: Overview | None,
    *,
    ready: bool = True,
    refresh: str = "",
    outlook: Outlook = OUTLOOK,
    now: datetime = AT,
) -> Outline:
    """Return the page as it is at an instant; what it shows was published at AT."""
    publication = None if overview is None else Publication(1, AT, Exposition(), overview, ready, outlook)
    document = Outline()
    document.feed(LandingPage(lambda: now, 9090).html(publication, ready=ready, refresh=refresh))
    document.close()
    assert document.open == []
    return document
