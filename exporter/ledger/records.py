"""Balances and invoices: what fal states, kept as it was stated last."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, select

from exporter.charges import Balance, Invoice
from exporter.ledger.schema import balances, invoices

_BALANCE_PAUSE = timedelta(hours=1)
"""An unchanged balance is noted again after this time, so that a history without a change is no gap."""


def write_balance(connection: Connection, known: Balance | None, balance: Balance) -> bool:
    """Note a balance, one that has not changed only once an hour; return whether it was noted."""
    if known is not None and known.amount == balance.amount and abs(balance.at - known.at) < _BALANCE_PAUSE:
        return False
    connection.execute(balances.delete().where(balances.c.account == balance.account, balances.c.at == balance.at))
    connection.execute(balances.insert(), {"account": balance.account, "at": balance.at, "amount": balance.amount})
    return True


def forget_balances_before(connection: Connection, horizon: datetime) -> None:
    """Forget the balances before the retention's horizon, but for the newest of every account."""
    for balance in read_balances(connection).values():
        connection.execute(
            balances.delete().where(balances.c.account == balance.account, balances.c.at < min(horizon, balance.at))
        )


def read_balances(connection: Connection) -> dict[str, Balance]:
    """Return the newest balance of every account."""
    newest = select(balances.c.account, func.max(balances.c.at).label("at")).group_by(balances.c.account).subquery()
    rows = connection.execute(
        select(balances.c.account, balances.c.amount, balances.c.at).join(
            newest, and_(balances.c.account == newest.c.account, balances.c.at == newest.c.at)
        )
    )
    return {row.account: Balance(row.account, row.amount, row.at) for row in rows}


def read_balance_history(connection: Connection, account: str, since: datetime) -> list[Balance]:
    """Return the balances of an account that were noted from an instant on, oldest first."""
    rows = connection.execute(
        select(balances.c.account, balances.c.amount, balances.c.at)
        .where(balances.c.account == account, balances.c.at >= since)
        .order_by(balances.c.at)
    )
    return [Balance(row.account, row.amount, row.at) for row in rows]


def write_invoices(connection: Connection, account: str, stated: Collection[Invoice]) -> None:
    """Save invoices as fal states them now; those it no longer lists are kept."""
    by_id = {it.id: it for it in stated}
    connection.execute(invoices.delete().where(invoices.c.account == account, invoices.c.id.in_(by_id)))
    if by_id:
        connection.execute(
            invoices.insert(),
            [{column.name: getattr(it, column.name) for column in invoices.columns} for it in by_id.values()],
        )


def read_invoices(connection: Connection) -> list[Invoice]:
    """Return all invoices, newest first."""
    rows = connection.execute(select(invoices).order_by(invoices.c.period_start.desc(), invoices.c.id))
    return [Invoice(**row) for row in rows.mappings()]
