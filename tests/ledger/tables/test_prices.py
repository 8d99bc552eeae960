from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from exporter.charges import HOUR, NANO, UnitPrice
from exporter.ledger import Ledger, LedgerView
from exporter.ledger.export import open_statement
from exporter.ledger.tables.prices import Former, Item, PriceRecord, PriceTables, news

OpenLedger = Callable[..., Ledger]
TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)


def price(hour: datetime, amount: int, discount: int = 0) -> UnitPrice:
    return UnitPrice("prod", "model_apis", "fal-ai/flux/dev", "", "", "image", hour, amount, discount)


def shown(view: LedgerView) -> Iterator[list[float]]:
    for table in (
        *(view.unit_prices, view.previous_prices, view.price_changes),
        *(view.discounts, view.previous_discounts, view.discount_changes),
    ):
        yield [sample.value for page in table for sample in page.samples]


def test_a_price_that_has_not_changed_has_no_previous_one(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    ledger.record_prices([price(TEN, 5)])
    ledger.record_prices([price(TEN + HOUR, 5)])
    assert list(shown(ledger.view())) == [[5], [], [], [0], [], []]


def test_a_price_and_a_discount_remember_their_last_change_each(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    for seen in (
        price(TEN, 5),
        price(TEN + HOUR, 6),
        price(TEN + 2 * HOUR, 6, 10 * NANO),
        price(TEN + 3 * HOUR, 7, 10 * NANO),
    ):
        ledger.record_prices([seen])
    expected = [[7], [6], [(TEN + 3 * HOUR).timestamp()], [10 * NANO], [0], [(TEN + 2 * HOUR).timestamp()]]
    assert list(shown(ledger.view())) == expected
    ledger.close()
    again = open_ledger()
    again.activate({"prod": ["models"]})
    assert list(shown(again.view())) == expected


def test_new_prices_of_one_account_of_many_leave_the_pages_of_others_and_accounts_not_shown_stay_hidden() -> None:
    tables = PriceTables()
    records: dict[Item, PriceRecord] = {}
    for number in range(200):
        new = news(records, [price(TEN, 5)._replace(account=f"account-{number}", model=f"m{m}") for m in range(20)])
        records.update(new)
        tables.note(new, [f"account-{number}" for number in range(1, 200)])
    before = tables.pages("price")
    assert sum(len(page.samples) for page in before) == 199 * 20, "account-0 is not configured"
    changed = news(records, [price(TEN + HOUR, 6)._replace(account="account-7", model=f"m{m}") for m in range(20)])
    records.update(changed)
    tables.note(changed, [f"account-{number}" for number in range(1, 200)])
    assert sum(old is not new for old, new in zip(before, tables.pages("price"), strict=True)) <= 2
    whole = PriceTables()
    whole.show(records, [f"account-{number}" for number in range(1, 200)])
    for name in ("price", "previous_price", "price_changed", "discount"):
        noted, shown_anew = ({sample for page in of.pages(name) for sample in page.samples} for of in (tables, whole))
        assert noted == shown_anew


def test_a_price_of_an_earlier_hour_tells_nothing_new() -> None:
    record = PriceRecord(price(TEN, 5))
    assert record.after(price(TEN - timedelta(days=2), 9)) == record
    assert news({record.newest[:6]: record}, [price(TEN - HOUR, 9)]) == {}


def test_several_prices_of_one_reading_are_taken_in_their_order() -> None:
    found = news({}, [price(TEN, 5), price(TEN + HOUR, 6)])
    former = (Former(TEN + HOUR, 5, None),)
    expected = PriceRecord(price(TEN + HOUR, 6), previous_price=5, price_changed=TEN + HOUR, former=former)
    assert list(found.values()) == [expected]


def test_of_a_ledger_that_has_kept_no_more_the_last_changes_are_all_that_held_before() -> None:
    newest = price(TEN + 2 * HOUR, 6)
    record = PriceRecord(newest, 5, price_changed=TEN + 2 * HOUR, previous_discount=NANO, discount_changed=TEN + HOUR)
    known = record.with_former("")
    assert known.former == (Former(TEN + HOUR, None, NANO), Former(TEN + 2 * HOUR, 5, None))
    assert record.with_former(known.former_text) == known
    assert PriceRecord(newest).with_former("").former == ()


def test_all_that_held_before_is_kept_but_no_more_than_a_hundred_changes(address: str, open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    for number in range(150):
        ledger.record_prices([price(TEN + number * HOUR, number, (number // 2) * NANO)])
    ledger.close()
    with open_statement(address) as statement:
        (record,) = statement.prices().values()
    assert len(record.former) == 100
    assert record.former[0] == Former(TEN + 50 * HOUR, 49, 24 * NANO)
    assert record.former[-1] == Former(TEN + 149 * HOUR, 148, None)
