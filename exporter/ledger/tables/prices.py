"""Unit prices in the database and as published: the newest price and discount, and their last change."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, select

from exporter.charges import UnitPrice
from exporter.ledger.tables.schema import unit_prices
from exporter.samples import PagedTable, Pages, Sample

Item = tuple[str, ...]
"""Key of a price: account, product, model, app, gpu_class and unit."""

_ITEM = UnitPrice._fields[:6]


class PriceRecord(NamedTuple):
    """The newest price of an item, and how it and its discount changed last, if they have been seen to.

    Attributes:
        price_changed: the hour of the charge that showed another price than before; likewise the discount.
    """

    newest: UnitPrice
    previous_price: int | None = None
    price_changed: datetime | None = None
    previous_discount: int | None = None
    discount_changed: datetime | None = None

    def after(self, seen: UnitPrice) -> "PriceRecord":
        """Return the record after a price has been seen; one of an earlier hour changes nothing."""
        if seen.hour < self.newest.hour:
            return self
        changed = self._replace(newest=seen)
        if seen.price != self.newest.price:
            changed = changed._replace(previous_price=self.newest.price, price_changed=seen.hour)
        if seen.discount != self.newest.discount:
            changed = changed._replace(previous_discount=self.newest.discount, discount_changed=seen.hour)
        return changed


def news(known: Mapping[Item, PriceRecord], seen: Iterable[UnitPrice]) -> dict[Item, PriceRecord]:
    """Return the records that the prices seen make new or other ones."""
    found: dict[Item, PriceRecord] = {}
    for price in seen:
        item = price[:6]
        before = found.get(item) or known.get(item)
        record = PriceRecord(price) if before is None else before.after(price)
        if record != before:
            found[item] = record
    return found


def write_prices(connection: Connection, known: Mapping[Item, PriceRecord], records: Iterable[PriceRecord]) -> None:
    """Save records."""
    for record in records:
        newest = record.newest
        row = newest._asdict() | record._asdict()
        del row["newest"]
        if newest[:6] in known:
            at = and_(*(unit_prices.c[name] == getattr(newest, name) for name in _ITEM))
            connection.execute(unit_prices.update().where(at), row)
        else:
            connection.execute(unit_prices.insert(), row)


def read_prices(connection: Connection) -> dict[Item, PriceRecord]:
    """Return the records of all items."""
    found: dict[Item, PriceRecord] = {}
    for row in connection.execute(select(unit_prices)).mappings():
        newest = UnitPrice(*(row[name] for name in UnitPrice._fields))
        found[newest[:6]] = PriceRecord(newest, *(row[name] for name in PriceRecord._fields[1:]))
    return found


class PriceTables:
    """The records laid out on pages; instants in seconds since 1970."""

    def __init__(self) -> None:
        self._tables: dict[str, PagedTable[Item]] = {
            name: PagedTable() for name in ("price", "discount", *PriceRecord._fields[1:])
        }

    def show(self, records: Mapping[Item, PriceRecord], accounts: Collection[str]) -> None:
        """Show the records of these accounts and no others."""
        shown = {item: record for item, record in records.items() if record.newest.account in accounts}
        for name, table in self._tables.items():
            figures = {item: _figure(record, name) for item, record in shown.items()}
            table.replace_all({item: Sample(item, figure) for item, figure in figures.items() if figure is not None})

    def note(self, records: Mapping[Item, PriceRecord], accounts: Collection[str]) -> None:
        """Show records that are new or have changed, where they are of these accounts; the others stay."""
        for item, record in records.items():
            if record.newest.account in accounts:
                for name, table in self._tables.items():
                    figure = _figure(record, name)
                    if figure is not None:
                        table.put(item, Sample(item, figure))

    def pages(self, name: str) -> Pages:
        """Return the table of `price`, `discount` or a field of `PriceRecord`."""
        return self._tables[name].pages()


def _figure(record: PriceRecord, name: str) -> int | float | None:
    found: int | datetime | None = getattr(record.newest if name in UnitPrice._fields else record, name)
    return found.timestamp() if isinstance(found, datetime) else found
