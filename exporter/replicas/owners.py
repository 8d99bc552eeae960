"""Owners of accounts: which replica asks fal for an account, each by a lease of a few seconds with a token of its own.

A row of `replica_owner` says who owns an account, under which token, and until when by the database's clock. The leader
assigns accounts that nobody owns. An owner renews what it owns, counts it out by its own clock before that runs out,
and gives back what the leader asks for once its calls have ended. A row is assigned anew only when it has been given
back or has run out: so no two replicas ask fal for one account at the same time, by the reasoning of `lease`.

The table is logged, as a server that has crashed must not forget who owns what. `replica_worker` says which replicas
can be given accounts; it is written all the time, and means nothing after a crash.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import text

from exporter.replicas import errands
from exporter.replicas.session import Session

TERM = 10.0
"""Seconds for which an account is owned after that has been renewed."""

RENEW_SECONDS = 2.5

TABLES = {
    "replica_owner": """
        CREATE TABLE IF NOT EXISTS replica_owner (
            account text PRIMARY KEY,
            replica text NOT NULL,
            token text NOT NULL,
            expires_at timestamptz NOT NULL,
            is_recalled boolean NOT NULL DEFAULT false
        ) WITH (fillfactor = 50)""",
    "replica_worker": """
        CREATE UNLOGGED TABLE IF NOT EXISTS replica_worker (
            replica text PRIMARY KEY,
            version text NOT NULL,
            configuration text NOT NULL,
            is_able boolean NOT NULL,
            seen_at timestamptz NOT NULL,
            changes bigint NOT NULL DEFAULT 0
        )""",
}

_SEEN = text(
    "INSERT INTO replica_worker (replica, version, configuration, is_able, seen_at)"
    " VALUES (:replica, :version, :configuration, :is_able, clock_timestamp())"
    " ON CONFLICT (replica) DO UPDATE SET is_able = excluded.is_able, seen_at = excluded.seen_at"
)
_FORGET = text("DELETE FROM replica_worker WHERE seen_at < clock_timestamp() - interval '1 hour'")
_RENEW = text(
    "UPDATE replica_owner SET expires_at = clock_timestamp() + make_interval(secs => :term)"
    " WHERE replica = :replica AND expires_at > clock_timestamp() RETURNING account, token, is_recalled"
)
_COUNTS = text("SELECT replica, count(*) FROM replica_owner WHERE expires_at > clock_timestamp() GROUP BY replica")
_OWNED = text("SELECT account, replica, is_recalled FROM replica_owner WHERE expires_at > clock_timestamp()")
_WORKERS = text(
    "SELECT replica, version, configuration, is_able FROM replica_worker"
    " WHERE seen_at > clock_timestamp() - make_interval(secs => :term) ORDER BY replica"
)
_LEADS = text("SELECT EXISTS (SELECT FROM replica_lease WHERE token = :lease AND expires_at > clock_timestamp())")
_ASSIGN = text(
    "INSERT INTO replica_owner AS owner (account, replica, token, expires_at)"
    " VALUES (:account, :replica, :token, clock_timestamp() + make_interval(secs => :term))"
    " ON CONFLICT (account) DO UPDATE SET replica = excluded.replica, token = excluded.token,"
    " expires_at = excluded.expires_at, is_recalled = false WHERE owner.expires_at <= clock_timestamp()"
)
_RECALL = text(
    "UPDATE replica_owner SET is_recalled = true WHERE account = :account AND replica = :replica AND NOT is_recalled"
)
_REMOVE = text("DELETE FROM replica_owner WHERE account <> ALL(:accounts) AND expires_at <= clock_timestamp()")
_GIVE_BACK = text("DELETE FROM replica_owner WHERE account = :account AND token = :token")
_LEAVE = text("DELETE FROM replica_worker WHERE replica = :replica")
_CHANGED = text("UPDATE replica_worker SET changes = changes + 1 WHERE replica = ANY(:replicas)")
_TELL_LEADER = text(f"SELECT pg_notify({errands.CHANNEL_SQL}, '') FROM replica_lease")  # noqa: S608


class Owned(NamedTuple):
    """An account that a replica owns.

    Attributes:
        token: under which it does.
        is_recalled: whether the leader asks for it back.
    """

    account: str
    token: str
    is_recalled: bool


class Owner(NamedTuple):
    """The replica that owns an account, and whether the leader has asked for it back."""

    replica: str
    is_recalled: bool = False


class Worker(NamedTuple):
    """A replica that lives.

    Attributes:
        configuration: digest of its settings, as for the lease.
        is_able: whether it reaches fal, as far as it knows.
    """

    replica: str
    version: str
    configuration: str
    is_able: bool


class Plan(NamedTuple):
    """Changes of ownership.

    Attributes:
        assigned: the new owners of accounts that have none.
        recalled: accounts to be given back, with their owners.
    """

    assigned: Mapping[str, str]
    recalled: Mapping[str, str]


def plan(
    accounts: Collection[str],
    owners: Mapping[str, Owner],
    able: Collection[str],
    *,
    leader: str,
    pinned: Collection[str] = (),
) -> Plan:
    """Divide accounts evenly among replicas, and move no more of them than that takes.

    Where no replica comes or goes, and what is recalled has been given back and assigned by another plan, no two counts
    differ by more than one; accounts that the leader must own may make it more.

    Args:
        accounts: all that are polled.
        owners: who owns them now; none is missing whose lease has not run out.
        able: replicas that can be given accounts; where there are none the leader has them all.
        leader: the one that leads.
        pinned: accounts that the leader must own.
    """
    workers = sorted(able) or [leader]
    bound = [account for account in accounts if account in pinned]
    loose = sorted(account for account in accounts if account not in pinned)
    kept: dict[str, list[str]] = {worker: [] for worker in workers}
    recalled = {account: owner.replica for account, owner in owners.items() if account not in accounts}
    recalled |= {
        account: owners[account].replica for account in bound if owners.get(account, Owner(leader))[0] != leader
    }
    for account in loose:
        owner = owners.get(account)
        if owner is not None and owner.replica not in kept:
            recalled[account] = owner.replica
        elif owner is not None and not owner.is_recalled:
            kept[owner.replica].append(account)
    burden = {worker: len(bound) if worker == leader else 0 for worker in workers}
    ceilings = _ceilings({worker: len(kept[worker]) for worker in workers}, len(loose), burden)
    for worker in workers:
        recalled |= dict.fromkeys(kept[worker][ceilings[worker] :], worker)
    counts = Counter({worker: min(len(kept[worker]), ceilings[worker]) for worker in workers})
    assigned = {account: leader for account in bound if account not in owners}
    for account in (account for account in loose if account not in owners):
        worker = max(workers, key=lambda worker: (ceilings[worker] - counts[worker], worker))
        assigned[account] = worker
        counts[worker] += 1
    return Plan(assigned, {account: owner for account, owner in recalled.items() if not owners[account].is_recalled})


def _ceilings(kept: Mapping[str, int], total: int, burden: Mapping[str, int]) -> dict[str, int]:
    """Return how many of `total` accounts each replica is to have; what it has beside them counts as its burden."""
    ceilings = dict.fromkeys(kept, 0)
    for _ in range(total):
        # Of those with fewest, the one that has most already: nothing moves that need not.
        worker = min(ceilings, key=lambda worker: (ceilings[worker] + burden[worker], -kept[worker], worker))
        ceilings[worker] += 1
    return ceilings


def renew(session: Session, worker: Worker, *, term: float = TERM) -> tuple[tuple[Owned, ...], dict[str, int]]:
    """Report that a replica lives, and renew what it owns; return that, and how many accounts each replica owns.

    It is good for the term from before the call. What has run out is not renewed: another may be about to have it.

    Raises:
        LedgerError: the database cannot be written.
    """
    with session.transaction() as connection:
        connection.execute(_SEEN, worker._asdict())
        connection.execute(_FORGET)
        owned = connection.execute(_RENEW, {"replica": worker.replica, "term": term})
        return tuple(Owned(*row) for row in owned), {name: count for name, count in connection.execute(_COUNTS)}  # noqa: C416  rows


def divide(
    session: Session,
    leader: Worker,
    accounts: Collection[str],
    *,
    lease: str,
    pinned: Collection[str] = (),
    term: float = TERM,
) -> tuple[Plan, frozenset[str]]:
    """Assign accounts that nobody owns and recall what is divided unevenly, if the lease of the ledger is good.

    Errands of an account that is assigned anew are the new owner's.

    Args:
        session: with the database.
        leader: the replica that leads; only those of its version and configuration are given accounts.
        accounts: all that are polled.
        lease: token of the leader's lease.
        pinned: accounts that the leader must own.
        term: for which an account is owned.

    Returns:
        The changes, and accounts of which an owner has refused an errand since.

    Raises:
        LedgerError: the database cannot be written.
    """
    nothing = Plan({}, {})
    with session.transaction() as connection:
        if not connection.scalar(_LEADS, {"lease": lease}):
            return nothing, frozenset()
        refused = errands.refused(connection, leader.replica)
        owners = {account: Owner(*row) for account, *row in connection.execute(_OWNED)}
        workers = [Worker(*row) for row in connection.execute(_WORKERS, {"term": term})]
        alike = [item.replica for item in workers if item.is_able and item[1:3] == leader[1:3]]
        found = plan(accounts, owners, alike, leader=leader.replica, pinned={*pinned, *refused})
        for account, replica in found.assigned.items():
            values = {"account": account, "replica": replica, "token": str(uuid.uuid4()), "term": term}
            connection.execute(_ASSIGN, values)
        for account, replica in found.recalled.items():
            connection.execute(_RECALL, {"account": account, "replica": replica})
        errands.hand_over(connection)
        errands.tidy(connection, leader.replica)
        connection.execute(_REMOVE, {"accounts": list(accounts)})
        changed = {*found.assigned.values(), *found.recalled.values()}
        connection.execute(_CHANGED, {"replicas": sorted(changed)})
        for replica in changed:
            errands.notify(connection, replica)
        return found, refused


def give_back(session: Session, account: str, token: str, *, refused: bool = False) -> None:
    """Own an account no more; its errands wait for the next owner.

    Args:
        session: with the database.
        account: no call of it is under way.
        token: under which it is owned.
        refused: whether it could not be asked for at all with the settings of this replica.

    Raises:
        LedgerError: the database cannot be written.
    """
    with session.transaction() as connection:
        errands.leave(connection, account, token, refused=refused)
        connection.execute(_GIVE_BACK, {"account": account, "token": token})
        connection.execute(_TELL_LEADER)


def leave(session: Session, replica: str, owned: Mapping[str, str]) -> None:
    """Give everything back, and be given nothing more.

    Args:
        session: with the database.
        replica: that ends.
        owned: tokens by account.

    Raises:
        LedgerError: the database cannot be written; all runs out by itself.
    """
    with session.transaction() as connection:
        connection.execute(_LEAVE, {"replica": replica})
        for account, token in owned.items():
            errands.leave(connection, account, token)
            connection.execute(_GIVE_BACK, {"account": account, "token": token})
        connection.execute(_TELL_LEADER)
