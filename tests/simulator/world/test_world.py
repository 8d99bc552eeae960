from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.simulator import Pace, Simulator, World, WorldSize
from exporter.simulator.world.exact import FOREVER, HOUR, microseconds
from exporter.simulator.world.world import (
    Charge,
    Phase,
    Record,
    charge_of,
    issued_at,
    known_from,
    made_at,
    made_before,
    phase_at,
    visible_requests,
)

SATURDAY = microseconds(datetime(2026, 11, 21, tzinfo=UTC)) // HOUR


def records(world: World, hours: int) -> Iterator[tuple[int, Record]]:
    for hour in range(SATURDAY, SATURDAY + hours):
        for record in world.records(hour):
            yield hour, record


def told(world: World, hour: int) -> list[object]:
    return [
        (record.line.team, record.line.billing_line, record.line.price, record.requests, record.size, record.phases)
        for record in world.records(hour)
    ]


def test_the_same_seed_tells_the_same_story_in_any_order() -> None:
    forwards, backwards = World(5), World(5)
    hours = range(SATURDAY, SATURDAY + 30)
    assert [told(forwards, hour) for hour in hours] == [told(backwards, hour) for hour in reversed(hours)][::-1]


def test_another_seed_tells_another_story() -> None:
    assert told(World(5), SATURDAY) != told(World(6), SATURDAY)


def test_the_default_world_has_every_kind_of_line() -> None:
    lines = World(1).lines
    assert {line.product for line in lines} == {"model_apis", "serverless", "compute"}
    assert len({line.model for line in lines if line.model}) == 30
    assert {line.unit for line in lines} >= {"image", "video", "second", "megapixel", "1k_characters"}
    assert {line.gpu_class for line in lines} >= {"", "H100", "H200", "B200", "B300", "A100", "A6000"}
    assert {line.gpus for line in lines} == {0, 1, 8}
    assert any(line.app is None and line.product == "serverless" for line in lines)
    assert any(line.surge for line in lines)
    assert {line.percent for line in lines} >= {None, 10, 15}
    assert len({line.team for line in lines}) == 5


def test_surge_costs_more_than_the_same_machine_without() -> None:
    by_app = {
        (line.app, line.machine, line.surge): line.price for line in World(1).lines if line.product == "serverless"
    }
    surges = [key for key in by_app if key[2]]
    assert surges
    assert all(by_app[key] > by_app[key[0], key[1], False] for key in surges)


def test_requests_are_spread_over_their_hour_and_counted_without_gap() -> None:
    for hour, record in records(World(3), 2):
        stamps = [made_at(record, hour, number) for number in range(record.requests)]
        assert stamps == sorted(stamps)
        assert hour * HOUR <= stamps[0]
        assert stamps[-1] < (hour + 1) * HOUR
        for number, instant in enumerate(stamps):
            assert made_before(record, hour, instant) == number
            assert made_before(record, hour, instant + 1) == number + 1


@given(st.integers(0, 2**32), st.lists(st.integers(0, HOUR), max_size=6))
@settings(max_examples=examples(20, long=100))
def test_pieces_of_an_hour_add_up_to_the_nano_dollar(seed: int, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), HOUR]
    for record in World(seed % 5).records(SATURDAY)[:: 1 + seed % 7]:
        cap, percent = record.phases[-1].cap, record.phases[-1].percent
        whole = charge_of(record, 0, cap, percent)
        pieces: list[Charge] = []
        for start, end in pairwise(edges):
            span = (SATURDAY * HOUR + start, SATURDAY * HOUR + end)
            first, last, share = visible_requests(record, SATURDAY, span, FOREVER)
            pieces.append(charge_of(record, first, last, share))
        assert sum(piece.requests for piece in pieces) == whole.requests
        assert sum(piece.quantity for piece in pieces) == whole.quantity
        assert sum(piece.subtotal for piece in pieces) == whole.subtotal
        assert sum(piece.cost for piece in pieces) == whole.cost


def test_a_discount_is_that_percentage_of_the_subtotal() -> None:
    record = next(record for _, record in records(World(1), 1) if record.line.percent)
    charge = charge_of(record, 0, record.requests, record.line.percent)
    assert charge.discount == charge.subtotal * (record.line.percent or 0) // 100
    assert charge.cost == charge.subtotal - charge.discount


def test_some_charges_arrive_minutes_to_fifteen_hours_late() -> None:
    waits = [
        (record.phases[1].start - (hour + 1) * HOUR) / HOUR
        for hour, record in records(World(1), 240)
        if len(record.phases) == 2 and record.phases[0].cap < record.phases[1].cap and record.phases[1].start < FOREVER
    ]
    assert min(waits) < 0.2
    assert any(12 < wait <= 15 for wait in waits)


def test_some_hours_are_revised_down_and_some_get_a_discount_later() -> None:
    changes = [record.phases for _, record in records(World(1), 96) if len(record.phases) == 2]
    assert any(before.cap > after.cap for before, after in changes)
    assert any(before.percent != after.percent for before, after in changes)


def test_nothing_of_a_month_changes_once_its_invoice_is_issued() -> None:
    last_day = microseconds(datetime(2026, 10, 31, tzinfo=UTC)) // HOUR
    issue = microseconds(datetime(2026, 11, 1, 23, tzinfo=UTC))
    for hour in range(last_day, last_day + 24):
        assert issued_at(hour) == issue
        assert known_from(World(2).records(hour), hour) < issue


def test_days_are_busier_than_nights_and_weekdays_than_weekends() -> None:
    def requests(day: int, hours: range) -> int:
        world = World(4)
        return sum(record.requests for hour in hours for record in world.records(SATURDAY + 24 * day + hour))

    assert requests(2, range(9, 17)) > requests(2, range(8))
    assert requests(3, range(24)) > 1.2 * requests(0, range(24))


def test_new_models_appear_and_retire() -> None:
    world = World(9, pace=Pace(birth_hours=24, life_hours=72))
    seen = [{line.model for line in world.previews(SATURDAY + hour)} for hour in range(240)]
    assert all(seen[96:])
    assert not seen[0] & seen[-1]
    for line in world.previews(SATURDAY):
        assert line.born <= SATURDAY < line.dies


def test_a_phase_holds_from_its_instant_on() -> None:
    line = World(1).lines[0]
    record = Record(line, 10, 1, (Phase(0, 4, None), Phase(100, 10, None), Phase(200, 7, 10)))
    assert [phase_at(record, instant).cap for instant in (0, 99, 100, 199, 200, FOREVER)] == [4, 4, 10, 10, 7, 7]


def test_a_world_of_lines_has_that_many() -> None:
    world = World.of_lines(1, 500)
    assert len({line.model for line in world.lines}) == 500
    assert len(world.records(SATURDAY)) > 250


def test_a_world_without_callers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one caller"):
        WorldSize(callers=0)


async def test_a_world_of_one_team_has_compute_that_only_its_organization_shows() -> None:
    simulator = Simulator(World(5, size=WorldSize(models=2, apps=1, compute=2, teams=1)))
    span = {"start": "2026-11-20T10:00:00Z", "end": "2026-11-20T11:00:00Z", "key_id": "simulator-admin"}
    assert simulator.statement(**span)["unreadable_nano_usd"] == 0
    narrow = simulator.statement(**span, through="models,serverless", group_by="team,product")
    assert [(row["team"], row["product"]) for row in narrow["charges"] if row["unreadable_nano_usd"]] == [
        ("acme", "compute")
    ]


def test_odd_names_have_every_letter_that_is_often_lost_and_stay_distinct() -> None:
    size = WorldSize(models=40, apps=14, teams=9, api_keys=12)
    odd, plain = World(3, replace(size, odd_names=True)), World(3, size)
    for kind in ("model", "app", "team"):
        names = {getattr(line, kind) for line in odd.lines if getattr(line, kind)}
        assert len(names) == len({getattr(line, kind) for line in plain.lines if getattr(line, kind)})
        for letter in "\u3000\u00a0\u200c\u200d":
            assert any(letter in name for name in names)
        assert sum(len(name) > 250 for name in names) > 1
    assert odd.teams[0] == "acme"
    assert {line.team for line in odd.lines} <= {*odd.teams}
    assert [line.price for line in odd.lines] == [line.price for line in plain.lines]
