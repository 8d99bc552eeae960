from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import process_time

from exporter.simulator import Simulator, World
from exporter.simulator.account import Account
from exporter.simulator.exact import FOREVER, HOUR, SECOND, microseconds

START = microseconds(datetime(2026, 11, 20, tzinfo=UTC))


def cost(account: Account, start: int, end: int, as_of: int) -> int:
    return sum(charge.cost for charges in account.charges((start, end), as_of) for charge in charges)


def test_the_running_hour_grows_with_every_second(simulator: Simulator) -> None:
    simulator = Simulator(World.demo(1), simulator.clock)
    seen = []
    for _ in range(20):
        simulator.clock.now += timedelta(seconds=10)
        seen.append(simulator.statement(start="2026-11-21T14:00:00Z", end="2026-11-21T15:00:00Z")["requests"])
    assert all(later > earlier for earlier, later in pairwise(seen))


def test_an_hour_as_of_later_is_never_cached_for_earlier() -> None:
    account, fresh = Account(World(7)), Account(World(7))
    hour = START // HOUR
    instants = [START + step * HOUR // 4 for step in range(1, 200)]
    for instant in (*reversed(instants), *instants):
        assert account.cost(hour, instant) == cost(account, START, START + HOUR, instant)
    assert account.cost(hour, instants[0]) == fresh.cost(hour, instants[0])


def test_everything_has_arrived_at_the_instant_that_is_told() -> None:
    account = Account(World(7))
    for hour in range(START // HOUR, START // HOUR + 48):
        known = account.known_from(hour)
        final = cost(account, hour * HOUR, (hour + 1) * HOUR, FOREVER)
        assert cost(account, hour * HOUR, (hour + 1) * HOUR, known) == final


def test_parts_of_hours_add_up() -> None:
    account = Account(World(7))
    as_of = START + 20 * HOUR
    edges = [START, START + 77 * SECOND, START + 3 * HOUR + 1, START + 3 * HOUR + 1_799 * SECOND, START + 30 * HOUR]
    parts = sum(cost(account, start, end, as_of) for start, end in pairwise(edges))
    assert parts == cost(account, edges[0], edges[-1], as_of)


def test_teams_share_the_whole() -> None:
    account = Account(World(7))
    span = START, START + 24 * HOUR
    total = cost(account, *span, FOREVER)
    by_team = [
        sum(charge.cost for charges in account.charges(span, FOREVER, team) for charge in charges)
        for team in account.world.teams
    ]
    assert sum(by_team) == total
    assert all(by_team)


def test_hours_are_cheap_and_those_kept_are_bounded() -> None:
    account = Account(World.of_lines(1, 5_700))
    for hour in range(START // HOUR, START // HOUR + 28):
        account.records(hour)
    assert len(account._hours) == 26

    account = Account(World(1))
    began = process_time()
    for hour in range(START // HOUR, START // HOUR + 200):
        account.cost(hour, FOREVER)
    assert process_time() - began < 2
