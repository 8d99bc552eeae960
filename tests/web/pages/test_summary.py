from dataclasses import replace
from datetime import UTC, datetime

import pytest
from web.pages.conftest import AT, MONTH, OUTLOOK, OVERVIEW, outline

from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.forecasting.what_if import Setting, WhatIf
from exporter.overview import AccountOverview, Gap, IdleApp, IdleMonth, Observations, Overview, SourceOverview
from exporter.publication import Exposition, Publication
from exporter.web.pages.chart import colours
from exporter.web.pages.text import page_text


@pytest.mark.parametrize(
    "words",
    [
        "Month to date $8,913.45",
        "$15.00 forecast for the month $12.00 to $19.00, sum of the accounts' 80% bands",
        "Last month $11,205.00",
        "Today $402.12 since midnight, Europe/Berlin",
        "This hour $7.01 so far; charges often arrive late Last hour $12.48 last complete hour",
        "Credit balance $24,512.15 lasts 40 days (shortest account)",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


FROM, UNTIL = datetime(2026, 11, 17, 8, tzinfo=UTC), datetime(2026, 11, 21, 20, tzinfo=UTC)
GAPS = {
    "not yet": Gap("unread"),
    "loading, 43%": Gap("loading", 0.4399, FROM, UNTIL),
    "loading, 99%": Gap("loading", 0.9999, FROM, UNTIL),
    "known since 17 Nov": Gap("short", 0.2, FROM, UNTIL),
    "read until 2026-11-21 20:00 UTC": Gap("behind", 0.98, FROM, UNTIL),
}
FIGURES = {
    "month_to_date": "Month to date {}",
    "last_month": "Last month {}",
    "today": "Today {} since",
    "current_hour": "This hour {} so far",
    "last_hour": "Last hour {} last complete",
}


@pytest.mark.parametrize("words", GAPS)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_lacks_hours_says_what_it_waits_for(name: str, words: str) -> None:
    known = dict.fromkeys(FIGURES, 5 * NANO) | {name: None}
    up = SourceOverview("models", "", "up", AT, AT)
    account = AccountOverview(
        "a",
        (up,),
        gaps={name: GAPS[words]},
        current_hour=known["current_hour"],
        last_hour=known["last_hour"],
        today=known["today"],
        month_to_date=known["month_to_date"],
        last_month=known["last_month"],
    )
    text = outline(Overview("1", (account,)), outlook=OUTLOOK).text
    for each, place in FIGURES.items():
        assert place.format(words if each == name else "$5.00") in text


def test_a_sum_over_accounts_lacks_what_the_account_lacks_that_is_furthest_behind() -> None:
    up = SourceOverview("models", "", "up", AT, AT)
    first, second, third = (
        AccountOverview(name, (up,), month_to_date=month, gaps={"month_to_date": gap} if gap else {})
        for name, month, gap in (
            ("a", 5 * NANO, None),
            ("b", None, Gap("loading", 0.9, FROM, UNTIL)),
            ("c", None, Gap("loading", 0.5, FROM, UNTIL)),
        )
    )
    overview = Overview("1", (first, second, third), rankings=OVERVIEW.rankings)
    text = outline(overview, outlook=OUTLOOK).text
    assert "Month to date loading, 50% (c) No forecast yet" in text
    assert "Top models this month, loading, 50% (c)" in text
    assert "a $5.00" in text
    assert "b loading, 90%" in text
    assert "Month to date $5.00" in outline(replace(overview, accounts=(first,)), outlook=Outlook()).text


def test_a_sum_names_the_accounts_of_which_nothing_can_be_read() -> None:
    up = SourceOverview("models", "", "up", AT, AT)
    known = AccountOverview("a", (up,), month_to_date=5 * NANO, today=NANO, balance=7 * NANO, balance_at=AT)
    unread = AccountOverview("b", (), problems=("this key cannot read usage",))
    text = outline(Overview("1", (known, unread)), outlook=Outlook()).text
    for words in ("Month to date $5.00 without b", "Today $1.00 without b", "Credit balance $7.00 without b"):
        assert words in text
    more = replace(unread, name="c", balance=NANO)
    text = page_text(Publication(1, AT, Exposition(), Overview("1", (known, unread, more)), ready=True), AT, ready=True)
    assert "$5.00 without 2 accounts" in text
    assert "$8.00 without b" in text
    once_read = replace(more, month_to_date=2 * NANO)
    text = outline(Overview("1", (known, unread, once_read)), outlook=Outlook()).text
    assert "Month to date $7.00 without b" in text
    assert "Today $1.00 without 2 accounts" in text
    assert "without" not in outline(Overview("1", (known, replace(known, name="b"))), outlook=Outlook()).text


def test_without_the_forecast_of_an_account_there_is_none_of_them_together() -> None:
    known, _ = OUTLOOK.accounts
    text = outline(OVERVIEW, outlook=replace(OUTLOOK, accounts=(known, AccountOutlook("research", MONTH)))).text
    assert "No forecast yet" in text
    assert "forecast for the month" not in text


def test_an_account_that_spends_nothing_keeps_nobody_waiting_for_a_forecast() -> None:
    idle = AccountOverview("idle", (SourceOverview("models", "", "up", AT, AT),), month_to_date=0, last_month=0)
    known, _ = OUTLOOK.accounts
    ahead = replace(OUTLOOK, accounts=(known, AccountOutlook("idle", MONTH)))
    overview = Overview("1", (OVERVIEW.accounts[0], idle))
    assert "$12.00 forecast for the month" in outline(overview, outlook=ahead).text
    unknown = replace(idle, last_month=None)
    assert "No forecast yet" in outline(replace(overview, accounts=(OVERVIEW.accounts[0], unknown)), outlook=ahead).text
    alone = outline(Overview("1", (idle,)), outlook=Outlook((AccountOutlook("idle", MONTH),))).text
    assert "No forecast: nothing has been spent since the start of last month." in alone


@pytest.mark.parametrize(
    ("balance", "mark"), [(0, "figure low"), (-NANO, "figure low"), (1, "figure"), (None, "figure")]
)
def test_a_credit_that_has_run_out_stands_out(balance: int | None, mark: str) -> None:
    document = outline(Overview("1", (AccountOverview("a", (), balance=balance, balance_at=AT),)), outlook=Outlook())
    marks = [element["class"] for _, element in document.elements if (element.get("class") or "").startswith("figure")]
    assert marks == ["figures", "figure", "figure", "figure", mark]


def test_an_account_has_the_state_of_its_worst_source() -> None:
    up, waiting, failing = (SourceOverview("models", "", state) for state in ("up", "waiting", "failing"))
    accounts = (
        AccountOverview("a", (up, up), locked="Exhausted balance."),
        AccountOverview("b", (up, failing, waiting)),
        AccountOverview("c", (up, up)),
        AccountOverview("d", (up, waiting)),
        AccountOverview("e", ()),
    )
    text = outline(Overview("1", accounts), outlook=Outlook()).text.partition("Runway State")[2]
    states = [word for word in text.split() if word in {"Locked", "Failing", "Up", "Waiting"}]
    assert states[:5] == ["Locked", "Failing", "Up", "Waiting", "Waiting"]


def row_of(account: AccountOverview) -> str:
    """Return the row of an account in the table of two."""
    text = outline(Overview("1", (account, AccountOverview("zz", ()))), outlook=Outlook()).text
    return text.partition("Runway State")[2].partition(" zz")[0]


def test_an_account_in_trouble_is_not_up() -> None:
    well = AccountOverview("a", (SourceOverview("models", "", "up", AT, AT),), balance=900 * NANO, balance_at=AT)
    assert row_of(well).endswith("Up")
    assert row_of(replace(well, balance=5 * NANO)).endswith("Attention")


@pytest.mark.parametrize(
    ("spent", "before", "moved"),
    [
        (125, 100, "+25%"),
        (80, 100, "-20%"),
        (320, 100, "3.2 times"),
        (5, 0, "new"),
        (0, 0, "none"),
        (5, None, "unknown"),
        (None, 5, "unknown"),
    ],
)
def test_an_account_tells_by_how_much_it_moved(spent: int | None, before: int | None, moved: str) -> None:
    month, last = (None if amount is None else amount * NANO for amount in (spent, before))
    account = AccountOverview("a", (), month_to_date=month, last_month_to_date=last, month_compared=month)
    shown = f"${spent}.00" if spent is not None else "unknown"
    assert f"a {shown} {moved} none" in row_of(account)


def test_fifty_accounts_are_a_table_and_their_sources_are_folded_up() -> None:
    many = tuple(AccountOverview(f"team-{index}", (SourceOverview("models", "", "up", AT, AT),)) for index in range(50))
    document = outline(Overview("1", many), outlook=Outlook())
    assert "Nothing needs attention. Data through 2026-11-21 22:00 UTC." in document.text
    assert [attributes for tag, attributes in document.elements if tag == "details"] == [{}]
    assert document.text.count("team-49") == 2


@pytest.mark.parametrize(
    "words",
    [
        "Sun 8 Nov not fully loaded $3.00 $0.0010 $3.00",
        "Tue 10 Nov $3.00",
        "Fri 20 Nov $3.00",
        "Sat 21 Nov not fully loaded $3.00",
        "Daily spend by product 3 of 14 days not fully loaded",
    ],
)
def test_the_table_beside_it_has_every_figure(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_fals_own_products_always_have_their_colours_and_others_what_is_left() -> None:
    assert colours(("serverless",)) == {"serverless": 1}
    assert colours(("new", "serverless", "", "model_apis")) == {"": 3, "model_apis": 0, "new": 4, "serverless": 1}
    assert set(colours(tuple(map(str, range(20)))).values()) == {3, 4, 5, 6}


def test_what_idle_runners_cost_this_month_is_shown_where_runners_are_known() -> None:
    idle = Observations(idle_month=IdleMonth(412 * NANO, 1084 * NANO))
    text = outline(Overview("1", OVERVIEW.accounts, observations=idle)).text
    assert "Idle this month $412.00 38% of $1,084.00 for own apps" in text
    assert "Idle this month" not in outline(OVERVIEW).text
    begun = Observations(idle_month=IdleMonth(0, 1084 * NANO, unknown=1000 * NANO))
    text = outline(Overview("1", OVERVIEW.accounts, observations=begun)).text
    assert "Idle this month $0.00 0% of $1,084.00 for own apps; of $1,000.00 it is not known" in text


def test_apps_with_idle_runners_stand_with_what_a_lower_setting_would_have_saved() -> None:
    lower = WhatIf("a", "preview", "", Setting(600, 1), Setting(600, 0), 168, -NANO, 30 * NANO, 41 * NANO, 3, 1200)
    shorter = WhatIf("a", "relight", "", Setting(600, 0), Setting(150, 0), 168, NANO, 2 * NANO, 3 * NANO, 0, 0)
    apps = (
        IdleApp("a", "preview", "staging", 300 * NANO, 400 * NANO, 1, 600, lower),
        IdleApp("b", "relight", "", 12 * NANO, 100 * NANO, 0, 600, shorter),
        IdleApp("b", "unlisted", "", NANO, 9 * NANO),
        IdleApp("b", "lean", "", 5 * NANO, 8 * NANO, 0, 10, is_tried=True),
    )
    seen = replace(OVERVIEW, observations=Observations(idle_month=IdleMonth(313 * NANO, 509 * NANO, apps)))
    for text in (
        outline(seen).text,
        " ".join(page_text(Publication(1, AT, Exposition(), seen, ready=True), AT, ready=True).split()),
    ):
        assert "$300.00 75% of $400.00" in text
        assert (
            "min_concurrency 0: likely $30.00 less (-$1.00 to $41.00), up to 1,200 more cold starts, likely 3" in text
        )
        assert "keep_alive 150 s: likely $2.00 less ($1.00 to $3.00), no more cold starts" in text
        assert "no promise" in text
    text = outline(seen).text
    assert "preview (staging) a" in text
    # Nothing is said of apps that lower settings could not be tried on.
    assert "unlisted b $1.00 11% of $9.00 not known not known" in text
    assert (
        "lean b $5.00 63% of $8.00 min_concurrency 0, keep_alive 10 s none that would likely have saved anything"
        in text
    )
    assert "Idle runners" not in outline(OVERVIEW).text
