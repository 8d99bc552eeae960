from dataclasses import replace

import pytest
from web.pages.conftest import AT, MONTH, OUTLOOK, OVERVIEW, outline

from exporter.charges import NANO
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.publication import AccountOverview, Overview, SourceOverview


@pytest.mark.parametrize(
    "words",
    [
        "Month to date $8,913.45",
        "$15.00 forecast for the month $12.00 to $19.00, the accounts' 80 % bands added up",
        "Last month: $11,205.00",
        "Today $402.12 since midnight, Europe/Berlin",
        "This hour $7.01 so far; fal is often late Last hour $12.48 last complete hour",
        "Credit balance $24,512.15 lasts 40 d where it is shortest",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_without_the_forecast_of_an_account_there_is_none_of_them_together() -> None:
    known, _ = OUTLOOK.accounts
    text = outline(OVERVIEW, outlook=replace(OUTLOOK, accounts=(known, AccountOutlook("research", MONTH)))).text
    assert "Forecast: not yet" in text
    assert "forecast for the month" not in text


@pytest.mark.parametrize(
    ("balance", "mark"), [(0, "figure low"), (-NANO, "figure low"), (1, "figure"), (None, "figure")]
)
def test_a_credit_that_has_run_out_stands_out(balance: int | None, mark: str) -> None:
    document = outline(Overview("1", (AccountOverview("a", (), balance=balance, balance_at=AT),)), outlook=Outlook())
    marks = [it["class"] for _, it in document.elements if (it.get("class") or "").startswith("figure")]
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


def test_fifty_accounts_are_a_table_and_their_sources_are_folded_up() -> None:
    many = tuple(AccountOverview(f"team-{it}", (SourceOverview("models", "", "up", AT, AT),)) for it in range(50))
    document = outline(Overview("1", many), outlook=Outlook())
    assert "Nothing needs attention. The data reach to 2026-11-21 22:00 UTC." in document.text
    assert [attributes for tag, attributes in document.elements if tag == "details"] == [{}]
    assert document.text.count("team-49") == 2
