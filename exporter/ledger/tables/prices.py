"""Unit prices in the database and as published: the newest price and discount, their last change, and those before."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, select

from exporter.charges import UnitPrice, hour_number, hour_start
from exporter.ledger.tables.schema import unit_prices
from exporter.samples import PagedTable, Pages, Sample

Item = tuple[str, ...]
"""Key of a price: account, product, model, app, gpu_class and unit."""

_ITEM = UnitPrice._fields[:6]


_MOST_FORMER = 100
"""Changes of an item that are remembered; one whose price changes more often has no price worth stating."""


class Former(NamedTuple):
    """Price and discount of an item before an hour; None for the one that did not change then."""

    until: datetime
    price: int | None
    discount: int | None


class PriceRecord(NamedTuple):
    """The newest price of an item, and how it and its discount changed, if they have been seen to.

    Attributes:
        price_changed: the hour of the charge that showed another price than before; likewise the discount.
        former: all that held before, the oldest first.
    """

    newest: UnitPrice
    previous_price: int | None = None
    price_changed: datetime | None = None
    previous_discount: int | None = None
    discount_changed: datetime | None = None
    former: tuple[Former, ...] = ()

    def after(self, seen: UnitPrice) -> "PriceRecord":
        """Return the record after a price has been seen; one of an earlier hour changes nothing."""
        if seen.hour < self.newest.hour:
            return self
        changed, newest = self._replace(newest=seen), self.newest
        price = newest.price if seen.price != newest.price else None
        discount = newest.discount if seen.discount != newest.discount else None
        if price is not None:
            changed = changed._replace(previous_price=price, price_changed=seen.hour)
        if discount is not None:
            changed = changed._replace(previous_discount=discount, discount_changed=seen.hour)
        if price is not None or discount is not None:
            former = (*self.former, Former(seen.hour, price, discount))
            changed = changed._replace(former=former[-_MOST_FORMER:])
        return changed

    @property
    def former_text(self) -> str:
        """Former prices and discounts, as the database keeps them."""
        return json.dumps([(hour_number(one.until), one.price, one.discount) for one in self.former])

    def with_former(self, text: str) -> "PriceRecord":
        """Return the record with what held before; of a ledger that was migrated, no more than the last changes."""
        if text:
            found = [Former(hour_start(hour), price, discount) for hour, price, discount in json.loads(text)]
        else:
            price, discount = self.price_changed, self.discount_changed
            found = [Former(price, self.previous_price, None)] if price is not None else []
            found += [Former(discount, None, self.previous_discount)] if discount is not None else []
            found.sort(key=_until)
        return self._replace(former=tuple(found))


def _until(former: Former) -> datetime:
    return former.until


_SHOWN = ("previous_price", "price_changed", "previous_discount", "discount_changed")


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
        row = newest._asdict() | {name: getattr(record, name) for name in _SHOWN} | {"former": record.former_text}
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
        record = PriceRecord(newest, *(row[name] for name in _SHOWN))
        found[newest[:6]] = record.with_former(row["former"])
    return found


class PriceTables:
    """The records laid out on pages; instants in seconds since 1970."""

    def __init__(self) -> None:
        self._tables: dict[str, PagedTable[Item]] = {name: PagedTable() for name in ("price", "discount", *_SHOWN)}

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
