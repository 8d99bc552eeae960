"""Errands: calls to fal that the leader lays down for the owners of accounts, and what these bring back.

A row is laid under the token by which its account is owned, and is handed over to the next owner with the account. An
answer is taken only under the token that the row and the account have then, in one statement: what a former owner
brings after that, however late, is refused. Rows are removed when they are read, or when nobody waits for them.

The table is not logged: after a crash of the server the leader lays down anew what it still waits for.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, text

from exporter.fal.carriage import Answer, Errand
from exporter.replicas.session import Session

TABLES = {
    "replica_errand": """
        CREATE UNLOGGED TABLE IF NOT EXISTS replica_errand (
            id text PRIMARY KEY,
            leader text NOT NULL,
            account text NOT NULL,
            place text NOT NULL,
            target text NOT NULL,
            accept text NOT NULL,
            key_hash text NOT NULL,
            laid_at timestamptz NOT NULL,
            replica text NOT NULL,
            token text NOT NULL,
            is_refused boolean NOT NULL DEFAULT false,
            is_answered boolean NOT NULL DEFAULT false,
            status integer NOT NULL DEFAULT 0,
            headers text NOT NULL DEFAULT '{}',
            body bytea NOT NULL DEFAULT '',
            failure text NOT NULL DEFAULT '',
            detail text NOT NULL DEFAULT '',
            is_tls boolean NOT NULL DEFAULT false
        )""",
}

CHANNEL_SQL = "'fal_exporter_' || left(encode(sha256(convert_to(replica, 'UTF8')), 'hex'), 32)"
"""Channel on which a replica hears that there is something for it, as `channel_of`, in SQL."""

_NOTIFY = text("SELECT pg_notify(:channel, '')")
_OLD = "interval '1 hour'"

_LAY = text(
    "INSERT INTO replica_errand (id, leader, account, place, target, accept, key_hash, laid_at, replica, token)"
    " SELECT :id, :leader, :account, :place, :target, :accept, :key_hash, clock_timestamp(),"
    " coalesce(max(replica), ''), coalesce(max(token), '') FROM replica_owner"
    " WHERE account = :account AND expires_at > clock_timestamp() AND NOT is_recalled"
    " ON CONFLICT (id) DO NOTHING RETURNING replica"
)
_FOR = text(
    "SELECT id, token, account, place, target, accept, key_hash FROM replica_errand"
    " WHERE replica = :replica AND NOT is_answered"
)
_CHANGES = text("SELECT changes FROM replica_worker WHERE replica = :replica")
_ANSWER = text(
    "UPDATE replica_errand AS errand SET is_answered = true, status = :status, headers = :headers, body = :body,"
    " failure = :failure, detail = :detail, is_tls = :is_tls"
    " WHERE id = :id AND token = :token AND NOT is_answered AND EXISTS (SELECT FROM replica_owner AS owner"
    " WHERE owner.account = errand.account AND owner.token = :token AND owner.expires_at > clock_timestamp())"
    " RETURNING leader"
)
_COLLECT = text(
    "DELETE FROM replica_errand WHERE leader = :leader AND is_answered"
    " RETURNING id, status, headers, body, failure, detail, is_tls"
)
_WAITING = text("SELECT id FROM replica_errand WHERE leader = :leader AND NOT is_answered")
_REMOVE = text("DELETE FROM replica_errand WHERE id = ANY(:ids)")
_HAND_OVER = text(
    "UPDATE replica_errand AS errand SET replica = owner.replica, token = owner.token, is_refused = false"
    " FROM replica_owner AS owner WHERE owner.account = errand.account AND owner.token <> errand.token"
    " AND NOT is_answered AND NOT owner.is_recalled AND owner.expires_at > clock_timestamp() RETURNING owner.replica"
)
_LEAVE = text(
    "UPDATE replica_errand SET replica = '', token = '', is_refused = :refused"
    " WHERE account = :account AND token = :token AND NOT is_answered"
)
_REFUSED = text("SELECT DISTINCT account FROM replica_errand WHERE leader = :leader AND is_refused")
_TIDY = text(f"DELETE FROM replica_errand WHERE leader <> :leader OR laid_at < clock_timestamp() - {_OLD}")  # noqa: S608


class Laid(NamedTuple):
    """An errand of which one waits for the answer."""

    id: str
    errand: Errand


class Due(NamedTuple):
    """An errand for the owner of its account.

    Attributes:
        token: under which it is owned.
    """

    id: str
    token: str
    errand: Errand


def channel_of(replica: str) -> str:
    """Return the channel on which a replica hears that there is something for it."""
    return f"fal_exporter_{hashlib.sha256(replica.encode()).hexdigest()[:32]}"


def notify(connection: Connection, replica: str) -> None:
    """Announce to a replica that there is something for it, when the transaction has ended."""
    connection.execute(_NOTIFY, {"channel": channel_of(replica)})


def lay(session: Session, leader: str, laid: Iterable[Laid], done: Collection[str] = ()) -> None:
    """Lay errands down for the owners of their accounts, or for who will own them; nothing for those that lie there.

    Args:
        session: with the database.
        leader: the replica that waits for the answers.
        laid: new ones.
        done: numbers of those for which nobody waits any more.

    Raises:
        LedgerError: the database cannot be written.
    """
    with session.transaction() as connection:
        replicas = set()
        for number, errand in laid:
            values = {"id": number, "leader": leader, **{name: getattr(errand, name) for name in Errand.__slots__}}
            replicas.add(connection.scalar(_LAY, values))
        if done:
            connection.execute(_REMOVE, {"ids": list(done)})
        for replica in replicas - {None, ""}:
            notify(connection, replica)


def due(session: Session, replica: str) -> tuple[tuple[Due, ...], int]:
    """Return the errands that a replica has to do, and how often what it owns was changed by others.

    Raises:
        LedgerError: the database cannot be read.
    """
    with session.transaction(reads=True) as connection:
        changes = connection.scalar(_CHANGES, {"replica": replica}) or 0
        found = connection.execute(_FOR, {"replica": replica})
        return tuple(Due(number, token, Errand(*call)) for number, token, *call in found), int(changes)


def answer(session: Session, number: str, token: str, brought: Answer) -> bool:
    """Bring back what has come of an errand; return False where its account is another's by now, or nobody waits.

    Raises:
        LedgerError: the database cannot be written.
    """
    with session.transaction() as connection:
        values = {
            "id": number,
            "token": token,
            "status": brought.status,
            "headers": json.dumps(dict(brought.headers or {})),
            "body": brought.body,
            "failure": brought.failure,
            "detail": brought.detail,
            "is_tls": brought.is_tls,
        }
        leader = connection.scalar(_ANSWER, values)
        if leader is not None:
            notify(connection, leader)
        return leader is not None


def collect(session: Session, leader: str) -> dict[str, Answer]:
    """Take what has been brought back, by the numbers of the errands.

    Raises:
        LedgerError: the database cannot be written.
    """
    with session.transaction() as connection:
        return {
            row.id: Answer(
                row.status, json.loads(row.headers), bytes(row.body), row.failure, row.detail, is_tls=row.is_tls
            )
            for row in connection.execute(_COLLECT, {"leader": leader})
        }


def waiting(session: Session, leader: str) -> frozenset[str]:
    """Return the numbers of a leader's errands that lie there and have no answer.

    Raises:
        LedgerError: the database cannot be read.
    """
    with session.transaction(reads=True) as connection:
        return frozenset(connection.scalars(_WAITING, {"leader": leader}))


def hand_over(connection: Connection) -> None:
    """Give errands to those who own their accounts now, and announce it to them.

    Not only after an assignment: one may have been laid in the moment in which its account was given back.
    """
    for replica in set(connection.scalars(_HAND_OVER)):
        notify(connection, replica)


def leave(connection: Connection, account: str, token: str, *, refused: bool = False) -> None:
    """Have the errands of an account wait for another owner; `refused` if the one that had it could not do them."""
    connection.execute(_LEAVE, {"account": account, "token": token, "refused": refused})


def refused(connection: Connection, leader: str) -> frozenset[str]:
    """Return the accounts of which an owner has refused an errand that waits for another."""
    return frozenset(connection.scalars(_REFUSED, {"leader": leader}))


def tidy(connection: Connection, leader: str) -> None:
    """Remove what nobody waits for: errands of other leaders, and old ones."""
    connection.execute(_TIDY, {"leader": leader})
