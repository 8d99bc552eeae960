"""The sums in a reader's memory: always those of the database, whatever has changed since they were read."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples
from sqlalchemy import Connection, Executable

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window
from exporter.ledger import Ledger, Rules, day_sums
from exporter.ledger.reader import LedgerReader, LedgerSnapshot
from exporter.ledger.tables import schema
from exporter.ledger.tables.span_totals import Bucket, UsageSum

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
START = datetime(2026, 9, 22, tzinfo=UTC)
DAYS = 12
KINDS = [
    Dimensions("a", team, "model_apis", model, unit=unit)
    for team in ("red", "blue")
    for model in ("flux", "kling", "veo")
    for unit in ("image", "second")
]
EVERY: tuple[Bucket | None, ...] = (None, "day")
SOURCE_OF = {"a": "models", "b": "reporting"}


class Question(NamedTuple):
    """First hour, hours, dimensions to group by, buckets, zone and filters."""

    first: int
    length: int
    by: Sequence[str]
    every: Bucket | None = None
    zone: str = "UTC"
    where: Mapping[str, Collection[str]] = MappingProxyType({})


hours = st.integers(0, DAYS * 24)
amount = st.one_of(st.just(0), st.integers(-50, 50), st.integers(-(10**12), 10**12))
amounts = st.builds(Amounts, *(amount for _ in range(5)))
stated = st.dictionaries(st.tuples(hours, st.sampled_from(KINDS)), amounts, max_size=40)
changes = st.tuples(st.sampled_from(["a", "b"]), hours, st.integers(1, 60), stated)
questions = st.builds(
    Question,
    hours,
    st.integers(1, 24 * DAYS),
    st.lists(st.sampled_from(["model", "team", "unit", "account"]), unique=True, max_size=3),
    st.sampled_from([None, "day", "month"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"]),
    st.dictionaries(
        st.sampled_from(["account", "team", "model"]), st.sets(st.sampled_from(["a", "red", "flux", "veo"])), max_size=2
    ),
)
steps = st.lists(st.one_of(changes, questions, questions, st.just("fold")), min_size=4, max_size=20)


def hour(number: int) -> datetime:
    return START + number * HOUR


def change(
    ledger: Ledger, account: str, first: int, length: int, its: Mapping[tuple[int, Dimensions], Amounts]
) -> None:
    window = Window(hour(first), hour(first + length))
    charges = [
        Charge(hour(at), kind._replace(account=account), charged)
        for (at, kind), charged in its.items()
        if hour(at) in window
    ]
    ledger.restate(account, SOURCE_OF[account], window, charges, at=NOW)


def both(reader: LedgerReader, question: Question) -> tuple[tuple[UsageSum, ...], tuple[UsageSum, ...]]:
    """Ask with and without the sums in memory, of one state."""
    first, length, by, every, zone, where = question
    window = Window(hour(first), hour(first + length))
    with reader.snapshot() as snapshot:
        plain = LedgerSnapshot(snapshot._connection, schema.read_all(snapshot._connection))
        fast, slow = (asked.usage(window, by, every, zone=ZoneInfo(zone), where=where) for asked in (snapshot, plain))
        return fast, slow


@given(actions=steps)
@settings(max_examples=examples(8, long=200), suppress_health_check=list(HealthCheck))
def test_sums_follow_every_change(tmp_path_factory: pytest.TempPathFactory, actions: list[object]) -> None:
    address = f"sqlite:///{tmp_path_factory.mktemp('sums') / 'ledger.sqlite'}"
    with closing(Ledger(address, rules=Rules(), clock=lambda: NOW)) as ledger, closing(LedgerReader(address)) as reader:
        ledger.activate({account: (source,) for account, source in SOURCE_OF.items()})
        for action in actions:
            if action == "fold":
                ledger.fold_before(hour(50))
            elif isinstance(action, Question):
                fast, slow = both(reader, action)
                assert fast == slow
            elif isinstance(action, tuple):
                change(ledger, *action)


@pytest.fixture
def ledger(address: str) -> Ledger:
    found = Ledger(address, rules=Rules(), clock=lambda: NOW)
    found.activate({"a": ("models",)})
    change(found, "a", 0, 240, {(at, kind): Amounts(1, 0, 2, 0, 2) for at in range(240) for kind in KINDS})
    return found


def test_a_day_that_has_changed_is_read_again(address: str, ledger: Ledger) -> None:
    asked = [Question(first, 170, ("model",), every) for first in (0, 10, 24) for every in EVERY]
    with closing(ledger), closing(LedgerReader(address)) as reader:
        told = []
        for at in (None, 30, 100, 14, 239):
            if at is not None:
                change(ledger, "a", at, 1, {(at, KINDS[0]): Amounts(cost=1000 + at)})
            answers = [both(reader, question) for question in asked]
            assert all(fast == slow for fast, slow in answers)
            told.append(answers[0][0])
        assert len(set(map(str, told))) == 4  # the last change is outside of the window
        ledger.fold_before(hour(50))
        answers = [both(reader, question) for question in asked]
        assert all(fast == slow for fast, slow in answers)
        assert answers[0][0] != told[-1]


class Refusing:
    """A connection on which nothing can be read."""

    def execute(self, *_: object) -> None:
        raise AssertionError("the database is read")


def test_a_window_never_asked_before_is_answered_without_the_database(address: str, ledger: Ledger) -> None:
    month = Question(0, 240, ("model",))
    with closing(ledger), closing(LedgerReader(address)) as reader:
        assert both(reader, month)[0] == both(reader, month)[1]
        both(reader, Question(12, 24 * 5, ("model",)))
        with reader.snapshot() as snapshot:
            scopes, revision = snapshot._scopes, snapshot.charges_revision
        first = (hour(0) - datetime(1970, 1, 1, tzinfo=UTC)) // HOUR
        cuts = [first + 10, first + 48]
        found = reader._sums.sums(Refusing(), revision, scopes, cuts, ("model",), {})  # type: ignore[arg-type]
        assert found is not None
        assert {key.group: amounts.cost for key, amounts in found.items()} == dict.fromkeys(
            [("flux",), ("kling",), ("veo",)], 2 * 2 * (48 - 10)
        )


def test_a_series_that_comes_later_has_only_its_day_read(
    address: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [Question(first, 230, ("model", "unit")) for first in (0, 6)]
    with closing(ledger), closing(LedgerReader(address)) as reader:
        for question in asked:
            both(reader, question)
        new = Dimensions("a", "green", "model_apis", "a newcomer", unit="image")
        change(ledger, "a", 125, 1, {(125, kind): Amounts(quantity=7 * 10**9, cost=5) for kind in (*KINDS, new)})
        read: list[tuple[Executable, Mapping[str, int]]] = []
        original = day_sums._read

        def noted(connection: Connection, statement: Executable, bounds: Mapping[str, int]) -> object:
            read.append((statement, bounds))
            return original(connection, statement, bounds)

        with monkeypatch.context() as patched:
            patched.setattr(day_sums, "_read", noted)
            answers = [both(reader, question) for question in asked]
        assert all(fast == slow for fast, slow in answers)
        assert "a newcomer" in str(answers[0][0])
        ((statement, bounds),) = read
        assert statement is day_sums._DAYS
        assert bounds["end"] - bounds["first"] == 1


def test_what_would_take_too_much_memory_is_left_to_the_database(
    address: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_sums, "_MOST_CELLS", len(KINDS) * 4)
    with closing(ledger), closing(LedgerReader(address)) as reader:
        for question in (Question(0, 240, (), "day"), Question(30, 50, ("team",)), Question(100, 40, ())):
            fast, slow = both(reader, question)
            assert fast == slow != ()


def test_the_hours_that_are_kept_are_bounded(address: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_sums, "_MOST_HOUR_CELLS", 500)
    with closing(ledger), closing(LedgerReader(address)) as reader:
        for start in range(0, 200, 7):
            fast, slow = both(reader, Question(start, 31, ("model",)))
            assert fast == slow
        sums = reader._sums
        assert sum(kept.cells for kept in sums._hours.values()) == sums._hour_cells <= 500
