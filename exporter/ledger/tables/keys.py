"""Keys of the accounts: what each can read, and whom it belongs to, as fal answered last."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from exporter.ledger.tables.schema import key_owners, source_probes


@dataclass(frozen=True, slots=True)
class SourceProbe:
    """Answer of a source to a probe with the account's key.

    Attributes:
        asked_at: when it was asked last, an aware instant.
        version: the version of the exporter that asked.
        reason: why it cannot be read, as the `reason` of an error; empty where it can.
        problem: the same as a sentence.
        teams: how many teams the organization has; 0 where that is not known.
        reason_at_choice: the reason when the sources were chosen automatically; None where a user has chosen them.
    """

    account: str
    source: str
    asked_at: datetime
    version: str
    reason: str = ""
    problem: str = ""
    teams: int = 0
    reason_at_choice: str | None = None


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Owner of a key.

    Attributes:
        key_hash: of the key that was asked with; for another key the answer may be another.
        username: as fal said; empty where it does not say to this key.
    """

    account: str
    key_hash: str
    username: str


def read_probes(connection: Connection, account: str) -> tuple[SourceProbe, ...]:
    """Return the last probe of every source of an account."""
    question = select(source_probes).where(source_probes.c.account == account).order_by(source_probes.c.source)
    return tuple(SourceProbe(**row) for row in connection.execute(question).mappings())


def write_probes(connection: Connection, probes: Iterable[SourceProbe]) -> None:
    """Keep probes in place of earlier ones of the same sources."""
    table = source_probes.c
    for probe in probes:
        connection.execute(source_probes.delete().where(table.account == probe.account, table.source == probe.source))
        connection.execute(
            source_probes.insert(), {column.name: getattr(probe, column.name) for column in source_probes.columns}
        )


def read_owners(connection: Connection) -> tuple[KeyOwner, ...]:
    """Return who the keys of all accounts belong to, as far as that is known."""
    return tuple(KeyOwner(**row) for row in connection.execute(select(key_owners)).mappings())


def write_owner(connection: Connection, owner: KeyOwner) -> None:
    """Keep who an account's key belongs to."""
    connection.execute(key_owners.delete().where(key_owners.c.account == owner.account))
    connection.execute(key_owners.insert(), {column.name: getattr(owner, column.name) for column in key_owners.columns})
