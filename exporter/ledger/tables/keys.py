"""Keys and teams of the accounts: names as fal listed them last, labels, owners, and what each key can read."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from exporter.charges import ApiKey, Team, hour_start
from exporter.ledger.accounting.key_labels import KeyLabels, KeyRecord
from exporter.ledger.tables.schema import api_keys, charges, key_owners, scopes, series, source_probes, teams


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


Keys = dict[tuple[str, str], KeyRecord]
"""Records by account and id."""


def read_keys(connection: Connection) -> Keys:
    """Return every key that is known, in the order of accounts and ids."""
    found = connection.execute(select(api_keys).order_by(api_keys.c.account, api_keys.c.key_id))
    return {
        (row.account, row.key_id): KeyRecord(
            ApiKey(row.account, row.key_id, row.alias, row.creator, row.created_at),
            row.label,
            row.is_listed,
            row.last_used,
        )
        for row in found
    }


def write_keys(connection: Connection, records: Iterable[KeyRecord]) -> None:
    """Keep keys in place of earlier records of them."""
    for record in records:
        key = record.key
        connection.execute(api_keys.delete().where(api_keys.c.account == key.account, api_keys.c.key_id == key.id))
        connection.execute(
            api_keys.insert(),
            {
                "account": key.account,
                "key_id": key.id,
                "alias": key.alias,
                "label": record.label,
                "creator": key.creator,
                "created_at": key.created_at,
                "is_listed": record.is_listed,
                "last_used": record.last_used,
            },
        )


def labels_of(keys: Mapping[tuple[str, str], KeyRecord]) -> KeyLabels:
    """Return what keys are published under."""
    return {name: record.label for name, record in keys.items()}


def last_uses(connection: Connection, account: str, ids: Collection[str]) -> dict[str, datetime]:
    """Return the start of the last hour in which some keys of an account were charged for."""
    if not ids:
        return {}
    rows = connection.execute(
        select(series.c.api_key, func.max(charges.c.hour))
        .join_from(charges, series, series.c.id == charges.c.series_id)
        .join(scopes, scopes.c.id == charges.c.scope_id)
        .where(scopes.c.account == account, scopes.c.active, series.c.api_key.in_(ids))
        .group_by(series.c.api_key)
    )
    return {row[0]: hour_start(row[1]) for row in rows}


def first_uses(connection: Connection) -> dict[str, datetime]:
    """Return the start of the first hour that was charged for with any key, by account; none where no key is told."""
    rows = connection.execute(
        select(scopes.c.account, func.min(series.c.first_hour))
        .join_from(series, scopes, scopes.c.id == series.c.scope_id)
        .where(scopes.c.active, series.c.api_key != "", series.c.first_hour.is_not(None))
        .group_by(scopes.c.account)
    )
    return {row[0]: hour_start(row[1]) for row in rows}


def tells_callers(connection: Connection) -> bool:
    """Return whether charges are known by API key or member."""
    known = select(series.c.id).where(or_(series.c.api_key != "", series.c.member != "")).limit(1)
    return connection.scalar(known) is not None


def read_teams(connection: Connection) -> dict[str, tuple[Team, ...]]:
    """Return the teams by account, in the order of their usernames."""
    found: dict[str, tuple[Team, ...]] = {}
    for row in connection.execute(select(teams).order_by(teams.c.account, teams.c.username)):
        found[row.account] = (*found.get(row.account, ()), Team(row.account, row.username, row.name))
    return found


def write_teams(connection: Connection, account: str, listed: Collection[Team]) -> None:
    """Keep the teams of an account in place of those of an earlier list."""
    connection.execute(teams.delete().where(teams.c.account == account))
    if listed:
        connection.execute(
            teams.insert(),
            [{"account": team.account, "username": team.username, "name": team.name} for team in listed],
        )
