import pytest
from web.pages.conftest import AT, OVERVIEW, outline

from exporter.forecasting.state import Outlook
from exporter.publication import AccountOverview, Overview, SourceOverview


@pytest.mark.parametrize(
    "words",
    [
        "production · models chosen automatically Up 2026-11-21 22:00 UTC just now",
        "research · reporting Waiting not yet not yet not yet not yet",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


@pytest.mark.parametrize(("accounts", "unfolded"), [(4, True), (5, False)])
def test_those_of_few_accounts_are_shown_unasked(accounts: int, *, unfolded: bool) -> None:
    many = tuple(AccountOverview(f"a{it}", (SourceOverview("models", "", "up", AT, AT),)) for it in range(accounts))
    (details,) = [it for tag, it in outline(Overview("1", many), outlook=Outlook()).elements if tag == "details"]
    assert ("open" in details) is unfolded


def test_what_the_figures_lack_is_said_below_them_by_account() -> None:
    lacking = AccountOverview("research", (), remarks=("The charges of <compute> are missing.", "Another."))
    text = outline(Overview("1", (AccountOverview("a", ()), lacking)), outlook=Outlook()).text
    assert "What these figures do not include research The charges of <compute> are missing. research Another." in text
    assert "do not include" not in outline(Overview("1", (AccountOverview("a", ()),)), outlook=Outlook()).text
