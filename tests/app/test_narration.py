import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from exporter.app.narration import Narrator, place_of
from exporter.charges import NANO
from exporter.overview import AccountOverview, Gap, Overview, SourceOverview
from exporter.publication import Exposition, Publication

AT = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
UP = SourceOverview("models", "", "up", AT, AT, history_progress=1.0)
ACCOUNT = AccountOverview("studio", (UP,), balance=900 * NANO, balance_at=AT, month_to_date=80 * NANO)


class Story:
    """A narrator, its clock, and what it has logged."""

    def __init__(self, *, terminal: io.StringIO | None = None) -> None:
        self.now = 0.0
        self.narrator = Narrator("sqlite:///data/ledger.sqlite", terminal=terminal, clock=lambda: self.now)

    def tell(self, account: AccountOverview, *, ready: bool = True, after: float = 0.0) -> list[str]:
        self.now += after
        overview = Overview("1.2.3", (account,), series=12, charges=3456)
        with capture_logs() as logged:
            self.narrator.tell(Publication(1, AT, Exposition(), overview, ready))
        hidden = {"event", "log_level"}
        return [
            " ".join([line["event"], *(f"{key}={value}" for key, value in line.items() if key not in hidden)])
            for line in logged
        ]


def loading(share: float) -> AccountOverview:
    return replace(ACCOUNT, sources=(replace(UP, history_progress=share),))


def test_a_start_is_told_in_a_few_lines_once_each() -> None:
    story = Story()
    remarked = replace(ACCOUNT, remarks=("Compute machines are not read by this key.",))
    assert story.tell(remarked, after=8.25) == [
        "ledger place=data/ledger.sqlite charges=3456 series=12",
        "polling account=studio sources=models",
        "not covered account=studio what=Compute machines are not read by this key.",
        "history loaded charges=3456 month_to_date=$80.00",
        "ready seconds=8.2",
    ]
    assert story.tell(remarked) == []
    more = replace(ACCOUNT, sources=(UP, replace(UP, name="serverless")))
    assert story.tell(more) == ["polling account=studio sources=models, serverless"]


def test_a_month_that_is_not_all_known_has_no_amount() -> None:
    short = replace(ACCOUNT, month_to_date=None, gaps={"month_to_date": Gap("short", 0.2, AT, AT)})
    assert "history loaded charges=3456 month_to_date=known since 21 Nov" in Story().tell(short)


def test_where_nobody_watches_the_history_is_a_line_a_minute() -> None:
    story = Story()
    story.tell(loading(0.1), ready=False)
    assert story.tell(loading(0.2), ready=False, after=59) == []
    assert story.tell(loading(0.439), ready=False, after=1) == ["loading the history percent=43"]
    assert story.tell(loading(0.5), ready=False, after=59) == []
    assert story.tell(loading(1.0), after=1)[0].startswith("history loaded")


def test_where_a_person_watches_it_is_a_bar_that_gives_way_to_lines() -> None:
    terminal = io.StringIO()
    story = Story(terminal=terminal)
    story.tell(loading(0.5), ready=False)
    assert terminal.getvalue() == "\x1b[2Kloading the history [###############---------------] 50%\r"
    assert story.tell(loading(0.5), ready=False, after=120) == []
    story.tell(loading(1.0))
    assert terminal.getvalue().endswith("%\r\x1b[2K")


def test_what_needs_attention_is_told_when_it_begins_and_when_it_ends() -> None:
    story = Story()
    story.tell(ACCOUNT)
    low = replace(ACCOUNT, balance=90 * NANO)
    what = "The credit balance is $90.00, below $100.00. Top up: at its end fal serves nothing."
    assert story.tell(low) == [f"needs attention about=studio what={what}"]
    assert story.tell(replace(low, balance=80 * NANO)) == [], "the same is wrong, with another amount"
    assert story.tell(ACCOUNT) == ["no longer needs attention about=studio what=balance"]


def test_what_is_wrong_with_a_source_is_left_to_the_collectors_own_lines() -> None:
    story = Story()
    story.tell(ACCOUNT)
    assert story.tell(replace(ACCOUNT, sources=(replace(UP, state="failing", problem="answered 500"),))) == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:////data/ledger.sqlite", "/data/ledger.sqlite"),
        ("postgresql://me:secret@db.example:5433/fal?sslmode=require", "postgresql://db.example:5433/fal"),
        ("postgresql://me:secret@a:5432,b:5433/fal?target_session_attrs=read-write", "postgresql://a:5432,b:5433/fal"),
        ("postgresql://[::1", "postgresql://[::1"),
        ("postgresql:///fal?host=/run/postgresql", "postgresql:///fal"),
    ],
)
def test_a_ledger_is_told_without_user_and_password(url: str, place: str) -> None:
    assert place_of(url) == place
