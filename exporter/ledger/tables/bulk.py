"""Bulk writing on PostgreSQL: rows go by COPY into a table of the transaction, and from there in one statement.

A restatement of a month is hundreds of thousands of rows. One statement for each of them is a plan, a lookup and an
answer each; COPY and one set-based statement are a stream, a sort and a merge. SQLite runs in this process and gains
nothing from it. Of few rows, too, the single statements are quicker: a staging table has to be made first.

The staging table lives as long as the transaction, so that it works behind a pooler that lends its sessions for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

LEAST_ROWS = 500
"""Rows from which on the staging table is worth it."""

_BLOCK = 8192
"""Rows that are handed over at once."""

Row = tuple[int, ...]
Then = Literal["replace", "add"]
"""Treatment of a row that exists: all but its key takes the new values, or grows by them."""


@dataclass(frozen=True, slots=True)
class Target:
    """Table that is written; all of its columns are integers.

    Attributes:
        columns: the names of all its columns, in the order of the rows' values.
        key: those of the primary key.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def is_worth_it(connection: Connection, rows: Sequence[Row]) -> bool:
    """Return whether so many rows are written sooner in bulk."""
    return len(rows) >= LEAST_ROWS and connection.dialect.name == "postgresql"


def insert(connection: Connection, table: Target, rows: Sequence[Row]) -> None:
    """Insert rows that are new."""
    _copy(connection, table.name, table.columns, rows)


def merge(connection: Connection, table: Target, rows: Sequence[Row], *, then: Then) -> None:
    """Insert rows, or change those that exist, in one statement.

    Args:
        connection: in a transaction.
        table: where to.
        rows: each key once.
        then: what becomes of rows that exist.
    """
    names, key = table.columns, table.key
    new = {"replace": "{0} = excluded.{0}", "add": "{0} = {1}.{0} + excluded.{0}"}[then]
    changes = ", ".join(new.format(name, table.name) for name in names if name not in key)
    staging = _staged(connection, table, names, rows)
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {', '.join(names)} FROM {staging} "  # noqa: S608  names of our schema
        f"ORDER BY {', '.join(key)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )
    connection.exec_driver_sql(f"DROP TABLE {staging}")


def delete(connection: Connection, table: Target, keys: Sequence[Row]) -> None:
    """Delete rows by their keys in one statement."""
    staging = _staged(connection, table, table.key, keys)
    same = " AND ".join(f"{table.name}.{name} = {staging}.{name}" for name in table.key)
    connection.exec_driver_sql(f"DELETE FROM {table.name} USING {staging} WHERE {same}")  # noqa: S608
    connection.exec_driver_sql(f"DROP TABLE {staging}")


def _staged(connection: Connection, table: Target, names: Sequence[str], rows: Sequence[Row]) -> str:
    staging = f"staged_{table.name}"
    columns = ", ".join(names)
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE {staging} ON COMMIT DROP AS SELECT {columns} FROM {table.name} WITH NO DATA"  # noqa: S608
    )
    _copy(connection, staging, names, rows)
    # Temporary tables are never analysed by themselves; without an estimate a large merge is planned as a small one.
    connection.exec_driver_sql(f"ANALYZE {staging}")
    return staging


def _copy(connection: Connection, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    line = "\t".join(["%d"] * len(columns)) + "\n"
    driver = connection.connection.driver_connection
    if driver is None:
        raise TypeError("the connection to the database has ended")
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
            for first in range(0, len(rows), _BLOCK):
                copy.write("".join([line % row for row in rows[first : first + _BLOCK]]))
    except connection.dialect.loaded_dbapi.Error as error:
        if connection.dialect.is_disconnect(error, driver, None):
            connection.invalidate(error)
        raise DBAPIError(f"COPY {name}", None, error) from error
