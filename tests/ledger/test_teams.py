from datetime import timedelta

from ledger.conftest import Clock, OpenLedger

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Team, Window, hour_of
from exporter.ledger import Ledger
from exporter.samples import Pages

LABELS = ("account", "team", "product", "model")
TEAMS = [Team("prod", "acme", "Acme"), Team("prod", "acme-ml", "Acme ML"), Team("prod", "acme-ops", "")]


def spend(ledger: Ledger, clock: Clock, **costs: int) -> None:
    hour = hour_of(clock.now)
    charges = [
        Charge(
            hour,
            Dimensions("prod", team=team.replace("_", "-"), product="model_apis", model="fal-ai/flux", unit="image"),
            Amounts(NANO, 0, cost * NANO, 0, cost * NANO),
        )
        for team, cost in costs.items()
    ]
    ledger.restate("prod", "organization", Window(hour, hour + HOUR), charges, at=clock.now)


def opened(open_ledger: OpenLedger, **rules: object) -> Ledger:
    ledger = open_ledger(**({"labels": LABELS, "birth_hold": timedelta(0)} | rules))
    ledger.activate({"prod": ("organization",)})
    return ledger


def shown(pages: Pages) -> dict[tuple[str, ...], int]:
    return {sample.labels[1:]: int(sample.value) // NANO for page in pages for sample in page.samples}


def test_a_team_without_spend_is_at_zero_and_stays_when_it_spends(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = opened(open_ledger)
    clock.forward(hours=1)
    spend(ledger, clock, acme=5)
    ledger.names.record_teams("prod", TEAMS)
    idle = {("acme-ml", "", ""): 0, ("acme-ops", "", ""): 0}
    charged = {("acme", "model_apis", "fal-ai/flux"): 5}
    assert shown(ledger.view().known_of_month) == charged | idle
    ledger.scraped(ledger.view().sequence)
    spend(ledger, clock, acme=5, acme_ml=3)
    ledger.scraped(ledger.view().sequence)
    charged["acme-ml", "model_apis", "fal-ai/flux"] = 3
    assert shown(ledger.view().known_of_month) == charged | idle
    assert shown(ledger.view().spend) == charged | idle
    ledger.names.record_teams("prod", TEAMS)
    assert shown(ledger.view().known_of_month) == charged | idle
    ledger.close()

    again = opened(open_ledger)
    assert shown(again.view().known_of_month) == charged | idle
    assert shown(again.view().spend) == charged | idle
    assert [team.username for team in again.view().teams] == ["acme", "acme-ml", "acme-ops"]
    # The next day the gauges of today begin at 0, and the teams are there.
    clock.forward(days=1)
    assert shown(again.view().known_of_month) == charged | idle


def test_a_team_that_spent_long_ago_is_at_zero_too(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = opened(open_ledger)
    clock.forward(hours=1)
    spend(ledger, clock, acme=5, acme_ml=3)
    clock.forward(days=70)
    spend(ledger, clock, acme=7)
    ledger.view()
    ledger.names.record_teams("prod", TEAMS)
    present = shown(ledger.view().known_of_month)
    assert present == {("acme", "model_apis", "fal-ai/flux"): 7, ("acme-ml", "", ""): 0, ("acme-ops", "", ""): 0}


def test_teams_have_no_series_where_they_are_no_label_or_the_history_is_not_loaded(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = opened(open_ledger, labels=("account", "model"))
    ledger.names.record_teams("prod", TEAMS)
    assert shown(ledger.view().spend) == {}
    assert len(ledger.view().teams) == 3
    ledger.close()
    again = opened(open_ledger)
    again.names.record_teams("prod", TEAMS[:2], show_idle=False)
    assert shown(again.view().known_of_month) == {}
    assert len(again.view().teams) == 2
    again.activate({"other": ("organization",)})
    assert again.view().teams == ()
    del clock


def test_teams_beyond_the_limit_of_series_and_its_reserve_are_left_out(open_ledger: OpenLedger) -> None:
    ledger = opened(open_ledger, max_series=1)
    ledger.names.record_teams("prod", [Team("prod", f"team-{number:02}", "") for number in range(30)])
    present = shown(ledger.view().known_of_month)
    assert sorted(present) == [(f"team-{number:02}", "", "") for number in range(1 + 16)]
