from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from exporter.simulator import (
    GlitchedJob,
    PlantedLateness,
    PlantedRelabelling,
    PlantedRevision,
    PlantedSpend,
    Simulator,
)
from exporter.simulator.world.exact import HOUR, NANO, microseconds

START, END = "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"
TEN = microseconds(datetime(2026, 11, 20, 10, tzinfo=UTC))
DAY_LATER = TEN + 24 * HOUR
Truth = Callable[..., Decimal]


def test_a_glitched_job_costs_exactly_what_is_planted(simulator: Simulator, truth: Truth) -> None:
    before = truth(START, END)
    simulator.faults.add(PlantedSpend(TEN // HOUR, GlitchedJob().line(40_500 * NANO)))
    assert truth(START, END) - before == 40_500
    simulator.faults.clear()
    assert truth(START, END) == before


def test_planted_spend_in_the_running_hour_shows_at_once(simulator: Simulator, truth: Truth) -> None:
    start, end = "2026-11-21T14:00:00Z", "2026-11-21T15:00:00Z"
    before = truth(start, end)
    simulator.faults.add(PlantedSpend(microseconds(simulator.clock()) // HOUR, GlitchedJob().line(7 * NANO)))
    assert truth(start, end) - before == 7


def test_planted_spend_can_wait_for_an_instant(simulator: Simulator) -> None:
    visible_from = microseconds(simulator.clock()) + HOUR
    simulator.faults.add(PlantedSpend(TEN // HOUR, GlitchedJob().line(NANO), visible_from))

    def glitched(**parameters: str) -> list[object]:
        charges = simulator.statement(start=START, end=END, **parameters)["charges"]
        return [row["cost"] for row in charges if row["model"] == "fal-ai/glitched-job"]

    assert glitched() == []
    assert glitched(final="true") == ["1"]
    simulator.clock.now += timedelta(hours=1)
    assert glitched() == ["1"]


@pytest.mark.parametrize("percent", [0, 50, 130])
def test_an_hour_is_revised_from_the_instant_on(simulator: Simulator, percent: int) -> None:
    simulator.clock.now = datetime(2026, 11, 25, 9, tzinfo=UTC)
    compute = {"group_by": "product"}
    at = microseconds(simulator.clock()) + HOUR
    before = requests(simulator, compute)
    simulator.faults.add(PlantedRevision(TEN // HOUR, percent, at, product="compute"))
    assert requests(simulator, compute) == before
    simulator.clock.now += timedelta(hours=1)
    after = requests(simulator, compute)
    assert after["serverless"] == before["serverless"]
    assert abs(after.get("compute", 0) - before["compute"] * percent / 100) < 3
    assert (after.get("compute", 0) > before["compute"]) == (percent > 100)


def test_an_hour_is_late_until_the_instant(simulator: Simulator, truth: Truth) -> None:
    simulator.clock.now = datetime(2026, 11, 25, 9, tzinfo=UTC)
    whole = truth(START, END)
    until = microseconds(simulator.clock()) + HOUR
    simulator.faults.add(PlantedLateness(TEN // HOUR, until))
    assert truth(START, END) == 0
    assert truth(START, END, final="true") == whole
    simulator.clock.now += timedelta(hours=1)
    assert truth(START, END) == whole


@pytest.mark.parametrize("late", [0, 1])
def test_charges_move_to_other_labels_while_the_sum_stays(simulator: Simulator, truth: Truth, late: int) -> None:
    simulator.clock.now = datetime(2026, 11, 25, 9, tzinfo=UTC)
    model = "fal-ai/flux/dev"
    dimensions = "model,team,api_key"
    whole, before = truth(START, END), charges(simulator, dimensions)
    at = late * (microseconds(simulator.clock()) + HOUR)
    labels = (("model", "fal-ai/flux/dev-2"), ("api_key", ""))
    simulator.faults.add(PlantedRelabelling(TEN // HOUR, labels, at, model=model))
    if late:
        assert charges(simulator, dimensions) == before
        simulator.clock.now += timedelta(hours=1)
    after = charges(simulator, dimensions)
    assert truth(START, END) == whole
    moved = {labels: cost for labels, cost in before.items() if labels[0] == model}
    assert len(moved) > 1
    assert {labels: cost for labels, cost in after.items() if labels[0] != "fal-ai/flux/dev-2"} == {
        labels: cost for labels, cost in before.items() if labels not in moved
    }
    assert all(labels[2] == "" for labels in after if labels[0] == "fal-ai/flux/dev-2")
    assert sum(cost for labels, cost in after.items() if labels[0] == "fal-ai/flux/dev-2") == sum(moved.values())


def test_a_relabelling_can_be_of_one_team_and_null_an_environment(simulator: Simulator) -> None:
    simulator.faults.add(PlantedRelabelling(TEN // HOUR, (("environment", ""), ("app", "x")), team="acme"))
    shown = charges(simulator, "team,product,app,environment")
    assert {labels[2:] for labels in shown if labels[0] == "acme" and labels[1] != "model_apis"} == {("x", "")}
    assert all(labels[2] != "x" for labels in shown if labels[0] != "acme")


def test_a_label_that_no_charge_has_cannot_be_moved() -> None:
    with pytest.raises(ValueError, match="colour"):
        PlantedRelabelling(TEN // HOUR, (("colour", "blue"),))


def charges(simulator: Simulator, dimensions: str) -> dict[tuple[str, ...], Decimal]:
    """Return the cost of the hour by dimensions."""
    rows = simulator.statement(start=START, end=END, group_by=dimensions)["charges"]
    return {tuple(row[name] for name in dimensions.split(",")): Decimal(row["cost"]) for row in rows}


def test_an_amount_that_no_price_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        replace(GlitchedJob(), quantity=7 * NANO).line(NANO)


def requests(simulator: Simulator, parameters: dict[str, str]) -> dict[str, int]:
    statement = simulator.statement(start=START, end=END, **parameters)
    return {row["product"]: row["requests"] for row in statement["charges"]}
