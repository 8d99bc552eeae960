"""What the ledger has charged in a window, read beside a running exporter without ever making it wait.

All that is read is of one instant, and is streamed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from exporter.charges import Amounts, Charge, Dimensions, UnitPrice, Window
from exporter.ledger import facts
from exporter.ledger.prices import read_prices
from exporter.ledger.reading import reading
from exporter.ledger.schema import (
    DIMENSIONS,
    MEASURES,
    charges,
    hour_number,
    hour_start,
    observed_hours,
    scopes,
    series,
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a window the ledger can vouch for.

    Attributes:
        kept_from: the first hour whose charges are kept one by one, None where all are.
        missing: hours of the window, summed over sources, that no poll has covered to their end.
    """

    kept_from: datetime | None
    missing: int


class Statement:
    """One state of the ledger, as long as its transaction is open."""

    def __init__(self, connection: Connection, account: str | None) -> None:
        self._connection = connection
        found = connection.execute(select(scopes.c.id, scopes.c.account).where(scopes.c.active)).all()
        self._accounts = {row[0]: str(row[1]) for row in found if account in {None, row[1]}}

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that the ledger counts, or the one that was asked for if it does."""
        return tuple(dict.fromkeys(self._accounts.values()))

    def charges(self, window: Window) -> Iterator[Charge]:
        """Yield the charges of a window in the order of their hours; sources that are no longer polled are left out."""
        named = {
            row[0]: Dimensions(self._accounts[row[1]], *row[2:])
            for row in self._connection.execute(
                select(series.c.id, series.c.scope_id, *(series.c[name] for name in DIMENSIONS)).where(
                    series.c.scope_id.in_(self._accounts)
                )
            )
        }
        amounts = [charges.c[name] for name in MEASURES]
        rows = self._connection.execute(
            select(charges.c.hour, charges.c.series_id, *amounts)
            .where(
                charges.c.scope_id.in_(self._accounts),
                charges.c.hour >= hour_number(window.start),
                charges.c.hour < hour_number(window.end),
            )
            .order_by(charges.c.hour, charges.c.scope_id, charges.c.series_id)
        )
        for row in rows:
            yield Charge(hour_start(row[0]), named[row[1]], Amounts(*row[2:]))

    def prices(self) -> Mapping[tuple[str, ...], UnitPrice]:
        """Return the newest unit prices."""
        return {item: record.newest for item, record in read_prices(self._connection).items()}

    def coverage(self, window: Window) -> Coverage:
        """Tell what the ledger may lack of a window."""
        horizon = int(facts.read(self._connection, facts.HORIZON) or 0)
        seen = self._connection.scalar(
            select(func.count())
            .select_from(observed_hours)
            .where(
                observed_hours.c.scope_id.in_(self._accounts),
                observed_hours.c.hour >= hour_number(window.start),
                observed_hours.c.hour < hour_number(window.end),
                observed_hours.c.complete,
            )
        )
        missing = len(window) * len(self._accounts) - (seen or 0)
        return Coverage(hour_start(horizon) if horizon else None, missing)


@contextmanager
def open_statement(address: str, account: str | None = None) -> Iterator[Statement]:
    """Open the ledger to read one state of it: of all accounts, or of one.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    with reading(address) as connection:
        yield Statement(connection, account)
