from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from exporter.charges import NANO, Window
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Outlook
from exporter.overview import AccountOverview, Gap, Overview, SourceOverview
from exporter.publication import Exposition, Publication
from exporter.queries.forecasts import answer_accounts, answer_budgets
from exporter.queries.parameters import NoDataYetError, QuestionError

AT = datetime(2026, 11, 21, 14, tzinfo=UTC)
NOVEMBER = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


def published(outlook: Outlook) -> Publication:
    return Publication(1, AT, Exposition(), Overview("1.2.3"), ready=True, outlook=outlook)


ACCOUNTS = published(
    Outlook(
        accounts=(AccountOutlook("studio", NOVEMBER), AccountOutlook("research", NOVEMBER)),
        budgets=(BudgetOutlook("video", "month", NOVEMBER, 5 * NANO, {}),),
    )
)


def test_accounts_are_told_as_published_and_filtered() -> None:
    assert [account.account for account in answer_accounts(ACCOUNTS, {}).accounts] == ["studio", "research"]
    assert [account.account for account in answer_accounts(ACCOUNTS, {"account": "research"}).accounts] == ["research"]
    assert answer_accounts(ACCOUNTS, {}).as_of == AT


def test_budgets_are_told_and_there_need_be_none() -> None:
    assert [budget.budget for budget in answer_budgets(ACCOUNTS, {"budget": "video"}).budgets] == ["video"]
    assert answer_budgets(published(Outlook()), {}).budgets == ()


def test_sources_and_accounts_that_were_never_read_are_named_beside_forecasts_and_budgets() -> None:
    read, unread = SourceOverview("models", "", "up", AT, AT), SourceOverview("serverless", "", "failing")
    overview = Overview("1", (AccountOverview("studio", (read, unread)), AccountOverview("research", ())))
    publication = replace(ACCOUNTS, overview=overview)
    both = ("Not read yet: serverless of studio, usage of research.",)
    assert answer_budgets(publication, {}).notes == answer_accounts(publication, {}).notes == both
    assert answer_accounts(publication, {"account": "studio"}).notes == ("Not read yet: serverless of studio.",)
    assert answer_budgets(replace(publication, outlook=Outlook()), {}).notes == (), "there is nothing to lack it"
    assert answer_accounts(ACCOUNTS, {}).notes == ()


def test_hours_and_rows_that_are_missing_are_named_beside_forecasts_and_budgets() -> None:
    """A budget goes on telling its spend while fal is away, so that the answer has to say what that lacks."""
    gap = Gap("behind", 0, NOVEMBER.start, (AT - timedelta(hours=5)).astimezone(ZoneInfo("Europe/Berlin")))
    behind = AccountOverview("studio", (SourceOverview("models", "", "failing", AT, AT),), gaps={"current_hour": gap})
    odd = SourceOverview("models", "", "partial", AT, AT, problem="2 rows cannot be read.")
    loading = AccountOverview("new", (SourceOverview("models", "", "up", AT, AT),), gaps={"last_month": Gap("loading")})
    publication = replace(ACCOUNTS, overview=Overview("1", (behind, AccountOverview("research", (odd,)), loading)))
    sentences = (
        "studio has been read until 2026-11-21T09:00Z; what was charged later is missing.",
        "models of research: 2 rows cannot be read.",
    )
    assert answer_budgets(publication, {}).notes == answer_accounts(publication, {}).notes == sentences
    assert answer_accounts(publication, {"account": "research"}).notes == sentences[1:]


def test_what_is_not_known_is_told_with_what_is() -> None:
    with pytest.raises(QuestionError, match="accepted are research, studio"):
        answer_accounts(ACCOUNTS, {"account": "nobody"})
    with pytest.raises(QuestionError, match="accepted are video"):
        answer_budgets(ACCOUNTS, {"budget": "nothing"})
    with pytest.raises(QuestionError, match="acount is not a parameter; did you mean account"):
        answer_accounts(ACCOUNTS, {"acount": "studio"})


def test_before_the_first_publication_there_is_no_answer() -> None:
    for publication in (None, published(Outlook())):
        with pytest.raises(NoDataYetError):
            answer_accounts(publication, {})
    with pytest.raises(NoDataYetError):
        answer_budgets(None, {})
