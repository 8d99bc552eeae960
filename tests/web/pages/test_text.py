from dataclasses import replace
from datetime import timedelta

import pytest
from web.pages.conftest import AT, OUTLOOK, OVERVIEW, outline

from exporter.charges import HOUR, NANO, Window
from exporter.forecasting.changes import Move, Moves
from exporter.forecasting.state import BudgetOutlook, Outlook
from exporter.overview import (
    AccountOverview,
    Gap,
    MovedBy,
    NewName,
    Observations,
    Overview,
    ReplicasOverview,
    SourceOverview,
)
from exporter.publication import Exposition, Publication
from exporter.web.pages.text import page_text


def text(overview: Overview = OVERVIEW) -> str:
    return page_text(Publication(1, AT, Exposition(), overview, ready=True, outlook=OUTLOOK), AT, ready=True)


@pytest.mark.parametrize(
    "line",
    [
        "fal-exporter 1.2.3: ready, as of 2026-11-21 22:00:00 UTC",
        "This is a demo.",
        "! research: Locked by fal: Exhausted balance.",
        "* Budget burst: Exceeded by $2.00: $12.00 of $10.00. Stop what can wait, or raise the limit.",
        "Month to date        $8,913.45",
        "Forecast                $15.00  $12.00 to $19.00, sum of the accounts' 80% bands",
        "Last month          $11,205.00",
        "This hour                $7.01  so far; charges often arrive late",
        "Top models, this month",
        "          $60.00  60.0%  fal-ai/veo3",
        "           $9.00   9.0%  7 more",
    ],
)
def test_it_has_the_figures_of_the_page(line: str) -> None:
    assert line in text().splitlines()


@pytest.mark.parametrize(
    ("replicas", "line"),
    [
        (ReplicasOverview("a", "a", 3), "Replica a collects; 3 alive."),
        (ReplicasOverview("a", "b", 2), "Replica a serves what b collects; 2 alive."),
        (
            ReplicasOverview("a", "b", 2, owned=1, shares=(("a", 1), ("b", 2))),
            "Replica a serves what b collects; 2 alive. Accounts that each asks fal for: a 1, b 2.",
        ),
        (
            ReplicasOverview("a", "a", 1, owned=3, shares=(("a", 3),)),
            "Replica a collects; 1 alive. Accounts that each asks fal for: a 3.",
        ),
        (ReplicasOverview("a"), "Replica a serves what was collected last; none collects now."),
    ],
    ids=["leads", "follows", "follows and asks", "leads and asks", "is alone"],
)
def test_it_says_which_replica_collects(replicas: ReplicasOverview, line: str) -> None:
    overview = replace(OVERVIEW, replicas=replicas)
    assert text(overview).splitlines()[1] == line
    assert line in outline(overview).text
    assert "Replica" not in text()


def test_a_budget_is_a_bar() -> None:
    bars = {line.split()[1]: line.count("#") for line in text().splitlines() if line.startswith("Budget ")}
    assert bars == {"everything": 29, "burst": 30, "unknown": 0}


def test_accounts_are_a_table_with_the_one_in_trouble_first() -> None:
    table = text().partition("Account    State")[2].splitlines()[1:]
    assert [line.split()[:2] for line in table] == [["research", "Locked"], ["production", "Failing"]]


def test_nothing_is_said_to_be_well_while_the_history_is_loaded() -> None:
    source = SourceOverview("models", "", "up", AT, AT, history_progress=0.14)
    gaps = {"month_to_date": Gap("loading", 0.14, AT - timedelta(days=4), AT)}
    account = AccountOverview("a", (source,), gaps=gaps)
    new = Observations(new_names=(NewName("a", "a-model", 60 * NANO, AT),))
    for overview in (Overview("1", accounts=(account,)), Overview("1", accounts=(account,), observations=new)):
        told = page_text(Publication(1, AT, Exposition(), overview, ready=True, outlook=Outlook()), AT, ready=True)
        assert "\nLoading the history: 14%. Everything since Tue 17 Nov is known.\n" in told
        assert "Nothing needs attention" not in told
        assert "Nothing needs attention" not in outline(overview, outlook=Outlook()).text
    loaded = replace(account, sources=(replace(source, history_progress=1.0),), gaps={})
    told = page_text(Publication(1, AT, Exposition(), Overview("1", accounts=(loaded,)), ready=True), AT, ready=True)
    assert "Nothing needs attention" in told


def test_when_all_is_well_it_says_so_and_before_the_first_figures_too() -> None:
    well = AccountOverview("a", (SourceOverview("models", "", "up", AT, AT),))
    told = page_text(Publication(1, AT, Exposition(), Overview("1", (well,)), ready=True), AT, ready=True)
    assert "Nothing needs attention. Data through 2026-11-21 22:00 UTC." in told
    waiting = replace(well, sources=(replace(well.sources[0], data_through=None),))
    told = page_text(Publication(1, AT, Exposition(), Overview("1", (waiting,)), ready=False), AT, ready=False)
    assert "The first data are being loaded." in told
    assert page_text(None, AT, ready=False) == "fal-exporter: starting; figures appear here in a moment.\n"


def test_nothing_is_simply_well_while_budgets_cannot_be_judged() -> None:
    well = Overview("1", (AccountOverview("a", (SourceOverview("models", "", "up", AT, AT),)),))
    known, unknown, other = (
        BudgetOutlook(name, "month", Window(AT - HOUR, AT + HOUR), 10 * NANO, {}, spend=spend)
        for name, spend in (("known", 0), ("unknown", None), ("other", None))
    )
    for budgets, of in (((known, unknown), "budget unknown"), ((unknown, known, other), "2 budgets")):
        verdict = (
            f"Nothing needs attention so far. What has been spent of {of} is not known yet. "
            "Data through 2026-11-21 22:00 UTC."
        )
        assert verdict in page_text(
            Publication(1, AT, Exposition(), well, ready=True, outlook=Outlook(budgets=budgets)), AT, ready=True
        )
        document = outline(well, outlook=Outlook(budgets=budgets))
        assert verdict in document.text
        assert "well" not in [attributes.get("class") for _, attributes in document.elements]
    judged = outline(well, outlook=Outlook(budgets=(known,)))
    assert "Nothing needs attention. Data through" in judged.text


def test_who_moved_is_told_with_what_is_not_compared() -> None:
    moves = Moves(
        (Move("acme", 2 * NANO, 40 * NANO), Move("untagged", 9 * NANO, 4 * NANO)), 3, Move("", NANO, 2 * NANO)
    )
    by_tag = MovedBy("tag:customer", moves, AT, ("b: its spend is not read by tags.",))
    by_key = MovedBy("api_key", Moves((Move("", 0, NANO), Move("ci", 3 * NANO, NANO))))
    overview = replace(OVERVIEW, moved=(by_tag, by_key))
    told = text(overview)
    assert "What changed, by customer, through 2026-11-21 22:00 UTC\n" in told
    for line in (
        "         +$38.00  acme  $2.00 to $40.00",
        "          -$5.00  untagged  $9.00 to $4.00",
        "          +$1.00  3 more  $1.00 to $2.00",
        "b: its spend is not read by tags.",
        "          +$1.00  without key  $0.00 to $1.00",
    ):
        assert line in told.splitlines()
    page = outline(overview).text
    assert "By customer through 2026-11-21 22:00 UTC acme $2.00 to $40.00 +$38.00 untagged" in page
    assert "3 more $1.00 to $2.00 +$1.00 b: its spend is not read by tags." in page
    assert "By API key without key $0.00 to $1.00 +$1.00 ci" in page
    none = replace(overview, moved=(MovedBy("tag:", Moves(), None, ("a: 3 of 9 hours are missing.",)),))
    assert "By tags a: 3 of 9 hours are missing." in outline(none).text


def test_where_the_last_month_is_not_whole_it_is_said_that_nothing_is_compared() -> None:
    account = AccountOverview("a", (), gaps={"last_month": Gap("short", 0.5, AT - timedelta(days=40), AT)})
    overview = Overview("1", accounts=(account,))
    sentence = "Not compared: last month is known since 12 Oct."
    assert sentence in text(overview).splitlines()
    assert sentence in outline(overview).text


def test_of_which_accounts_the_last_month_is_not_compared_is_said_beside_what_moved_of_the_others() -> None:
    """The sum of what changed is that of the others alone."""
    known = AccountOverview("a", (), last_month_to_date=5 * NANO)
    gaps = (Gap("loading", 0.5, AT - timedelta(days=9), AT), Gap("unread"))
    lacking = [AccountOverview(name, (), gaps={"last_month": gap}) for name, gap in zip("bc", gaps, strict=True)]
    for overview, sentence in (
        (Overview("1", (known, lacking[0])), "Without b: last month is loading, 50%."),
        (Overview("1", (known, *lacking)), "Without b, c: last month has not been read yet."),
    ):
        assert sentence in text(overview).splitlines()
        assert sentence in outline(overview).text
    assert "Without" not in text(Overview("1", (known,))) + outline(Overview("1", (known,))).text
