"""Machines: runners by state, settings of apps, requests by hour, and charges divided by state. Since version 5.

Amounts divided by state are kept beside the charges that they are of, so that a correction of either replaces them, and
counters grow by the difference.
"""

import json
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Table,
    Text,
    and_,
    bindparam,
    func,
    or_,
    select,
)

from exporter.charges import NANO
from exporter.ledger.accounting.counters import Counter, CounterKey, LabelValues
from exporter.ledger.accounting.machines import StateSplit
from exporter.ledger.tables.database import write_many
from exporter.ledger.tables.schema import DIMENSIONS, ExactSum, Instant, charges, metadata, microseconds, series
from exporter.machines import SERVERLESS, STATES, AppSettings, Parts, RequestHour, RunnerHour, Runners

machine_accounts = Table(
    "machine_account",
    metadata,
    Column("account", Text, primary_key=True),
    Column("counts_from", Integer, nullable=False),
    Column("runners_through", Integer),
    Column("requests_through", Integer),
)
"""Accounts whose charges are divided by state.

Hours from `counts_from` on count; earlier ones are history. Fal has been asked for runners, and for requests, of every
hour up to `*_through`; NULL before the first time.
"""

runner_hours = Table(
    "runner_hour",
    metadata,
    Column("account", Text, primary_key=True),
    Column("app", Text, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in Runners._fields),
    Column("complete", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""Mean number of runners of an app in an hour, in nano-runners; `complete` once read after the hour's end."""

app_settings = Table(
    "app_setting",
    metadata,
    Column("account", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("app", Text, primary_key=True),
    Column("environment", Text, primary_key=True),
    Column("machine", Text, nullable=False),
    *(Column(name, BigInteger) for name in ("keep_alive", "min_concurrency", "max_concurrency")),
    Column("updated_at", Instant),
)
"""Settings of the apps that fal listed last; NULL where it states none."""

request_hours = Table(
    "request_hour",
    metadata,
    Column("account", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    *(
        Column(name, BigInteger, nullable=False)
        for name in ("requests", "succeeded", "user_errors", "errors", "cold_starts", "billable")
    ),
    sqlite_with_rowid=False,
)
"""Requests of an app or model in an hour; `billable` is execution time in nano-seconds."""

state_series = Table(
    "state_series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("labels", Text, nullable=False),
)
"""Label values under which figures by state are published, in order of admission; a JSON array."""

state_hours = Table(
    "state_hour",
    metadata,
    Column("series_id", ForeignKey("series.id"), primary_key=True, autoincrement=False),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("scope_id", Integer, nullable=False),
    Column("state_series_id", ForeignKey("state_series.id"), nullable=False),
    Column("counted", Boolean, nullable=False),
    *(Column(f"cost_{state}", BigInteger, nullable=False) for state in STATES),
    *(Column(f"gpu_seconds_{state}", BigInteger, nullable=False) for state in STATES),
    sqlite_with_rowid=False,
)
"""Charge of a series in an hour, divided by state; `counted` once counters have taken it up."""

state_counters = Table(
    "state_counter",
    metadata,
    Column("state_series_id", ForeignKey("state_series.id"), primary_key=True, autoincrement=False),
    Column("measure", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("grown", ExactSum, nullable=False),
    Column("published", ExactSum, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("base", ExactSum, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""Counters of figures by state, as those of label sets."""

TABLES = (machine_accounts, runner_hours, app_settings, request_hours, state_series, state_hours, state_counters)
"""All of them, in the order in which they can be created."""


@dataclass(frozen=True, slots=True)
class MachineAccount:
    """An account whose charges are divided by state; hours by their numbers, ends exclusive.

    Attributes:
        counts_from: first hour that counters count.
        runners_through: hour up to which fal has been asked for runners; None before the first time.
        requests_through: likewise for requests.
    """

    account: str
    counts_from: int
    runners_through: int | None = None
    requests_through: int | None = None


Span = tuple[int, int]
"""Numbers of the first hour and of the one after the last."""


def read_accounts(connection: Connection) -> dict[str, MachineAccount]:
    """Return the accounts whose charges are divided by state."""
    return {row["account"]: MachineAccount(**row) for row in connection.execute(select(machine_accounts)).mappings()}


def write_account(connection: Connection, account: MachineAccount) -> None:
    """Save an account in place of its earlier state."""
    connection.execute(machine_accounts.delete().where(machine_accounts.c.account == account.account))
    connection.execute(
        machine_accounts.insert(), {column.name: getattr(account, column.name) for column in machine_accounts.columns}
    )


def read_settings(connection: Connection) -> tuple[AppSettings, ...]:
    """Return the settings of all apps, in the order of their names."""
    table = app_settings.c
    question = select(app_settings).order_by(table.account, table.app, table.environment, table.owner)
    return tuple(AppSettings(**row) for row in connection.execute(question).mappings())


def write_settings(connection: Connection, account: str, listed: Collection[AppSettings]) -> None:
    """Save the settings of an account's apps; those that fal lists no longer are forgotten."""
    connection.execute(app_settings.delete().where(app_settings.c.account == account))
    if listed:
        connection.execute(
            app_settings.insert(),
            [{column.name: getattr(item, column.name) for column in app_settings.columns} for item in listed],
        )


def write_runners(connection: Connection, account: str, app: str, span: Span, hours: Iterable[RunnerHour]) -> None:
    """Replace the runners of an app in a span of hours; an hour that is not stated any more has none."""
    table = runner_hours.c
    connection.execute(
        runner_hours.delete().where(
            table.account == account, table.app == app, table.hour >= span[0], table.hour < span[1]
        )
    )
    write_many(
        connection,
        runner_hours.insert(),
        [(item.account, item.app, item.hour, *item.runners, item.complete) for item in hours],
    )


def read_runners(connection: Connection, account: str, first: int, end: int) -> dict[tuple[str, int], RunnerHour]:
    """Return the runners of an account in the hours in [first, end), by app and hour."""
    table = runner_hours.c
    found = connection.execute(
        select(runner_hours).where(table.account == account, table.hour >= first, table.hour < end)
    )
    return {(row[1], row[2]): RunnerHour(row[0], row[1], row[2], Runners(*row[3:7]), row[7]) for row in found}


def write_requests(
    connection: Connection,
    account: str,
    names: Collection[tuple[str, str]],
    span: Span,
    stated: Iterable[RequestHour],
) -> None:
    """Replace the requests of some apps and models, by product and name, in a span of hours."""
    table = request_hours.c
    for product, name in names:
        connection.execute(
            request_hours.delete().where(
                table.account == account,
                table.product == product,
                table.name == name,
                table.hour >= span[0],
                table.hour < span[1],
            )
        )
    write_many(connection, request_hours.insert(), [tuple(item) for item in stated])


def read_requests(connection: Connection, account: str, first: int, end: int) -> tuple[RequestHour, ...]:
    """Return the requests of an account's apps and models in the hours in [first, end)."""
    table = request_hours.c
    found = connection.execute(
        select(request_hours)
        .where(table.account == account, table.hour >= first, table.hour < end)
        .order_by(table.product, table.name, table.hour)
    )
    return tuple(RequestHour(*row) for row in found)


def first_request_hour(connection: Connection, account: str) -> int | None:
    """Return the first hour of which requests of an account are known; None without any."""
    first: int | None = connection.scalar(
        select(func.min(request_hours.c.hour)).where(request_hours.c.account == account)
    )
    return first


def read_series(connection: Connection) -> dict[int, LabelValues]:
    """Return the label values of figures by state, in order of admission."""
    found = connection.execute(select(state_series).order_by(state_series.c.id))
    return {number: tuple(json.loads(values)) for number, values in found}


def add_series(connection: Connection, new: Mapping[int, LabelValues]) -> None:
    """Admit label values."""
    if new:
        connection.execute(
            state_series.insert(),
            [{"id": number, "labels": json.dumps(values, ensure_ascii=False)} for number, values in new.items()],
        )


def rename_series(connection: Connection, values_of: Mapping[int, LabelValues]) -> None:
    """Write label values anew under their numbers."""
    for number, values in values_of.items():
        connection.execute(
            state_series.update().where(state_series.c.id == number), {"labels": json.dumps(values, ensure_ascii=False)}
        )


def join_series(connection: Connection, number: int, twin: int) -> None:
    """Publish what one has under the label values of another, whose counters go on; its own are forgotten."""
    connection.execute(state_hours.update().where(state_hours.c.state_series_id == number), {"state_series_id": twin})
    connection.execute(state_counters.delete().where(state_counters.c.state_series_id == number))
    connection.execute(state_series.delete().where(state_series.c.id == number))


ChargedCell = tuple[int, int, int, int, int]
"""Scope, hour and series, all as numbers, cost and GPU time."""


def read_charged(connection: Connection, scopes: Collection[int], first: int, end: int) -> Iterable[ChargedCell]:
    """Return the charges of runners of some scopes in the hours in [first, end)."""
    table = charges.c
    found = connection.execute(
        select(table.scope_id, table.hour, table.series_id, table.cost, table.gpu_seconds)
        .join(series, series.c.id == table.series_id)
        .where(table.scope_id.in_(scopes), table.hour >= first, table.hour < end, series.c.product == SERVERLESS)
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


Cell = tuple[int, int]
"""Series and hour, both as numbers."""

_PARTS = [column for column in state_hours.columns if column.name.startswith(("cost_", "gpu_seconds_"))]
_AT_CELL = (state_hours.c.series_id == bindparam("at_series"), state_hours.c.hour == bindparam("at_hour"))
_DELETE = state_hours.delete().where(*_AT_CELL)


def read_splits(connection: Connection, scopes: Collection[int], first: int, end: int) -> dict[Cell, StateSplit]:
    """Return what is divided already of some scopes in the hours in [first, end)."""
    table = state_hours.c
    found = connection.execute(
        select(table.series_id, table.hour, table.state_series_id, table.counted, *_PARTS).where(
            table.scope_id.in_(scopes), table.hour >= first, table.hour < end
        )
    )
    count = len(STATES)
    return {
        (row[0], row[1]): StateSplit(row[2], Parts(*row[4 : 4 + count]), Parts(*row[4 + count :]), row[3])
        for row in found
    }


def read_state_costs(connection: Connection, scopes: Collection[int]) -> Iterator[tuple[int, int, Parts]]:
    """Yield the series by state, hour and cost by state of what is divided of some scopes, in that order."""
    table = state_hours.c
    found = connection.execute(
        select(table.state_series_id, table.hour, *_PARTS[: len(STATES)])
        .where(table.scope_id.in_(scopes))
        .order_by(table.state_series_id, table.hour)
    )
    for row in found:
        yield row[0], row[1], Parts(*row[2:])


def write_splits(connection: Connection, gone: Iterable[Cell], new: Mapping[Cell, tuple[int, StateSplit]]) -> None:
    """Remove splits, then save others; `new` has the scope of each."""
    write_many(connection, _DELETE, [*gone])
    write_many(
        connection,
        state_hours.insert(),
        [
            (series, hour, scope, item.place, item.counted, *item.cost, *item.gpu_seconds)
            for (series, hour), (scope, item) in new.items()
        ],
    )


def move_splits(connection: Connection, source: int, target: int) -> None:
    """Keep what is divided of one scope, and counted, as that of another that has taken over its charges."""
    ours, theirs = series.alias(), series.alias()
    same = and_(*(ours.c[name] == theirs.c[name] for name in DIMENSIONS))
    pairs = connection.execute(
        select(ours.c.id, theirs.c.id).join(theirs, same).where(ours.c.scope_id == source, theirs.c.scope_id == target)
    ).all()
    for before, after in pairs:
        hours = list(connection.scalars(select(state_hours.c.hour).where(state_hours.c.series_id == before)))
        connection.execute(state_hours.delete().where(state_hours.c.series_id == after, state_hours.c.hour.in_(hours)))
        connection.execute(
            state_hours.update().where(state_hours.c.series_id == before), {"series_id": after, "scope_id": target}
        )


def wrong_splits(connection: Connection) -> list[Cell]:
    """Return what is divided into parts that do not add up to its charge, in order."""
    sums = [
        reduce(operator.add, [column for column in _PARTS if column.name.startswith(f"{measure}_")])
        for measure in ("cost", "gpu_seconds")
    ]
    found = connection.execute(
        select(state_hours.c.series_id, state_hours.c.hour)
        .outerjoin(charges, and_(charges.c.series_id == state_hours.c.series_id, charges.c.hour == state_hours.c.hour))
        .where(or_(charges.c.cost.is_(None), charges.c.cost != sums[0], charges.c.gpu_seconds != sums[1]))
        .order_by(state_hours.c.series_id, state_hours.c.hour)
    )
    return [(row[0], row[1]) for row in found]


def first_uncounted(connection: Connection, scopes: Collection[int], first: int, end: int) -> int | None:
    """Return the first hour in [first, end) with a split that counters have not taken up."""
    table = state_hours.c
    first_hour: int | None = connection.scalar(
        select(func.min(table.hour)).where(
            table.scope_id.in_(scopes), table.hour >= first, table.hour < end, table.counted.is_(False)
        )
    )
    return first_hour


def sum_splits(connection: Connection, scopes: Collection[int], first: int, end: int) -> dict[int, tuple[Parts, Parts]]:
    """Return cost and GPU time of the hours in [first, end) by state, by number of the label values."""
    table = state_hours.c
    found = connection.execute(
        select(table.state_series_id, *_SUMS)
        .where(table.scope_id.in_(scopes), table.hour >= first, table.hour < end)
        .group_by(table.state_series_id)
    )
    return {row[0]: _parts(row[1:]) for row in found}


# Whole units and remainders apart: neither can leave 64 bits.
_SUMS = [half for column in _PARTS for half in (func.sum(column // NANO), func.sum(column % NANO))]


def _parts(halves: Sequence[int]) -> tuple[Parts, Parts]:
    """Put sums together again; PostgreSQL gives them as decimals."""
    amounts = [int(high) * NANO + int(low) for high, low in zip(halves[::2], halves[1::2], strict=True)]
    return Parts(*amounts[: len(STATES)]), Parts(*amounts[len(STATES) :])


AppSum = tuple[int, str, str, str, Parts, Parts]
"""Scope, app, environment, GPU class, cost and GPU time."""


def sum_by_app(connection: Connection, scopes: Collection[int], first: int, end: int) -> list[AppSum]:
    """Return cost and GPU time by state of the apps of some scopes in the hours in [first, end)."""
    table = state_hours.c
    of = [series.c[name] for name in ("app", "environment", "gpu_class")]
    found = connection.execute(
        select(table.scope_id, *of, *_SUMS)
        .join(series, series.c.id == table.series_id)
        .where(table.scope_id.in_(scopes), table.hour >= first, table.hour < end)
        .group_by(table.scope_id, *of)
    )
    return [(row[0], row[1], row[2], row[3], *_parts(row[4:])) for row in found]


def model_costs(connection: Connection, scopes: Mapping[int, str], first: int, end: int) -> dict[tuple[str, str], int]:
    """Return what each model cost in the hours in [first, end), by account and model."""
    table = charges.c
    halves = (func.sum(table.cost // NANO), func.sum(table.cost % NANO))
    found = connection.execute(
        select(table.scope_id, series.c.model, *halves)
        .join(series, series.c.id == table.series_id)
        .where(table.scope_id.in_(scopes), table.hour >= first, table.hour < end, series.c.product == "model_apis")
        .group_by(table.scope_id, series.c.model)
    )
    costs: dict[tuple[str, str], int] = {}
    for scope, model, high, low in found:
        key = (scopes[scope], model)
        costs[key] = costs.get(key, 0) + int(high) * NANO + int(low)
    return costs


def forget_before(connection: Connection, horizon: int) -> None:
    """Forget hours before the retention's horizon; counters keep them."""
    for table in (runner_hours, request_hours, state_hours):
        connection.execute(table.delete().where(table.c.hour < horizon))


_KEY = [state_counters.c.state_series_id, state_counters.c.measure, state_counters.c.state]
_STATE = [column for column in state_counters.columns if not column.primary_key]
_UPDATE_COUNTER = (
    state_counters.update()
    .where(*(column == bindparam(f"at_{column.name}") for column in _KEY))
    .values({column.name: bindparam(f"to_{column.name}") for column in _STATE})
)


def read_counters(connection: Connection) -> dict[CounterKey, Counter]:
    """Return every counter of figures by state; the state stands in the place of the unit."""
    found = connection.execute(select(state_counters).order_by(*_KEY))
    return {CounterKey(*row[:3]): Counter(*row[3:]) for row in found}


def write_counters(
    connection: Connection, known: Mapping[CounterKey, Counter], states: Mapping[CounterKey, Counter]
) -> None:
    """Save the counters that are new or differ from what is known."""
    new = [(*key, *_state_row(state)) for key, state in states.items() if key not in known]
    changed = [(*_state_row(state), *key) for key, state in states.items() if key in known and known[key] != state]
    write_many(connection, state_counters.insert(), new)
    write_many(connection, _UPDATE_COUNTER, changed)


def _state_row(state: Counter) -> tuple[str, str, int, bool, str]:
    return str(state.grown), str(state.published), microseconds(state.created_at), state.released, str(state.base)
