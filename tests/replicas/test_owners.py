"""Who owns which account: an even division that moves little, and leases of accounts on a real PostgreSQL."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from replicas.sessions import LEASE, Statements, statements_of

from exporter.errors import LedgerError
from exporter.fal.carriage import Answer, Errand
from exporter.replicas import errands, owners
from exporter.replicas.errands import Laid
from exporter.replicas.owners import Owner, Plan, Worker, plan
from exporter.replicas.session import Session

ACCOUNTS = tuple(f"account-{number:02}" for number in range(13))
LEADER, OTHER, THIRD = (Worker(name, "1", "abc", is_able=True) for name in ("a", "b", "c"))
CALL = Errand(ACCOUNTS[0], "platform", "/models/usage?limit=1", "application/json", "hash")


@pytest.fixture
def database(postgresql_address: str) -> Iterator[Statements]:
    yield from statements_of(postgresql_address)


@pytest.fixture
def session(database: Statements) -> Iterator[Session]:
    with closing(database.session("a")) as made:
        yield made


def settled(owned: dict[str, Owner], able: list[str], pinned: tuple[str, ...] = ()) -> tuple[dict[str, Owner], int]:
    """Carry plans out until nothing changes; return who owns what then, and how many accounts have moved."""
    moved = 0
    for _ in range(10):
        found = plan(ACCOUNTS, owned, able, leader="a", pinned=pinned)
        if found == Plan({}, {}):
            return owned, moved
        owned = {account: owner for account, owner in owned.items() if account not in found.recalled}
        owned |= {account: Owner(replica) for account, replica in found.assigned.items()}
        moved += len(found.recalled)
    return pytest.fail("the plans do not end")


def counted(owned: dict[str, Owner]) -> Counter[str]:
    return Counter(owner.replica for owner in owned.values())


def test_accounts_are_divided_evenly_and_no_more_of_them_move_than_that_takes() -> None:
    owned, moved = settled({}, ["a", "b", "c"])
    assert sorted(counted(owned).values()) == [4, 4, 5]
    assert moved == 0
    owned, moved = settled(owned, ["a", "b", "c", "d"])
    assert sorted(counted(owned).values()) == [3, 3, 3, 4]
    assert moved == 3, "what the new one has"
    without = {account: owner for account, owner in owned.items() if owner.replica != "d"}
    again, moved = settled(without, ["a", "b", "c"])
    assert moved == 0, "those of one that is gone are nobody's"
    assert sorted(counted(again).values()) == [4, 4, 5]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_comes_and_goes_the_division_ends_even(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    owned: dict[str, Owner] = {}
    for _ in range(20):
        able = chance.sample("abcde", chance.randint(1, 5))
        owned = {
            account: Owner(owner.replica, chance.random() < 0.2)
            for account, owner in owned.items()
            if chance.random() < 0.8
        }
        owned = {account: owner for account, owner in owned.items() if not owner.is_recalled or owner.replica in able}
        owned = {account: owner for account, owner in owned.items() if not owner.is_recalled}
        owned, _ = settled(owned, able)
        counts = [counted(owned)[replica] for replica in able]
        assert sum(counts) == len(ACCOUNTS)
        assert max(counts) - min(counts) <= 1


def test_what_is_on_its_way_is_neither_recalled_again_nor_assigned() -> None:
    owned = dict.fromkeys(ACCOUNTS, Owner("a"))
    first = plan(ACCOUNTS, owned, ["a", "b"], leader="a")
    assert len(first.recalled) == 6
    assert not first.assigned
    owned |= {account: Owner("a", is_recalled=True) for account in first.recalled}
    assert plan(ACCOUNTS, owned, ["a", "b"], leader="a") == Plan({}, {})


def test_where_none_is_able_the_leader_has_all() -> None:
    assert plan(ACCOUNTS, {}, [], leader="a").assigned == dict.fromkeys(ACCOUNTS, "a")


def test_what_the_leader_must_own_counts_among_its_share() -> None:
    pinned = ACCOUNTS[:3]
    owned, moved = settled(dict.fromkeys(ACCOUNTS, Owner("b")), ["a", "b"], pinned)
    assert {owned[account].replica for account in pinned} == {"a"}
    assert sorted(counted(owned).values()) == [6, 7]
    assert moved == 6


def test_an_account_that_is_not_polled_any_more_is_given_back() -> None:
    assert plan(ACCOUNTS, {"gone": Owner("b")}, ["b"], leader="a").recalled == {"gone": "b"}


def divided(session: Session, *, pinned: tuple[str, ...] = ()) -> Plan:
    found, _ = owners.divide(session, LEADER, ACCOUNTS, lease=LEASE, pinned=pinned)
    return found


def test_the_leader_assigns_and_owners_renew_what_is_theirs(database: Statements, session: Session) -> None:
    for worker in (LEADER, OTHER):
        assert owners.renew(session, worker) == ((), {})
    assigned = divided(session).assigned
    assert sorted(Counter(assigned.values()).values()) == [6, 7]
    owned, shares = owners.renew(session, OTHER)
    assert {account for account, _, _ in owned} == {account for account, name in assigned.items() if name == "b"}
    assert shares == dict(Counter(assigned.values()))
    assert divided(session) == Plan({}, {})
    database.execute("UPDATE replica_lease SET token = 'of another leader'")
    database.execute("DELETE FROM replica_owner")
    assert divided(session) == Plan({}, {}), "a leader whose lease has gone assigns nothing"


def test_replicas_of_another_version_or_configuration_are_given_nothing(session: Session) -> None:
    for worker in (
        LEADER,
        OTHER._replace(version="2"),
        THIRD._replace(configuration="def"),
        THIRD._replace(replica="d", is_able=False),
    ):
        owners.renew(session, worker)
    assert set(divided(session).assigned.values()) == {"a"}


def test_an_account_moves_only_once_its_owner_has_given_it_back(session: Session) -> None:
    owners.renew(session, LEADER)
    divided(session)
    owners.renew(session, OTHER)
    assert len(divided(session).recalled) == 6
    owned, _ = owners.renew(session, LEADER)
    recalled = [item for item in owned if item.is_recalled]
    assert len(recalled) == 6
    assert not divided(session).assigned, "its calls may be under way"
    owners.give_back(session, recalled[0].account, recalled[0].token)
    assert divided(session).assigned == {recalled[0].account: "b"}


def test_what_has_run_out_is_assigned_under_another_token_and_not_renewed(
    database: Statements, session: Session
) -> None:
    owners.renew(session, OTHER)
    divided(session)
    before, _ = owners.renew(session, OTHER)
    database.execute("UPDATE replica_owner SET expires_at = clock_timestamp()")
    assert owners.renew(session, OTHER)[0] == (), "another may be about to have it"
    database.execute("UPDATE replica_worker SET seen_at = '-infinity' WHERE replica = 'b'")
    owners.renew(session, THIRD)
    divided(session)
    after, _ = owners.renew(session, THIRD)
    assert len(after) == len(ACCOUNTS)
    assert not {item.token for item in before} & {item.token for item in after}
    owners.give_back(session, before[0].account, before[0].token)
    assert len(owners.renew(session, THIRD)[0]) == len(ACCOUNTS), "a former owner gives nothing back"


def test_a_late_answer_of_a_former_owner_is_refused_and_the_new_one_has_the_errand(
    database: Statements, session: Session
) -> None:
    owners.renew(session, OTHER)
    divided(session)
    errands.lay(session, "a", [Laid("1", CALL)])
    ((late,), _) = errands.due(session, "b")
    assert late.errand == CALL
    database.execute("UPDATE replica_owner SET expires_at = clock_timestamp()")
    assert not errands.answer(session, late.id, late.token, Answer(200)), "its time is over"
    database.execute("UPDATE replica_worker SET seen_at = '-infinity' WHERE replica = 'b'")
    owners.renew(session, THIRD)
    divided(session)
    assert errands.due(session, "b")[0] == ()
    ((new,), _) = errands.due(session, "c")
    assert (new.id, new.errand) == (late.id, CALL)
    assert not errands.answer(session, late.id, late.token, Answer(200)), "it is another's by now"
    assert errands.collect(session, "a") == {}
    brought = Answer(200, {"date": "Sun, 29 Nov 2026 04:00:00 GMT"}, b"\x00\xff{}")
    assert errands.answer(session, new.id, new.token, brought)
    assert errands.collect(session, "a") == {"1": brought}
    assert errands.collect(session, "a") == {}


def test_an_errand_of_an_account_that_nobody_owns_waits_for_its_owner(session: Session) -> None:
    errands.lay(session, "a", [Laid("1", CALL)])
    assert errands.waiting(session, "a") == {"1"}
    owners.renew(session, OTHER)
    divided(session)
    ((found,), changes) = errands.due(session, "b")
    assert found.errand == CALL
    assert changes == 1
    errands.lay(session, "a", [Laid("1", CALL)], done=["1"])
    assert errands.due(session, "b")[0] == (), "nobody waits for it any more"


def test_an_account_that_an_owner_cannot_ask_for_is_the_leaders(session: Session) -> None:
    owners.renew(session, OTHER)
    divided(session)
    owners.renew(session, LEADER)
    errands.lay(session, "a", [Laid("1", CALL)])
    ((found,), _) = errands.due(session, "b")
    owners.give_back(session, CALL.account, found.token, refused=True)
    made, refused = owners.divide(session, LEADER, ACCOUNTS, lease=LEASE)
    assert refused == {CALL.account}
    assert made.assigned == {CALL.account: "a"}
    assert errands.due(session, "a")[0][0].errand == CALL
    assert owners.divide(session, LEADER, ACCOUNTS, lease=LEASE)[1] == frozenset()


def test_errands_of_another_leader_are_removed(session: Session) -> None:
    errands.lay(session, "former", [Laid("1", CALL)])
    divided(session)
    assert errands.waiting(session, "former") == frozenset()


def test_one_that_leaves_gives_everything_back(session: Session) -> None:
    owners.renew(session, OTHER)
    divided(session)
    owned, _ = owners.renew(session, OTHER)
    owners.leave(session, "b", {account: token for account, token, _ in owned})
    assert set(divided(session).assigned.values()) == {"a"}


def test_an_owner_hears_what_is_laid_for_it(database: Statements, session: Session) -> None:
    owners.renew(session, OTHER)
    divided(session)
    with closing(database.session("b")) as ears:
        assert ears.wait(0), "it begins to listen"
        assert not ears.wait(0)
        errands.lay(session, "a", [Laid("1", CALL)])
        assert ears.wait(5)
        assert not ears.wait(0)


def test_a_replica_that_is_stopped_in_a_transaction_holds_nobody_up(database: Statements, session: Session) -> None:
    owners.renew(session, LEADER)
    divided(session)
    with closing(database.session("b", idle_limit="50ms")) as stopped, suppress(LedgerError):
        with stopped.transaction() as connection:
            connection.exec_driver_sql("UPDATE replica_owner SET is_recalled = true")
            owned, _ = owners.renew(session, LEADER)
        pytest.fail("its transaction has ended")
    assert len(owned) == len(ACCOUNTS)
    assert not any(item.is_recalled for item in owned)
