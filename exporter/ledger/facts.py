"""Single facts of the whole ledger, by name."""

from sqlalchemy import Connection, bindparam, select

from exporter.ledger import schema

REVISION = "revision"
"""Counts the transactions that changed charges, counters or scopes."""

BORN_AT = "born_at"
LABELS = "labels"
HORIZON = "horizon"
"""The first hour whose charges are kept one by one; earlier ones are folded into their series."""

OVERFLOWED = "overflowed"

_VALUE = select(schema.facts.c.value).where(schema.facts.c.name == bindparam("at"))
_UPDATE = schema.facts.update().where(schema.facts.c.name == bindparam("at"))


def read(connection: Connection, name: str) -> str | None:
    """Return a fact's value, None where it has not been written."""
    return connection.scalar(_VALUE, {"at": name})


def read_all(connection: Connection) -> dict[str, str]:
    """Return all facts."""
    return {row[0]: row[1] for row in connection.execute(select(schema.facts.c.name, schema.facts.c.value))}


def write(connection: Connection, name: str, value: str) -> None:
    """Set a fact."""
    updated = connection.execute(_UPDATE, {"at": name, "value": value})
    if updated.rowcount == 0:
        connection.execute(schema.facts.insert(), {"name": name, "value": value})
