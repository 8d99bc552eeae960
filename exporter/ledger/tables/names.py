"""Names: API keys and teams of the accounts as fal listed them last, and what keys are published under."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from exporter.charges import ApiKey, Team, hour_start
from exporter.ledger.accounting.key_labels import KeyLabels, KeyRecord
from exporter.ledger.tables.schema import api_keys, charges, scopes, series, teams

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
    """Tell whether charges are known by API key or member."""
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
