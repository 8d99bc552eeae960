"""Renaming of an account in a ledger, so that its counters go on under the new name.

An exporter that was started with the new name before has begun another account by then. Both are joined as if the
account had never had another name: all that was polled under the new name is replayed on the old one as restatements,
the newer reading of an hour replaces the older, and what is new in it counts. The old name's counters have then counted
everything once. They are published under the new name,

- at their value where the new name has published none, as a new series adds nothing to any `increase()`,
- as what the old name had not published where it has: the series of the old name keeps its part in Prometheus, and the
  sum of both series is what was charged, to the nano-dollar.

Two accounts that were polled at the same time are two accounts, and not joined.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from sqlalchemy import ColumnElement, Connection, and_, exists, select
from sqlalchemy.engine import URL

from exporter.charges import HOUR, Amounts, Charge, Window, hour_number, hour_of, hour_start
from exporter.errors import LedgerError
from exporter.ledger.accounting.counters import Counter, CounterKey, LabelValues, Rules
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.machines import STATE_LABELS
from exporter.ledger.collector_lock import take_collector_lock
from exporter.ledger.store import Ledger
from exporter.ledger.tables import machines, remote, rows, schema
from exporter.ledger.tables.database import NoLedgerError, ledger_url, reading, shown
from exporter.ledger.tables.prices import Former, PriceRecord, read_prices, write_prices

_PIECE_HOURS = 24
_NO_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Renaming:
    """Result of a renaming.

    Attributes:
        joined_since: when the new name had begun to be polled; None where it had not.
        shared: counters that both names had published.
    """

    joined_since: datetime | None = None
    shared: int = 0


class _At:
    """A clock that is set: what is replayed happens when it happened."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def rename_account(address: str, old: str, new: str, *, now: datetime, max_series: int = 10_000) -> Renaming:
    """Rename an account in a ledger that no exporter is using, in one transaction.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerInUseError: an exporter is running on the ledger.
        LedgerError: the ledger does not know the old name, cannot join it with the new one, or cannot be written.
    """
    url = ledger_url(address)
    if old == new:
        raise LedgerError(f'"{old}" is already the name of the account; nothing was changed')
    try:
        with reading(address, of_any_version=True) as connection:
            labels = tuple(json.loads(schema.read(connection, schema.LABELS) or "[]"))
    except NoLedgerError:
        raise LedgerError(f"the ledger {shown(url)} is empty; there is no account to rename") from None
    clock = _At(now)
    # The label sets of the new name go when those of the old one take their place: none is folded for their sake.
    rules = Rules(labels=labels, max_series=2 * max_series)
    lock = take_collector_lock(address)
    with (
        closing(Ledger(address, rules=rules, clock=clock, lock=lock)) as ledger,
        ledger.in_one_transaction() as connection,
    ):
        scopes = rows.read_scopes(connection)
        configured = schema.accounts_of(schema.read(connection, schema.ACCOUNTS))
        if configured is None:
            configured = tuple(scope.account for scope in scopes if scope.active)
        olds = [scope for scope in scopes if scope.account == old]
        news = [scope for scope in scopes if scope.account == new]
        if not olds:
            known = ", ".join(sorted({scope.account for scope in scopes})) or "none"
            raise LedgerError(f'the ledger {shown(url)} has no account "{old}"; its accounts are: {known}')
        renaming = Renaming()
        if news:
            _check_joinable(connection, url, olds, news)
            before = rows.read_counters(connection)
            _replay(ledger, connection, clock, old, news)
            _join_scopes(connection, old, news)
            shared = _join_counters(connection, labels, old, new, before)
            renaming = Renaming(min(scope.born_at for scope in news), shared)
        _rename(connection, labels, old, new)
        # The new name is configured from the next start on; questions that are asked before then find the account.
        names = dict.fromkeys(new if account == old else account for account in (*configured, new))
        schema.write(connection, schema.ACCOUNTS, json.dumps([*names], ensure_ascii=False))
    return renaming


def _check_joinable(connection: Connection, url: URL, olds: Iterable[Scope], news: Iterable[Scope]) -> None:
    """Raise LedgerError where the two names may be two accounts, or what was polled is not known any more."""
    old, new = next(iter(olds)).account, next(iter(news)).account
    since = min(scope.born_at for scope in news)
    last = max((scope.last_success_at for scope in olds if scope.last_success_at is not None), default=None)
    reason = ""
    if last is not None and last > since:
        reason = (
            f'and for "{old}" until {last:%Y-%m-%d %H:%M} UTC: accounts that were polled at the same time are '
            "different accounts, each with its own counters"
        )
    elif any(not scope.active for scope in news):
        reason = f'from sources that it no longer polls, so it is unknown which of them continue those of "{old}"'
    elif int(schema.read(connection, schema.HORIZON) or 0) > hour_number(hour_of(since)):
        reason = f'longer than it keeps single hours, so they cannot be compared with those of "{old}"'
    if reason:
        raise LedgerError(
            f'the ledger {shown(url)} has counted for "{new}" since {since:%Y-%m-%d %H:%M} UTC, {reason}; nothing was '
            f'changed. Keep the name "{new}", whose counters continue'
        )


def _replay(ledger: Ledger, connection: Connection, clock: _At, old: str, news: Iterable[Scope]) -> None:
    """Restate on the old name what was polled under the new one, when it was polled."""
    known = dict(ledger.dimensions())
    for born_at in sorted({scope.born_at for scope in news}):
        clock.now = born_at
        ledger.activate({old: [scope.source for scope in news if scope.born_at <= born_at]})
    for scope in news:
        for window, is_complete in _observed(connection, scope):
            cells = rows.read_cells(connection, scope.id, hour_number(window.start), hour_number(window.end))
            charges = [
                Charge(hour_start(hour), known[series]._replace(account=old), Amounts(*amounts))
                for hour, series, *amounts in sorted(cells)
            ]
            at = max(scope.last_success_at or window.end, window.end) if is_complete else window.start
            ledger.restate(old, scope.source, window, charges, at=at)


def _observed(connection: Connection, scope: Scope) -> Iterator[tuple[Window, bool]]:
    """Yield the hours that a source has covered, in windows, each with whether all of it was covered after its end."""
    observed = sorted(rows.read_observed(connection, scope.id, 0, _NO_END).items())
    runs = groupby(
        enumerate(observed), key=lambda item: (item[1][0] - item[0], item[1][1], (item[1][0]) // _PIECE_HOURS)
    )
    for (_, is_complete, _), run in runs:
        hours = [hour for _, (hour, _) in run]
        if is_complete:
            yield Window(hour_start(hours[0]), hour_start(hours[-1]) + HOUR), True
        else:
            # Each alone: an hour is left incomplete by a poll that began in it.
            yield from ((Window(hour_start(hour), hour_start(hour) + HOUR), False) for hour in hours)


def _join_scopes(connection: Connection, old: str, news: Iterable[Scope]) -> None:
    """Remove what was polled under the new name, which has been replayed; keep what only that knows of its hours."""
    targets = {scope.source: scope for scope in rows.read_scopes(connection) if scope.account == old}
    for scope in news:
        target = targets[scope.source]
        covered = select(schema.observed_hours.c.hour).where(schema.observed_hours.c.scope_id == scope.id)
        replayed = {
            *(schema.charges, schema.span_totals, schema.series, schema.observed_hours),
            machines.state_hours,
        }
        for table in schema.metadata.sorted_tables:
            if "scope_id" in table.columns and table not in replayed:
                at = table.c.scope_id
                connection.execute(table.delete().where(at == target.id, table.c.hour.in_(covered)))
                connection.execute(table.update().where(at == scope.id), {"scope_id": target.id})
        machines.move_splits(connection, scope.id, target.id)
        for table in reversed([item for item in schema.metadata.sorted_tables if item in replayed]):
            connection.execute(table.delete().where(table.c.scope_id == scope.id))
        connection.execute(schema.scopes.delete().where(schema.scopes.c.id == scope.id))
        rows.write_scope(
            connection,
            replace(
                target,
                last_success_at=_latest(target.last_success_at, scope.last_success_at),
                settled_through=_latest(target.settled_through, scope.settled_through),
                restated_up=max(target.restated_up, scope.restated_up),
                restated_down=max(target.restated_down, scope.restated_down),
                restated_hours=max(target.restated_hours, scope.restated_hours),
                relabelled=max(target.relabelled, scope.relabelled),
                detail=scope.detail or target.detail,
                detail_asked_at=_latest(target.detail_asked_at, scope.detail_asked_at),
                detail_version=scope.detail_version or target.detail_version,
            ),
        )


def _join_counters(
    connection: Connection, labels: LabelValues, old: str, new: str, before: Mapping[CounterKey, Counter]
) -> int:
    """Have the counters of the old name go on from those of the new name where there are any; return how many.

    Args:
        connection: in the transaction; nothing refers to the label sets of the new name any more.
        labels: the names of the ledger's labels.
        old: the old name.
        new: the new name.
        before: all counters as they were before the replay.
    """
    sets = rows.read_label_sets(connection)
    counters = rows.read_counters(connection)
    twins = {values: number for number, values in sets.items()}
    joined: dict[CounterKey, Counter] = {}
    for number, values in sets.items():
        twin = twins.get(_renamed(values, labels, old, new))
        if twin is None or twin == number:
            continue
        for key, counter in counters.items():
            if key.label_set == twin:
                its = key._replace(label_set=number)
                joined[its] = _continued(counter, counters.get(its), before.get(its))
        connection.execute(schema.counters.delete().where(schema.counters.c.label_set_id == twin))
        connection.execute(schema.label_sets.delete().where(schema.label_sets.c.id == twin))
    rows.write_counters(connection, counters, joined)
    return len(joined)


def _continued(published: Counter, whole: Counter | None, before: Counter | None) -> Counter:
    """Return a counter of the new name that tells what that of the old name has not told.

    Args:
        published: as the new name has published it.
        whole: the counter of the old name, all that was polled under the new one included.
        before: the counter of the old name as it was published last.
    """
    if whole is None:
        return published
    grown = whole.grown - (0 if before is None else before.published)
    shown = max(published.published, grown) if published.released else published.published
    return published._replace(grown=grown, published=shown)


def _rename(connection: Connection, labels: LabelValues, old: str, new: str) -> None:
    """Write the new name wherever the ledger has the old one; of two records of one thing the newer stays."""
    connection.execute(schema.scopes.update().where(schema.scopes.c.account == old), {"account": new})
    _rename_prices(connection, old, new)
    for table in schema.metadata.sorted_tables:
        if "account" not in table.columns or table in {schema.scopes, schema.unit_prices}:
            continue
        if table is schema.key_owners:
            # Whose the key is, is asked anew: fal, too, may have renamed the account.
            connection.execute(table.delete().where(table.c.account.in_((old, new))))
        elif table is schema.source_probes:
            # What the sources were chosen by was asked under the old name.
            asked = table.alias()
            is_known = exists(select(asked).where(asked.c.account == old))
            connection.execute(table.delete().where(table.c.account == new, is_known))
        else:
            twin = table.alias()
            same: list[ColumnElement[bool]] = [
                twin.c[column.name] == column for column in table.primary_key.columns if column.name != "account"
            ]
            is_newer = exists(select(twin).where(and_(twin.c.account == new, *same)))
            connection.execute(table.delete().where(table.c.account == old, is_newer))
        connection.execute(table.update().where(table.c.account == old), {"account": new})
    renamed = {
        number: _renamed(values, labels, old, new) for number, values in rows.read_label_sets(connection).items()
    }
    rows.rename_label_sets(connection, renamed)
    _rename_machines(connection, old, new)
    remote.begin_labels_anew(connection)
    revision = str(int(schema.read(connection, schema.REVISION) or 0) + 1)
    schema.write(connection, schema.REVISION, revision)
    schema.write(connection, schema.CHARGES_REVISION, revision)


def _rename_machines(connection: Connection, old: str, new: str) -> None:
    """Publish what is divided by state under the new name; where that has published some, its counters go on."""
    known = machines.read_series(connection)
    twins = {values: number for number, values in known.items()}
    names = STATE_LABELS.names
    for number, values in known.items():
        renamed = _renamed(values, names, old, new)
        twin = twins.get(renamed)
        if renamed == values or twin is None:
            machines.rename_series(connection, {number: renamed})
        else:
            machines.join_series(connection, number, twin)


def _rename_prices(connection: Connection, old: str, new: str) -> None:
    found = read_prices(connection)
    joined: dict[tuple[str, ...], PriceRecord] = {}
    for name in (old, new):
        for item, record in found.items():
            if item[0] == name:
                renamed = record._replace(newest=record.newest._replace(account=new))
                known = joined.get(renamed.newest[:6])
                joined[renamed.newest[:6]] = renamed if known is None else _joined_prices(known, renamed)
    connection.execute(schema.unit_prices.delete().where(schema.unit_prices.c.account.in_((old, new))))
    write_prices(connection, {}, joined.values())


def _joined_prices(known: PriceRecord, later: PriceRecord) -> PriceRecord:
    """Return a record after all that another has seen: the changes it saw, and the one between the two."""
    joined = known.after(later.newest)
    if later.price_changed is not None and later.price_changed > known.newest.hour:
        joined = joined._replace(previous_price=later.previous_price, price_changed=later.price_changed)
    if later.discount_changed is not None and later.discount_changed > known.newest.hour:
        joined = joined._replace(previous_discount=later.previous_discount, discount_changed=later.discount_changed)
    return joined._replace(former=_joined_former(known, later))


def _joined_former(known: PriceRecord, later: PriceRecord) -> tuple[Former, ...]:
    """Return what held before the newest price of both: what the later record began with comes after the other's."""
    end = known.newest.hour
    if later.newest.hour <= end:
        return known.former
    after = tuple(one for one in later.former if one.until > end)
    first = later.newest
    for one in reversed(after):
        first = first._replace(
            price=first.price if one.price is None else one.price,
            discount=first.discount if one.discount is None else one.discount,
        )
    return known.after(first._replace(hour=end + HOUR)).former + after


def _renamed(values: LabelValues, labels: LabelValues, old: str, new: str) -> LabelValues:
    place = labels.index("account")
    return (*values[:place], new, *values[place + 1 :]) if values[place] == old else values


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    known = [item for item in (one, other) if item is not None]
    return max(known, default=None)
