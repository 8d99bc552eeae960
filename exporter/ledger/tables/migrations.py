"""Migrations of ledgers of older versions to this version, step by step, in one transaction."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, MetaData, inspect, or_, select, text

from exporter.errors import LedgerError
from exporter.ledger.tables import changes, hours, machines, remote, schema, span_totals, tags
from exporter.ledger.tables.schema import SCHEMA_VERSION, facts, metadata, series


def _from_1_to_2(connection: Connection) -> None:
    """Keep reconciliations; no longer keep the choice of sources, which the active scopes show."""
    schema.reconciliations.create(connection)
    connection.execute(text("DROP TABLE IF EXISTS source_choice"))


def _from_2_to_3(connection: Connection) -> None:
    """Separate surge, keep totals of spans, first hours and changes of prices; forget when an hour changed."""
    _add_dimensions(connection)
    schema.span_totals.create(connection)
    span_totals.rebuild(connection)
    hours.rebuild(connection)
    connection.execute(text("ALTER TABLE observed_hour DROP COLUMN changed_at"))
    for name, kind in (
        *(("previous_price", "BIGINT"), ("price_changed", "INTEGER")),
        *(("previous_discount", "BIGINT"), ("discount_changed", "INTEGER")),
    ):
        connection.execute(text(f"ALTER TABLE unit_price ADD COLUMN {name} {kind}"))


def _add_dimensions(connection: Connection) -> None:
    """Bring the columns of series up to date; dimensions that are new to them are empty."""
    known = {column["name"] for column in inspect(connection).get_columns("series")}
    missing = [name for name in schema.DIMENSIONS if name not in known]
    if not missing:
        return
    if connection.dialect.name == "sqlite":
        _rebuild_series(connection, [column.name for column in series.columns if column.name in known], missing)
        return
    for name in missing:
        connection.execute(text(f"ALTER TABLE series ADD COLUMN {name} TEXT NOT NULL DEFAULT ''"))
        connection.execute(text(f"ALTER TABLE series ALTER COLUMN {name} DROP DEFAULT"))
    connection.execute(text("ALTER TABLE series ADD COLUMN IF NOT EXISTS first_hour INTEGER"))
    for constraint in inspect(connection).get_unique_constraints("series"):
        connection.execute(text(f'ALTER TABLE series DROP CONSTRAINT "{constraint["name"]}"'))
    unique = ", ".join(("scope_id", *schema.DIMENSIONS))
    connection.execute(text(f"ALTER TABLE series ADD UNIQUE ({unique})"))


def _rebuild_series(connection: Connection, kept: Sequence[str], missing: Sequence[str]) -> None:
    """Write the table anew, as SQLite cannot change its constraint."""
    new = series.to_metadata(MetaData(), name="series_of_new_version")
    for table in (schema.scopes, schema.label_sets):
        table.to_metadata(new.metadata)
    new.create(connection)
    columns, empty = ", ".join((*kept, *missing)), ", ".join((*kept, *("''" for _ in missing)))
    connection.execute(text(f"INSERT INTO {new.name} ({columns}) SELECT {empty} FROM series"))  # noqa: S608  our own names
    connection.execute(text("DROP TABLE series"))
    connection.execute(text(f"ALTER TABLE {new.name} RENAME TO series"))


def _from_3_to_4(connection: Connection) -> None:
    """Keep what keys can read, whose they are and their aliases, teams, members, detail of sources, rejected rows.

    And all that fal states of an invoice.
    """
    _add_dimensions(connection)
    schema.api_keys.create(connection)
    schema.teams.create(connection)
    connection.execute(text("ALTER TABLE counter ADD COLUMN base TEXT NOT NULL DEFAULT '0'"))
    connection.execute(text("ALTER TABLE invoice ADD COLUMN stated TEXT NOT NULL DEFAULT ''"))
    schema.source_probes.create(connection)
    schema.key_owners.create(connection)
    schema.rejected_rows.create(connection)
    for column, kind in (
        ("relabelled", "TEXT NOT NULL DEFAULT '0'"),
        ("detail", "TEXT NOT NULL DEFAULT ''"),
        ("detail_asked_at", "BIGINT"),
        ("detail_version", "TEXT NOT NULL DEFAULT ''"),
        ("running_hour_read_at", "BIGINT"),
    ):
        connection.execute(text(f"ALTER TABLE scope ADD COLUMN {column} {kind}"))
    # A source whose charges have ever had these dimensions has answered in full.
    for source, dimensions in (("reporting", ("app", "gpu_class")), ("focus", ("team",))):
        detailed = select(series.c.scope_id).where(or_(*(series.c[name] != "" for name in dimensions)))
        connection.execute(
            schema.scopes.update()
            .where(schema.scopes.c.source == source, schema.scopes.c.id.in_(detailed))
            .values(detail="full")
        )


def _from_4_to_5(connection: Connection) -> None:
    """Keep machines (runners and charges by state, settings of apps, requests), spend by tags, and marks of days."""
    for table in (*machines.TABLES, *tags.TABLES, changes.changed_days):
        table.create(connection)


def _from_5_to_6(connection: Connection) -> None:
    """Keep what has been told by remote write, and all prices that held before."""
    for table in remote.TABLES:
        table.create(connection)
    connection.execute(text("ALTER TABLE unit_price ADD COLUMN former TEXT NOT NULL DEFAULT ''"))


_MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {
    1: _from_1_to_2,
    2: _from_2_to_3,
    3: _from_3_to_4,
    4: _from_4_to_5,
    5: _from_5_to_6,
}
"""For each older version, the step to the next."""


def bring_up_to_date(connection: Connection) -> bool:
    """Create the tables of an empty database, or migrate those of an older version, in the caller's transaction.

    Return whether the tables were created. SQLite must not enforce foreign keys in it: see `database.changing_tables`.

    Raises:
        LedgerError: the ledger is of a newer version than this exporter knows, or the database holds other tables.
    """
    found_tables = inspect(connection)
    if not found_tables.has_table(facts.name):
        # To ask of each table whether it is there takes as long as to make it.
        metadata.create_all(connection, checkfirst=bool(found_tables.get_table_names()))
        connection.execute(facts.insert(), {"name": "schema", "value": str(SCHEMA_VERSION)})
        return True
    found = connection.scalar(select(facts.c.value).where(facts.c.name == "schema"))
    if found is None and schema.read(connection, schema.MOVED_FROM) is not None:
        raise LedgerError(f"the ledger {schema.UNFINISHED_MOVE}")
    if found is None:
        raise LedgerError(
            "the ledger's database has a table `fact` that is not fal-exporter's; give it its own database"
        )
    version = int(found)
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {version}, this exporter knows up to {SCHEMA_VERSION}; "
            "run the newer exporter again, or start with a new ledger"
        )
    for step in range(version, SCHEMA_VERSION):
        _MIGRATIONS[step](connection)
    connection.execute(facts.update().where(facts.c.name == "schema"), {"value": str(SCHEMA_VERSION)})
    return False
