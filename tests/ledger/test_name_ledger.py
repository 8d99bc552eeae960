import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from ledger.conftest import Clock, OpenLedger

from exporter.charges import HOUR, NANO, Amounts, ApiKey, Charge, Dimensions, Team, Window, hour_of
from exporter.ledger import Ledger, LedgerReader
from exporter.ledger.accounting.key_labels import wanted_labels
from exporter.ledger.export import open_statement
from exporter.ledger.maintenance.backup import back_up, restore
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.maintenance.verification import verify
from exporter.ledger.tables.database import reading

LABELS = ("account", "model", "api_key")
HOLD = timedelta(minutes=2)
CREATED = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)


def key(key_id: str, alias: str, account: str = "prod") -> ApiKey:
    return ApiKey(account, key_id, alias, "ada", CREATED)


def increase(values: list[int | None]) -> int:
    """Return what Prometheus makes of the samples of one series: a fall is a reset, the first value no growth."""
    present = [value for value in values if value is not None]
    return sum(after - before if after >= before else after for before, after in pairwise(present))


class Scraper:
    """A Prometheus: a ledger's counters of spend as scraped, and what `increase()` makes of them."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self._clock = clock
        self._seen: list[dict[tuple[str, ...], int]] = []

    def scrape(self) -> dict[tuple[str, ...], int]:
        view = self.ledger.view()
        self.ledger.scraped(view.sequence)
        samples = {sample.labels: int(sample.value) for page in view.spend for sample in page.samples}
        self._seen.append(samples)
        self._clock.forward(seconds=60)
        return samples

    def settle(self) -> dict[tuple[str, ...], int]:
        for _ in range(5):
            samples = self.scrape()
        return samples

    @property
    def total(self) -> int:
        """The sum of the increases of all series."""
        return sum(
            increase([seen.get(labels) for seen in self._seen])
            for labels in {name for seen in self._seen for name in seen}
        )

    def increase_of(self, label: str) -> int:
        names = {name for seen in self._seen for name in seen if name[-1] == label}
        return sum(increase([seen.get(labels) for seen in self._seen]) for labels in names)


def spend(ledger: Ledger, clock: Clock, costs: dict[str, int], model: str = "fal-ai/flux/dev") -> None:
    """State what the current hour has cost each key, in dollars."""
    hour = hour_of(clock.now)
    ledger.restate(
        "prod",
        "models",
        Window(hour, hour + HOUR),
        [
            Charge(
                hour,
                Dimensions("prod", product="model_apis", model=model, unit="image", api_key=key_id),
                Amounts(NANO, 0, cost * NANO, 0, cost * NANO),
            )
            for key_id, cost in costs.items()
        ],
        at=clock.now,
    )


def shown(samples: dict[tuple[str, ...], int]) -> dict[str, int]:
    return {labels[-1]: value // NANO for labels, value in samples.items()}


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    opened = open_ledger(labels=LABELS, birth_hold=HOLD)
    opened.activate({"prod": ("models",)})
    # The hour in which a ledger is born is history, which no counter counts.
    clock.forward(hours=1)
    return opened


@pytest.fixture
def scraper(ledger: Ledger, clock: Clock) -> Scraper:
    return Scraper(ledger, clock)


def test_a_key_that_is_listed_before_it_is_charged_for_has_its_alias_from_the_first_series_on(
    ledger: Ledger, scraper: Scraper, clock: Clock
) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "checkout")])
    spend(ledger, clock, {"k1": 5})
    assert shown(scraper.scrape()) == {"checkout": 0}
    assert shown(scraper.settle()) == {"checkout": 5}
    assert scraper.total == 5 * NANO


def test_a_new_alias_counts_nothing_twice_and_loses_nothing(ledger: Ledger, scraper: Scraper, clock: Clock) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "checkout")])
    spend(ledger, clock, {"k1": 5})
    scraper.settle()
    # Not scraped yet when the new alias comes: it must not be lost with the old name.
    spend(ledger, clock, {"k1": 7})
    ledger.names.record_api_keys("prod", [key("k1", "web shop")])
    assert shown(scraper.scrape()) == {"checkout": 7}
    assert shown(scraper.scrape()) == {"web shop": 0}
    spend(ledger, clock, {"k1": 11})
    assert shown(scraper.settle()) == {"web shop": 4}
    assert (scraper.increase_of("checkout"), scraper.increase_of("web shop")) == (7 * NANO, 4 * NANO)
    assert scraper.total == 11 * NANO
    month = {sample.labels[-1]: sample.value for page in ledger.view().known_of_month for sample in page.samples}
    assert month == {"web shop": 11 * NANO}


def test_keys_that_swap_their_aliases_count_nothing_twice(ledger: Ledger, scraper: Scraper, clock: Clock) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "a"), key("k2", "b")])
    spend(ledger, clock, {"k1": 5, "k2": 500})
    scraper.settle()
    ledger.names.record_api_keys("prod", [key("k1", "b"), key("k2", "a")])
    assert shown(scraper.settle()) == {"a": 0, "b": 0}
    spend(ledger, clock, {"k1": 6, "k2": 520})
    assert shown(scraper.settle()) == {"a": 20, "b": 1}
    assert scraper.total == 526 * NANO


def test_an_alias_that_comes_back_counts_nothing_twice(ledger: Ledger, scraper: Scraper, clock: Clock) -> None:
    for number, alias in enumerate(("one", "two", "one"), start=1):
        ledger.names.record_api_keys("prod", [key("k1", alias)])
        scraper.settle()
        spend(ledger, clock, {"k1": 10 * number})
        scraper.settle()
    assert shown(scraper.scrape()) == {"one": 10}
    assert scraper.total == 30 * NANO


def test_two_keys_with_one_alias_are_two_series(ledger: Ledger, scraper: Scraper, clock: Clock) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "prod"), key("k2", "")])
    spend(ledger, clock, {"k1": 1, "k2": 2, "k3": 3})
    assert shown(scraper.settle()) == {"prod": 1, "k2": 2, "k3": 3}
    ledger.names.record_api_keys("prod", [key("k1", "prod"), key("k2", "prod"), key("k3", "__other__")])
    scraper.settle()
    spend(ledger, clock, {"k1": 11, "k2": 12, "k3": 13})
    assert shown(scraper.settle()) == {"prod (k1)": 10, "prod (k2)": 10, "__other__ (k3)": 10}
    assert scraper.total == 36 * NANO


def test_a_key_that_is_deleted_keeps_its_name(ledger: Ledger, scraper: Scraper, clock: Clock) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "old"), key("k2", "new")])
    spend(ledger, clock, {"k1": 1})
    scraper.settle()
    ledger.names.record_api_keys("prod", [key("k2", "new")])
    assert shown(scraper.settle()) == {"old": 1}
    assert [(record.label, record.is_listed) for record in ledger.view().keys] == [("old", False), ("new", True)]


def test_names_survive_a_restart_and_without_scrapes_a_name_waits_ten_minutes(
    ledger: Ledger, open_ledger: OpenLedger, clock: Clock
) -> None:
    spend(ledger, clock, {"k1": 5})
    ledger.view()
    ledger.names.record_api_keys("prod", [key("k1", "checkout")])

    def names(of: Ledger) -> set[str]:
        return {sample.labels[-1] for page in of.view().spend for sample in page.samples}

    assert names(ledger) == {"k1"}
    clock.forward(minutes=10)
    assert names(ledger) == {"checkout"}
    ledger.close()
    again = open_ledger(labels=LABELS, birth_hold=HOLD)
    again.activate({"prod": ("models",)})
    spend(again, clock, {"k1": 5, "k2": 1})
    assert names(again) == {"checkout", "k2"}


def test_a_label_that_is_added_later_shows_aliases_at_once(address: str, open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger(labels=("account", "model"))
    ledger.activate({"prod": ("models",)})
    spend(ledger, clock, {"k1": 5})
    ledger.names.record_api_keys("prod", [key("k1", "checkout")])
    ledger.close()
    again = open_ledger(labels=LABELS)
    again.activate({"prod": ("models",)})
    assert {sample.labels[-1] for page in again.view().spend for sample in page.samples} == {"checkout"}
    again.close()
    with reading(address) as connection:
        assert verify(connection).problems == ()


def test_members_that_stood_in_the_label_of_keys_are_not_counted_again(open_ledger: OpenLedger, clock: Clock) -> None:
    """As after an upgrade: fal reports the same hour again, and what was a key without an id is now a member."""
    ledger = open_ledger(labels=("account", "api_key", "member"), birth_hold=timedelta(0))
    ledger.activate({"prod": ("models",)})
    clock.forward(hours=1)
    spend(ledger, clock, {"ada": 5, "k1": 7})
    ledger.scraped(ledger.view().sequence)
    hour = hour_of(clock.now)
    flux = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")
    again = [
        Charge(hour, flux._replace(member="ada"), Amounts(NANO, 0, 6 * NANO, 0, 6 * NANO)),
        Charge(hour, flux._replace(api_key="k1", member="ada"), Amounts(NANO, 0, 7 * NANO, 0, 7 * NANO)),
    ]
    restatement = ledger.restate("prod", "models", Window(hour, hour + HOUR), again, at=clock.now)
    assert restatement.relabelled == 12 * NANO
    ledger.scraped(ledger.view().sequence)
    counted = {sample.labels[1:]: int(sample.value) for page in ledger.view().spend for sample in page.samples}
    assert (counted["ada", ""], counted["k1", ""]) == (5 * NANO, 7 * NANO)
    assert counted["", "ada"] + counted["k1", "ada"] == NANO


def test_the_use_of_keys_is_known(ledger: Ledger, open_ledger: OpenLedger, clock: Clock) -> None:
    hour = hour_of(clock.now)
    spend(ledger, clock, {"k1": 1, "": 3})
    ledger.names.record_api_keys("prod", [key("k1", "a"), key("k2", "b")])
    clock.forward(hours=2)
    spend(ledger, clock, {"k2": 2})
    ledger.close()
    again = open_ledger(labels=LABELS)
    again.activate({"prod": ("models",)})
    view = again.view()
    assert {record.key.id: record.last_used for record in view.keys} == {"k1": hour, "k2": hour + 2 * HOUR}
    assert view.keys_told_from == {"prod": hour}


def test_no_two_keys_have_one_label_whatever_their_aliases_are() -> None:
    chance = random.Random(11)  # noqa: S311  the same words every time, no secrets
    words = ["", "a", "b", "k1", "k2", "a (k1)", "b (k2)", "__other__", "words"]
    for _ in range(500):
        keys = [key(f"k{number}", chance.choice(words)) for number in range(5)]
        labels = wanted_labels(keys, {"words"})
        assert len(set(labels.values())) == len(keys)
        assert not {"words", "__other__"} & set(labels.values())


def test_readers_tell_keys_by_their_labels_and_find_them_by_label_or_id(
    address: str, ledger: Ledger, clock: Clock
) -> None:
    ledger.activate({"prod": ("models",), "test": ("models",)})
    clock.forward(hours=1)
    hour = hour_of(clock.now)
    for account, costs in (("prod", {"k1": 5, "k2": 7, "": 1}), ("test", {"k3": 11})):
        charges = [
            Charge(hour, Dimensions(account, unit="image", api_key=key_id), Amounts(NANO, 0, cost, 0, cost))
            for key_id, cost in costs.items()
        ]
        ledger.restate(account, "models", Window(hour, hour + HOUR), charges, at=clock.now)
    ledger.names.record_api_keys("prod", [key("k1", "shop"), key("k2", "k9")])
    ledger.names.record_api_keys("test", [key("k3", "shop", account="test")])
    ledger.scraped(ledger.view().sequence)
    ledger.view()
    reader = LedgerReader(address)
    window = Window(hour, hour + HOUR)

    def usage(by: list[str], **where: list[str]) -> dict[tuple[str, ...], int]:
        with reader.snapshot() as snapshot:
            return {found.group: found.amounts.cost for found in snapshot.usage(window, by, where=where)}

    assert usage(["api_key"]) == {("shop",): 16, ("k9",): 7, ("",): 1}
    assert usage(["api_key", "account"])["shop", "test"] == 11
    assert usage(["account"], api_key=["shop"]) == {("prod",): 5, ("test",): 11}
    assert usage([], api_key=["k1", "k9"]) == {(): 12}
    with reader.snapshot() as snapshot:
        assert snapshot.tells_callers
        (found, *_) = snapshot.usage(window, ["api_key"], "hour")
        assert (found.at, found.quantities) == (hour, {"image": NANO})
    reader.close()
    with open_statement(address) as statement:
        assert {charge.dimensions.api_key for charge in statement.charges(window)} == {"shop", "k9", ""}


def test_names_go_on_when_the_account_is_renamed(
    address: str, ledger: Ledger, scraper: Scraper, open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger.names.record_api_keys("prod", [key("k1", "one")])
    spend(ledger, clock, {"k1": 5})
    scraper.settle()
    ledger.names.record_api_keys("prod", [key("k1", "two")])
    scraper.settle()
    spend(ledger, clock, {"k1": 8})
    assert shown(scraper.settle()) == {"two": 3}
    ledger.close()
    rename_account(address, "prod", "studio", now=clock.now)
    again = open_ledger(labels=LABELS, birth_hold=HOLD)
    again.activate({"studio": ("models",)})
    samples = {sample.labels: int(sample.value) for page in again.view().spend for sample in page.samples}
    assert samples == {("studio", "fal-ai/flux/dev", "two"): 3 * NANO}
    assert [(record.key.account, record.label) for record in again.view().keys] == [("studio", "two")]
    again.close()
    with reading(address) as connection:
        assert verify(connection).problems == ()


def test_a_backup_from_before_a_new_alias_goes_on_without_counting_twice(
    tmp_path: Path, sqlite_address: str, open_sqlite: OpenLedger, clock: Clock
) -> None:
    ledger = open_sqlite(labels=LABELS, birth_hold=HOLD)
    ledger.activate({"prod": ("models",)})
    clock.forward(hours=1)
    scraper = Scraper(ledger, clock)
    ledger.names.record_api_keys("prod", [key("k1", "one")])
    spend(ledger, clock, {"k1": 5})
    scraper.settle()
    copy = tmp_path / "copy.sqlite"
    back_up(sqlite_address, copy)
    ledger.names.record_api_keys("prod", [key("k1", "two")])
    scraper.settle()
    spend(ledger, clock, {"k1": 9})
    assert shown(scraper.settle()) == {"two": 4}
    ledger.close()
    restore(sqlite_address, copy, now=clock.now)
    scraper.ledger = open_sqlite(labels=LABELS, birth_hold=HOLD)
    scraper.ledger.activate({"prod": ("models",)})
    spend(scraper.ledger, clock, {"k1": 9})
    scraper.ledger.names.record_api_keys("prod", [key("k1", "two")])
    scraper.settle()
    spend(scraper.ledger, clock, {"k1": 11})
    scraper.settle()
    names = shown(scraper.scrape())
    assert names == {"two": 6}
    assert scraper.total == 11 * NANO


@pytest.mark.parametrize("seed", range(2))
def test_whatever_names_keys_get_the_increases_add_up_to_what_was_spent(
    seed: int, open_sqlite: OpenLedger, clock: Clock
) -> None:
    chance = random.Random(seed)  # noqa: S311  the same story every time, no secrets
    ledger = open_sqlite(labels=LABELS, birth_hold=HOLD)
    ledger.activate({"prod": ("models",)})
    clock.forward(hours=1)
    scraper = Scraper(ledger, clock)
    costs = dict.fromkeys(("k1", "k2", "k3"), 0)
    spent = 0
    for _ in range(40):
        match chance.choice(("spend", "spend", "name", "scrape", "scrape", "hour", "restart")):
            case "spend":
                costs[chance.choice(list(costs))] += chance.randrange(1, 50)
                spend(scraper.ledger, clock, costs)
            case "name":
                listed = [key(key_id, chance.choice(("a", "b", "k2", ""))) for key_id in costs if chance.random() < 0.9]
                scraper.ledger.names.record_api_keys("prod", listed)
            case "scrape":
                labels = list(scraper.scrape())
                assert len(labels) == len(set(labels))
            case "hour":
                scraper.settle()
                clock.now = hour_of(clock.now) + HOUR
                spent += sum(costs.values())
                costs = dict.fromkeys(costs, 0)
            case "restart":
                scraper.settle()
                scraper.ledger.close()
                scraper.ledger = open_sqlite(labels=LABELS, birth_hold=HOLD)
                scraper.ledger.activate({"prod": ("models",)})
    scraper.settle()
    scraper.settle()
    assert scraper.total == (spent + sum(costs.values())) * NANO


def test_a_ledger_that_is_lost_is_written_again_with_its_names(
    sqlite_address: str, open_sqlite: OpenLedger, clock: Clock
) -> None:
    ledger = open_sqlite(labels=LABELS, birth_hold=HOLD)
    ledger.activate({"prod": ("models",)})
    clock.forward(hours=1)
    scraper = Scraper(ledger, clock)
    ledger.names.record_api_keys("prod", [key("k1", "one")])
    ledger.names.record_teams("prod", [Team("prod", "acme", "Acme")])
    spend(ledger, clock, {"k1": 5})
    scraper.settle()
    ledger.names.record_api_keys("prod", [key("k1", "two")])
    scraper.settle()
    before = ledger.view()
    # What is left of the file is no database: the ledger is written from memory.
    Path(sqlite_address.removeprefix("sqlite:///")).write_bytes(b"")
    spend(ledger, clock, {"k1": 9})
    ledger.close()
    again = open_sqlite(labels=LABELS, birth_hold=HOLD)
    again.activate({"prod": ("models",)})
    after = again.view()
    assert (after.keys, after.teams) == (before.keys, before.teams)
    spend(again, clock, {"k1": 9, "k2": 1})
    assert {sample.labels[-1] for page in again.view().spend for sample in page.samples} == {"two", "k2"}
