"""The sums of the reader, held against adding up every charge."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.charges import HOUR, SURGE, Amounts, Charge, Dimensions, Invoice, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Rules
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.database import NoLedgerError
from exporter.ledger.tables.span_totals import MACHINE_SECOND, Bucket, UsageSum

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
START = datetime(2026, 10, 1, tzinfo=UTC)
SOURCES = {"a": ("models", "serverless"), "b": ("reporting",)}
KINDS = [
    Dimensions("a", "red", "model_apis", "flux", unit="image", api_key="k1"),
    Dimensions("a", "red", "model_apis", "flux", unit="megapixel", api_key="k2"),
    Dimensions("a", "blue", "model_apis", "kling", gpu_class="H100", unit="second"),
    Dimensions("a", "", "serverless", "", "shop", "prod", "H100", "second"),
    Dimensions("a", "", "serverless", "", "shop", "prod", "H100", "second", surge=SURGE),
    Dimensions("b", "", "model_apis", "flux", unit="image"),
]
NAMES = Dimensions._fields
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Pacific/Auckland")

amount = st.one_of(st.integers(0, 50), st.integers(0, 2**62))
cells = st.dictionaries(
    st.tuples(st.one_of(st.integers(0, 72), st.integers(0, 50 * 24)), st.sampled_from(KINDS)),
    st.builds(Amounts, amount, amount, amount, amount, amount),
    max_size=30,
)
windows = st.tuples(st.integers(-30, 1230), st.one_of(st.integers(1, 60), st.integers(1, 1300))).map(
    lambda item: Window(START + item[0] * HOUR, START + (item[0] + item[1]) * HOUR)
)
filters = st.dictionaries(
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(["a", "b", "red", "", "flux", "shop", "second", "H100", "k1", SURGE]), max_size=3),
    max_size=2,
)


@dataclass
class Book:
    """A ledger and what was written into it."""

    address: str
    charges: list[Charge]


def write(address: str, stated: Mapping[tuple[int, Dimensions], Amounts]) -> Book:
    """Make the ledger hold these charges and no others."""
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate(SOURCES)
    charges = [Charge(START + place * HOUR, kind, amounts) for (place, kind), amounts in stated.items()]
    for source in ("models", "serverless", "reporting"):
        account = "b" if source == "reporting" else "a"
        its = [
            charge
            for charge in charges
            if charge.dimensions.account == account and (charge.dimensions.app != "") == (source == "serverless")
        ]
        ledger.restate(account, source, Window(START, START + 1300 * HOUR), its, at=NOW)
    ledger.close()
    return Book(address, charges)


def usage(
    reader: LedgerReader,
    window: Window,
    by: Sequence[str],
    every: Bucket | None = None,
    *,
    zone: ZoneInfo | None = None,
    where: Mapping[str, Collection[str]] | None = None,
) -> tuple[UsageSum, ...]:
    with reader.snapshot() as snapshot:
        return snapshot.usage(window, by, every, zone=zone, where=where or {})


def naive(  # noqa: PLR0917  as the reader is asked
    charges: Sequence[Charge],
    window: Window,
    by: Sequence[str],
    every: Bucket | None,
    zone: ZoneInfo,
    where: Mapping[str, Collection[str]],
) -> tuple[UsageSum, ...]:
    amounts: dict[tuple[datetime | None, tuple[str, ...]], Amounts] = defaultdict(Amounts)
    quantities: dict[tuple[datetime | None, tuple[str, ...]], dict[str, int]] = defaultdict(dict)
    for hour, dimensions, charged in charges:
        if hour not in window or any(getattr(dimensions, name) not in wanted for name, wanted in where.items()):
            continue
        if charged == Amounts():
            continue
        key = (bucket_of(hour, window, every, zone), tuple(getattr(dimensions, name) for name in by))
        amounts[key] = amounts[key].plus(charged._replace(quantity=0))
        if charged.quantity:
            is_machine = dimensions.product == "serverless" and dimensions.unit == "second"
            unit = MACHINE_SECOND if is_machine else dimensions.unit
            quantities[key][unit] = quantities[key].get(unit, 0) + charged.quantity
    found = [UsageSum(*key, total, quantities[key]) for key, total in amounts.items()]
    return tuple(sorted(found, key=lambda item: (item.at or START, item.group)))


def bucket_of(hour: datetime, window: Window, every: Bucket | None, zone: ZoneInfo) -> datetime | None:
    """Return the first hour of the window that is in the same bucket."""
    if every is None:
        return None
    name = {"hour": "%c %z", "day": "%Y-%m-%d", "month": "%Y-%m"}[every]
    if every == "hour":
        return hour
    here = hour.astimezone(zone).strftime(name)
    while hour - HOUR in window and (hour - HOUR).astimezone(zone).strftime(name) == here:
        hour -= HOUR
    return hour


@given(data=st.data(), stated=cells)
@settings(
    max_examples=examples(4, long=40),
    suppress_health_check=list(HealthCheck),
)
def test_the_sums_are_those_of_every_charge(
    new_address: Callable[[], str], data: st.DataObject, stated: dict[tuple[int, Dimensions], Amounts]
) -> None:
    book = write(new_address(), stated)
    # Hypothesis ends an example from within a draw: the reader is closed then, too.
    with closing(LedgerReader(book.address)) as reader:
        for _ in range(6):
            window = data.draw(windows)
            by = data.draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
            every: Bucket | None = data.draw(st.sampled_from([None, "day", "month", "hour"]))
            zone = ZoneInfo(data.draw(st.sampled_from(ZONES)))
            where = data.draw(filters)
            told = usage(reader, window, by, every, zone=zone, where=where)
            assert told == naive(book.charges, window, by, every, zone, where)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def new_address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('reader') / 'ledger.sqlite'}"
    made: Callable[[], str] = request.getfixturevalue("empty_postgresql")
    return made


@pytest.fixture
def reader(address: str) -> Iterator[LedgerReader]:
    found = LedgerReader(address)
    yield found
    found.close()


def test_a_ledger_that_does_not_exist_yet_is_read_once_it_does(address: str, reader: LedgerReader) -> None:
    with pytest.raises(NoLedgerError, match="serve creates it"):
        reader.revision()
    with pytest.raises(NoLedgerError, match="serve creates it"), reader.snapshot():
        pass
    write(address, {(5, KINDS[0]): Amounts(1, 0, 9, 0, 9)})
    assert [item.amounts.cost for item in usage(reader, Window(START, START + 24 * HOUR), ["model"])] == [9]
    with reader.snapshot() as snapshot:
        scopes = snapshot.scopes()
    assert {(scope.account, scope.source) for scope in scopes} == {
        ("a", "models"),
        ("a", "serverless"),
        ("b", "reporting"),
    }


def test_a_ledger_in_the_place_of_another_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    reader = LedgerReader(f"sqlite:///{path}")
    seen = set()
    for cost in (7, 8):
        for file in tmp_path.glob("ledger.sqlite*"):
            file.unlink()
        write(f"sqlite:///{path}", {(5, KINDS[0]): Amounts(1, 0, cost, 0, cost)})
        assert [item.amounts.cost for item in usage(reader, Window(START, START + 24 * HOUR), [])] == [cost]
        seen.add(reader.revision())
    reader.close()


def test_the_revision_changes_with_everything_that_can_be_asked(address: str, reader: LedgerReader) -> None:
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate(SOURCES)
    seen = [reader.revision()]
    assert reader.revision() == seen[0]
    window = Window(hour_of(NOW) - HOUR, hour_of(NOW))
    ledger.restate("b", "reporting", window, [Charge(window.start, KINDS[5], Amounts(cost=1))], at=NOW)
    seen.append(reader.revision())
    ledger.record_invoices("b", [invoice()])
    seen.append(reader.revision())
    ledger.fold_before(NOW - timedelta(days=70))
    seen.append(reader.revision())
    ledger.close()
    assert len(set(seen)) == 4
    with reader.snapshot() as snapshot:
        assert snapshot.invoices() == (invoice(),)
        assert snapshot.kept_from() == hour_of(NOW - timedelta(days=70)) + HOUR


def invoice() -> Invoice:
    return Invoice("b", "in_1", "F-1", "open", START, NOW, NOW, None, "USD", 5, 0, 0, 5)


def test_sources_that_are_no_longer_polled_do_not_count(address: str, reader: LedgerReader) -> None:
    write(address, {(5, KINDS[0]): Amounts(1, 0, 9, 0, 9), (5, KINDS[5]): Amounts(1, 0, 1, 0, 1)})
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"a": ("organization",), "b": SOURCES["b"]})
    told = usage(reader, Window(START, START + 24 * HOUR), ["account"])
    assert [(item.group, item.amounts.cost) for item in told] == [(("b",), 1)]
    ledger.activate({"a": ("organization",)})
    ledger.close()
    assert usage(reader, Window(START, START + 24 * HOUR), ["account"]) == ()


def test_several_threads_ask_at_once_while_the_ledger_is_written(address: str, reader: LedgerReader) -> None:
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"b": ("reporting",)})
    window = Window(hour_of(NOW) - 48 * HOUR, hour_of(NOW))
    stated = [Charge(hour, KINDS[5], Amounts(cost=1)) for hour in window.hours()]

    def ask(_: int) -> int:
        return sum(item.amounts.cost for item in usage(reader, window, ["model"]))

    with ThreadPoolExecutor(4) as threads:
        answers = []
        for turn in range(6):
            waiting = threads.map(ask, range(8))
            ledger.restate("b", "reporting", window, stated if turn % 2 == 0 else [], at=NOW)
            answers += list(waiting)
    ledger.close()
    assert set(answers) <= {0, 48}, "every answer is of one instant"
    assert sum(answers) > 0


def test_a_file_that_is_no_ledger_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, but long enough to be taken for the header of one")
    reader = LedgerReader(f"sqlite:///{path}")
    with pytest.raises(LedgerError, match="not a SQLite database"):
        reader.revision()
    reader.close()
