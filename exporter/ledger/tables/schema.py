"""The ledger's tables, and single facts of the whole ledger by name.

Instants are microseconds and hours are hours since 1970 in UTC, both integers. Amounts of a charge are 64-bit
nano-units; sums over time have no such bound and are decimal text.
"""

import json
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    bindparam,
    select,
)

from exporter.charges import hour_number, hour_start

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DIMENSIONS = ("team", "product", "model", "app", "environment", "gpu_class", "unit", "api_key", "member", "surge")
"""The dimensions of a series within its scope; the account is the scope's."""

MEASURES = ("quantity", "gpu_seconds", "list_cost", "discount", "cost")
"""The measures of a charge, in the order of `exporter.charges.Amounts`."""


def microseconds(instant: datetime) -> int:
    """Return the microseconds from 1970 to an instant."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, kept as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return microseconds."""
        del dialect
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the instant."""
        del dialect
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Hour(TypeDecorator[datetime]):
    """The start of a UTC hour, kept as hours since 1970."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the hour's number."""
        del dialect
        return None if value is None else hour_number(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the hour's start."""
        del dialect
        return None if value is None else hour_start(value)


class ExactSum(TypeDecorator[int]):
    """An integer without bound, kept as decimal text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Return the digits."""
        del dialect
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """Return the number."""
        del dialect
        return None if value is None else int(value)


metadata = MetaData()

facts = Table(
    "fact",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single facts of the whole ledger: schema, revision, birth, labels, horizon, overflow, loss."""

scopes = Table(
    "scope",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("born_at", Instant, nullable=False),
    Column("counts_from", Instant, nullable=False),
    Column("data_through", Hour),
    Column("settled_through", Hour),
    Column("last_success_at", Instant),
    Column("history_from", Hour),
    Column("restated_up", ExactSum, nullable=False),
    Column("restated_down", ExactSum, nullable=False),
    Column("restated_hours", BigInteger, nullable=False),
    Column("relabelled", ExactSum, nullable=False, server_default="0"),
    Column("detail", Text, nullable=False, server_default=""),
    Column("detail_asked_at", Instant),
    Column("detail_version", Text, nullable=False, server_default=""),
    Column("running_hour_read_at", Instant),
    UniqueConstraint("account", "source"),
)
"""One source of one account: what a restatement replaces. Hours that began before `counts_from` are history.

`detail` is how much the source reports of a charge, one of `exporter.fal.Detail`, and when and by which version of the
exporter it was asked for more; empty before it has been chosen. `running_hour_read_at` is the start of the last poll
that read the hour running then. `relabelled`, `detail*` and `running_hour_read_at` since version 4.
"""

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope_id", ForeignKey("scope.id"), nullable=False),
    *(Column(name, Text, nullable=False) for name in DIMENSIONS),
    Column("label_set_id", ForeignKey("label_set.id"), nullable=False),
    *(Column(f"folded_{name}", ExactSum, nullable=False) for name in MEASURES),
    Column("first_hour", Integer),
    UniqueConstraint("scope_id", *DIMENSIONS),
)
"""One combination of dimensions; `folded_*` sums up its charges of the hours before the retention's horizon.

`first_hour` is the hour of its first charge, of all that have not been taken back; folded ones count.
"""

charges = Table(
    "charge",
    metadata,
    Column("scope_id", ForeignKey("scope.id"), primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("series_id", ForeignKey("series.id"), primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in MEASURES),
    sqlite_with_rowid=False,
)

span_totals = Table(
    "span_total",
    metadata,
    Column("scope_id", ForeignKey("scope.id"), primary_key=True, autoincrement=False),
    Column("length", Integer, primary_key=True, autoincrement=False),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("series_id", ForeignKey("series.id"), primary_key=True, autoincrement=False),
    Column("charges", Integer, nullable=False),
    *(Column(f"{name}_{part}", BigInteger, nullable=False) for name in MEASURES for part in ("units", "nanos")),
    sqlite_with_rowid=False,
)
"""Sums of `charge` in spans of some hours (see `span_totals`), always current; `charges` counts the rows summed.

A sum is `units * NANO + nanos`, so that it fits whatever the hours hold; nanos need be neither positive nor below NANO.
"""

observed_hours = Table(
    "observed_hour",
    metadata,
    Column("scope_id", ForeignKey("scope.id"), primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("complete", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""The hours a successful poll has covered; `complete` once one has after the hour's end."""

rejected_rows = Table(
    "rejected_row",
    metadata,
    Column("scope_id", ForeignKey("scope.id"), primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("end_hour", Integer, primary_key=True, autoincrement=False),
    Column("reason", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("cost", ExactSum, nullable=False),
    sqlite_with_rowid=False,
)
"""Rows of some hours that could not be read, or only in part, when the hours were read last; since version 4.

`end_hour` is exclusive: a row whose own hour cannot be read is of one of the hours of its answer. `cost` is what the
rows that are not counted cost, as far as that can be read.
"""

label_sets = Table(
    "label_set",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("labels", Text, nullable=False),
)
"""The admitted label sets, in order of admission; `labels` is a JSON array of values."""

counters = Table(
    "counter",
    metadata,
    Column("label_set_id", ForeignKey("label_set.id"), primary_key=True, autoincrement=False),
    Column("measure", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("grown", ExactSum, nullable=False),
    Column("published", ExactSum, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("base", ExactSum, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""Counters of label sets; `base` is what was published of one under an earlier name of its key, since version 4."""

unit_prices = Table(
    "unit_price",
    metadata,
    Column("account", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("app", Text, primary_key=True),
    Column("gpu_class", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("hour", Hour, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("discount", BigInteger, nullable=False),
    Column("previous_price", BigInteger),
    Column("price_changed", Hour),
    Column("previous_discount", BigInteger),
    Column("discount_changed", Hour),
    # Empty in a ledger that has been migrated, until the next change.
    Column("former", Text, nullable=False),
)
"""Price of a unit in the newest charge, the price before its last change, the hour that showed the change, and all that
held before, as JSON."""

balances = Table(
    "balance",
    metadata,
    Column("account", Text, primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
"""Balances as they changed, and the newest observation."""

invoices = Table(
    "invoice",
    metadata,
    Column("account", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("number", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("period_start", Instant, nullable=False),
    Column("period_end", Instant, nullable=False),
    Column("issued_at", Instant),
    Column("due_at", Instant),
    Column("currency", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in ("subtotal", "credits", "tax", "total")),
    # A ledger that has been migrated has none of it until the invoices are polled again.
    Column("stated", Text, nullable=False),
)

reconciliations = Table(
    "reconciliation",
    metadata,
    Column("account", Text, primary_key=True),
    Column("against", Text, primary_key=True),
    Column("month", Hour, primary_key=True, autoincrement=False),
    Column("through", Hour, nullable=False),
    Column("compared_at", Instant, nullable=False),
    Column("ledger", ExactSum, nullable=False),
    Column("usage", ExactSum, nullable=False),
    Column("by_category", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Bill of a UTC month beside what the ledger held of the same hours when they were compared last.

`by_category` is a JSON object of nano-USD. Since version 2.
"""

source_probes = Table(
    "source_probe",
    metadata,
    Column("account", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("asked_at", Instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("teams", Integer, nullable=False),
    Column("reason_at_choice", Text),
)
"""Result of the last probe of a source with an account's key, and the version of the exporter that asked.

`reason` is empty for a source that could be read, else the reason of the failure. `reason_at_choice` is the same as of
the choice of sources; NULL where a user has chosen them. Since version 4.
"""

key_owners = Table(
    "key_owner",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key_hash", Text, nullable=False),
    Column("username", Text, nullable=False),
)
"""Owner of an account's key, as fal reported; the key is kept as a hash. Since version 4."""

api_keys = Table(
    "api_key",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("alias", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("created_at", Instant),
    Column("is_listed", Boolean, nullable=False),
    Column("last_used", Hour),
)
"""API keys of an account as fal listed them last; since version 4.

`label` is what charges of the key are published under. `is_listed` is false of a key that the last list lacks.
`last_used` is the last hour that was charged for with it, as far as that was known when the keys were listed.
"""

teams = Table(
    "team",
    metadata,
    Column("account", Text, primary_key=True),
    Column("username", Text, primary_key=True),
    Column("name", Text, nullable=False),
)
"""Teams of an organization as fal listed them last. Since version 4."""

SCHEMA_VERSION = 6

REVISION = "revision"
CHARGES_REVISION = "charges_revision"
"""Counts the transactions that changed charges, counters or scopes."""

BORN_AT = "born_at"
LABELS = "labels"
HORIZON = "horizon"
"""The first hour whose charges are kept one by one; earlier ones are folded into their series."""

OVERFLOWED = "overflowed"
MOVED_FROM = "moved_from"
"""The ledger that a database is being filled from by `ledger.maintenance.moving`; absent once that is done."""

UNFINISHED_MOVE = "is being moved here and is not complete; run `fal-exporter ledger migrate` again to its end"

REBUILT_AT = "rebuilt_at"
"""When the ledger was written anew from memory, without its charges of before; absent where it never was."""

ACCOUNTS = "accounts"
"""The configured accounts, as JSON: those that are published, with sources or without. Absent before version 6."""


_VALUE = select(facts.c.value).where(facts.c.name == bindparam("at"))
_UPDATE = facts.update().where(facts.c.name == bindparam("at"))


def read(connection: Connection, name: str) -> str | None:
    """Return a fact's value, None where it has not been written."""
    return connection.scalar(_VALUE, {"at": name})


_FACTS = select(facts.c.name, facts.c.value)


def read_all(connection: Connection) -> dict[str, str]:
    """Return all facts."""
    return {row[0]: row[1] for row in connection.execute(_FACTS).all()}


def accounts_of(text: str | None) -> tuple[str, ...] | None:
    """Return the accounts that the fact ACCOUNTS names; None where it is absent, and all that are known count."""
    return None if text is None else tuple(json.loads(text))


def write(connection: Connection, name: str, value: str) -> None:
    """Set a fact."""
    updated = connection.execute(_UPDATE, {"at": name, "value": value})
    if updated.rowcount == 0:
        connection.execute(facts.insert(), {"name": name, "value": value})
