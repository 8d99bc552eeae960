from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web.pages.conftest import AT, DAYS, MONTH, OUTLOOK, OVERVIEW, Outline, outline

from exporter.charges import NANO
from exporter.forecasting.drivers import Parts
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast, Outlook
from exporter.overview import (
    AccountOverview,
    Billed,
    DailySpend,
    DearestRequest,
    Gap,
    Mover,
    Overview,
    Ranking,
    RecentRequests,
    RequestsOfModel,
    SourceOverview,
)
from exporter.publication import Exposition, Publication
from exporter.web.pages import LandingPage, landing
from exporter.web.pages.summary import month


@pytest.mark.parametrize(
    "words",
    [
        "Top models this month fal-ai/veo3 $60.00 60.0%",
        "7 more $9.00 9.0%",
        "GPU classes this month H100 $0.0100 <0.1%",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text


@pytest.mark.parametrize(
    "words",
    [
        "production · models chosen automatically Up 2026-11-21 22:00 UTC just now",
        "research · reporting Waiting not yet not yet not yet not yet",
    ],
)
def test_it_shows_of_sources(words: str) -> None:
    assert words in outline(OVERVIEW).text


@pytest.mark.parametrize(("accounts", "unfolded"), [(4, True), (5, False)])
def test_those_of_few_accounts_are_shown_unasked(accounts: int, *, unfolded: bool) -> None:
    many = tuple(
        AccountOverview(f"a{index}", (SourceOverview("models", "", "up", AT, AT),)) for index in range(accounts)
    )
    (details,) = [
        element for tag, element in outline(Overview("1", many), outlook=Outlook()).elements if tag == "details"
    ]
    assert ("open" in details) is unfolded


def test_what_the_figures_lack_is_said_below_them_by_account() -> None:
    lacking = AccountOverview("research", (), remarks=("The charges of <compute> are missing.", "Another."))
    text = outline(Overview("1", (AccountOverview("a", ()), lacking)), outlook=Outlook()).text
    assert "What these figures do not include research The charges of <compute> are missing. research Another." in text
    assert "do not include" not in outline(Overview("1", (AccountOverview("a", ()),)), outlook=Outlook()).text


@pytest.mark.parametrize(
    "words",
    [
        "$100.00 of $100.00, 99.9% forecast $120.00 ($110.00 to $130.00)",
        "not known yet, of $10.00 no forecast yet",
    ],
)
def test_it_shows_of_budgets(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_a_budget_near_or_over_its_limit_stands_out() -> None:
    items = [element["class"] for tag, element in outline(OVERVIEW).elements if tag == "li" and "class" in element]
    of_alerts = ("bad", "waiting", "noted")
    assert [item for item in items if item not in of_alerts][:3] == ["over", "near", ""]


@pytest.mark.parametrize(
    "words",
    [
        "Ready version 1.2.3 up 0 s",
        "This is a demo.",
        "as of 2026-11-21 22:00 UTC Today",
        "2 accounts · 1,389 series · 1,204,331 hourly charges in the ledger · as of 2026-11-21 22:00 UTC",
        "/metrics REST MCP: port 9090, /mcp /-/healthy /-/ready Documentation",
    ],
)
def test_it_shows_of_page(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_before_the_first_publication_it_says_so_and_looks_again_by_itself() -> None:
    document = outline(None, ready=False)
    assert "Starting" in document.text
    assert "The first figures are being prepared" in document.text
    assert ("meta", {"http-equiv": "refresh", "content": "2"}) in document.elements


def test_what_is_not_known_is_said_not_to_be() -> None:
    text = outline(Overview("1", (AccountOverview("a", ()),)), outlook=Outlook()).text
    assert "Credit balance unknown not known yet" in text
    assert "Today unknown" in text
    assert "No spend is known for these days." in text
    assert "Top models" not in text
    assert "Budgets" not in text
    assert "1 account ·" in text


def test_uptime_is_counted_from_the_start() -> None:
    instants = iter((AT, AT + timedelta(hours=3)))
    page = LandingPage(lambda: next(instants))
    assert "up 3 h" in page.html(None, ready=False)


def test_nothing_is_loaded_from_outside_and_no_script_runs() -> None:
    elements = outline(OVERVIEW).elements
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in elements}
    (form,) = [attributes for tag, attributes in elements if tag == "form"]
    assert (form["method"], form["action"]) == ("get", "./#accounts")
    (icon,) = [attributes["href"] for tag, attributes in elements if tag == "link"]
    assert icon is not None
    assert icon.startswith("data:image/svg+xml,")
    assert not any(name.startswith("on") or name == "style" for _, attributes in elements for name in attributes)


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


def test_threads_that_ask_at_once_share_one_overview(monkeypatch: pytest.MonkeyPatch) -> None:
    publication = Publication(1, AT, Exposition(), OVERVIEW, ready=True, outlook=OUTLOOK)
    rendering, second_asks = Event(), Event()
    rendered = []

    def overview(*_: object) -> str:
        rendering.set()
        second_asks.wait(10)
        rendered.append("<p>overview</p>")
        return rendered[-1]

    monkeypatch.setattr(landing, "_overview", overview)
    page = LandingPage(lambda: AT)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(page.html, publication, ready=True)]
        assert rendering.wait(10)
        answers.append(pool.submit(page.html, publication, ready=True))
        second_asks.set()
        assert all("<p>overview</p>" in answer.result(10) for answer in answers)
    assert len(rendered) == 1


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
        0 <= float(value.rstrip("%")) <= 100
        for shape in shapes
        for value in (shape.get("width"), shape.get("height"), shape.get("y"))
        if value
    )


def test_an_overview_is_rendered_once_for_a_publication_and_minute() -> None:
    publication = Publication(1, AT, Exposition(), OVERVIEW, ready=True, outlook=OUTLOOK)
    now = AT
    page = LandingPage(lambda: now)
    page.html(publication, ready=True)
    first = page._rendered
    page.html(publication, ready=True, refresh="5")
    assert page._rendered is first
    now += timedelta(minutes=1)
    assert "1 minute ago" in page.html(publication, ready=True)


def search(text: str, accounts: int = 12) -> Outline:
    overview = Overview("1", tuple(AccountOverview(f"team-{number}", ()) for number in range(accounts)))
    publication = Publication(1, AT, Exposition(), overview, ready=True)
    document = Outline()
    document.feed(LandingPage(lambda: AT).html(publication, ready=True, search=text))
    return document


def test_some_of_many_accounts_are_found_by_a_part_of_their_name() -> None:
    text = search("TEAM-1").text
    assert '3 with "TEAM-1" in the name. Show all' in text
    assert [f"team-{number}" in text.split() for number in (1, 2, 10)] == [True, False, True]
    assert "12 accounts" in text
    assert '0 with "nobody" in the name.' in search("nobody").text
    (field,) = [attributes for tag, attributes in search('a"b').elements if tag == "input"]
    assert field["value"] == 'a"b'


def test_an_account_in_trouble_comes_before_one_that_costs_more() -> None:
    accounts = (
        AccountOverview("dear", (), month_to_date=9 * NANO),
        AccountOverview("odd", (), month_to_date=NANO, problems=("odd",)),
        AccountOverview("locked", (), locked="no credit"),
    )
    text = outline(Overview("1", accounts), outlook=Outlook()).text.partition("Accounts")[2]
    assert text.index("locked") < text.index("odd") < text.index("dear")


def test_every_address_is_relative_so_that_a_proxy_may_serve_the_page_under_a_prefix() -> None:
    for refresh in ("", "5"):
        elements = outline(OVERVIEW, refresh=refresh).elements
        addresses = [attributes.get("href") or attributes.get("action") or "" for _, attributes in elements]
        assert len([*filter(None, addresses)]) > 5
        assert not [address for address in addresses if address.startswith("/")]


def test_bars_of_all_rankings_have_the_same_scale_which_is_told() -> None:
    document = outline(OVERVIEW)
    assert "bars can be compared across the lists, a full one is $60.00" in document.text
    assert document.text.count("H100 $0.0100 <0.1%") == 1


@pytest.mark.parametrize(("low", "high", "named"), [(11, 19, True), (14, 16, False)])
def test_a_band_that_is_too_narrow_to_be_seen_is_not_in_the_key(low: int, high: int, *, named: bool) -> None:
    limit = 100 * NANO
    forecast = Forecast(15 * NANO, low * NANO, high * NANO)
    budget = BudgetOutlook("b", "month", MONTH, limit, {}, spend=NANO, forecast=forecast)
    account = AccountOverview("a", (), month_to_date=NANO, last_month=limit)
    ahead = Outlook((AccountOutlook("a", MONTH, forecast=forecast),), (budget,))
    bands = [
        attributes
        for tag, attributes in outline(Overview("1", (account,)), outlook=ahead).elements
        if tag == "span" and attributes.get("class") == "of band"
    ]
    assert len(bands) == (2 if named else 0)


def test_a_month_is_compared_with_the_same_part_of_the_last_and_with_its_invoice() -> None:
    account = replace(
        OVERVIEW.accounts[0],
        # The first hour of today runs; it has no counterpart in the part that is compared.
        month_to_date=190 * NANO,
        last_month=200 * NANO,
        last_month_to_date=120 * NANO,
        month_compared=150 * NANO,
        bill=Billed("FAL-1", "open", 200 * NANO, AT, 0),
    )
    text = outline(Overview("1", (account,)), outlook=Outlook()).text
    assert "25% more than the same part of last month, $120.00" in text
    assert "Last month $200.00 equal to invoice FAL-1, open" in text
    bill = Billed("FAL-1", "open", 200 * NANO, AT, -5 * NANO)
    less = replace(account, month_to_date=100 * NANO, month_compared=60 * NANO, bill=bill)
    text = outline(Overview("1", (less,)), outlook=Outlook()).text
    assert "50% less than the same part of last month" in text
    assert "$5.00 less than invoice FAL-1" in text
    unbilled = replace(less, name="b", bill=None)
    assert "than invoice" not in outline(Overview("1", (less, unbilled)), outlook=Outlook()).text
    assert (
        "than invoice FAL-1" in outline(Overview("1", (less, replace(unbilled, last_month=0))), outlook=Outlook()).text
    )


@pytest.mark.parametrize(
    ("zone", "at", "billed"),
    [
        ("UTC", datetime(2026, 11, 1, 1, tzinfo=UTC), "equal to invoice FAL-1, open"),
        ("Europe/Berlin", datetime(2026, 11, 1, 1, tzinfo=UTC), "in UTC equal to invoice FAL-1, open"),
        # September has been invoiced, and October is the last month here.
        ("Asia/Tokyo", datetime(2026, 10, 31, 18, tzinfo=UTC), ""),
        # September is the last month here, and October has been invoiced.
        ("America/New_York", datetime(2026, 11, 1, 1, tzinfo=UTC), ""),
    ],
)
def test_an_invoice_is_of_a_month_of_utc_and_stands_beside_no_other(zone: str, at: datetime, billed: str) -> None:
    bill = Billed("FAL-1", "open", 200 * NANO, at, 0)
    account = replace(OVERVIEW.accounts[0], last_month=200 * NANO, bill=bill)
    overview = Overview("1", (account,), time_zone=zone)
    assert month(Publication(1, at, Exposition(), overview, ready=True)).billed == billed


def test_what_has_changed_is_listed_with_its_cause() -> None:
    movers = (
        Mover("a", "model_apis", "fal-ai/flux", 40 * NANO, "volume"),
        Mover("a", "serverless", "relight", -3 * NANO, "gone"),
    )
    causes = Parts(volume=30 * NANO, mix=10 * NANO, vanished=-3 * NANO)
    text = outline(replace(OVERVIEW, movers=movers, causes=causes)).text
    assert "all together +$37.00 volume +$30.00 mix of models +$10.00 no longer used -$3.00" in text
    assert "fal-ai/flux Model APIs, a +$40.00 volume" in text
    assert "relight Serverless, a -$3.00 no longer used" in text
    assert "all others +" not in text, "nothing else has moved"
    more = replace(OVERVIEW, movers=movers, causes=causes._replace(new=2 * NANO))
    assert "relight Serverless, a -$3.00 no longer used all others +$2.00" in outline(more).text
    little = outline(replace(OVERVIEW, movers=movers, causes=causes._replace(price=-4_000_000))).text
    assert "no longer used -$3.00 fal-ai/flux" in little, "a cause of less than half a cent is none"


def test_while_the_history_is_loaded_the_page_says_how_far_and_what_is_known() -> None:
    source = SourceOverview("models", "", "up", AT, AT, AT, 0.439)
    gap = Gap("loading", 0.4, AT - timedelta(days=4), AT)
    account = AccountOverview("a", (source,), gaps={"month_to_date": gap})
    text = outline(Overview("1", (account,)), outlook=Outlook()).text
    assert "Loading the history: 43%. Everything since Tue 17 Nov is known;" in text
    loaded = replace(account, sources=(replace(source, history_progress=1.0),), gaps={})
    assert "Loading the history" not in outline(Overview("1", (loaded,)), outlook=Outlook()).text


@pytest.mark.parametrize(
    ("low", "expected", "high", "verdict"),
    [
        (11, 12, 13, "will exceed the limit by $2.00"),
        (9, 11, 12, "will probably exceed the limit by $1.00"),
        (8, 10, 11, "may exceed the limit"),
        (8, 9, 10, "stays within the limit"),
    ],
)
def test_a_budget_says_whether_it_will_be_exceeded(low: int, expected: int, high: int, verdict: str) -> None:
    forecast = Forecast(expected * NANO, low * NANO, high * NANO)
    budget = BudgetOutlook("b", "month", MONTH, 10 * NANO, {}, spend=NANO, forecast=forecast)
    assert landing.budget_view(budget, AT).forecast.endswith(f"), {verdict}")


def test_requests_are_told_by_model_with_the_dearest_of_them() -> None:
    models = (
        RequestsOfModel("fal-ai/veo3", 12_345, 120 * NANO, 0.4, 3.2, 6.4),
        RequestsOfModel("fal-ai/whisper", 9, NANO // 1000, 0.00002, 0.0003, 0.0003),
    )
    rest = RequestsOfModel("", 7, NANO, 0.1, 0.2, 0.3)
    dearest = (
        DearestRequest("a", "id 1", "fal-ai/veo3", AT - timedelta(hours=3), 6_400_000_000),
        DearestRequest("b", "id-2", "fal-ai/veo3", AT - timedelta(hours=4), 6 * NANO),
    )
    recent = RecentRequests(AT - timedelta(hours=24), AT, models, 3, rest, dearest)
    page = outline(replace(OVERVIEW, requests=recent))
    assert "Requests 20 Nov 22:00 to 21 Nov 22:00 UTC" in page.text
    assert "fal-ai/veo3 12,345 $120.00 $0.40 $3.20 $6.40" in page.text
    assert "fal-ai/whisper 9 $0.0010 <$0.0001 $0.0003 $0.0003" in page.text
    assert "3 more 7 $1.00 $0.10 $0.20 $0.30" in page.text
    assert "The 2 dearest requests" in page.text
    assert "id 1 a $6.40 fal-ai/veo3" in page.text
    html = LandingPage(lambda: AT).html(
        Publication(1, AT, Exposition(), replace(OVERVIEW, requests=recent), ready=True), ready=True
    )
    assert 'href="v1/billing/requests/id%201"' in html
    assert "dearest requests" not in outline(OVERVIEW).text


def test_a_ranking_by_a_tag_is_called_by_its_key() -> None:
    ranking = Ranking("tag:customer", (("acme", 60 * NANO),), 0, 0, 60 * NANO)
    assert "By customer this month acme $60.00 100.0%" in outline(replace(OVERVIEW, rankings=(ranking,))).text


def test_a_ranking_by_a_tag_says_what_is_not_read_by_tags() -> None:
    ranking = Ranking("tag:customer", (("acme", 60 * NANO),), 0, 0, 80 * NANO, 20 * NANO, AT)
    text = outline(replace(OVERVIEW, rankings=(ranking,))).text
    assert (
        "By customer this month; after 2026-11-21 22:00 UTC untagged so far acme $60.00 75.0% "
        "not read by tags $20.00 25.0%"
    ) in text
