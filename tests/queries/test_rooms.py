"""Every room of one ledger says the same: gauges, questions, and the rows that files are made of.

Rooms that are right by themselves have been wrong together: an account that was no longer configured had left the
gauges and was still in the answers of REST and in FOCUS files.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.app.focus.files import Invoices
from exporter.charges import HOUR, NANO, SURGE, Amounts, ApiKey, Charge, Dimensions, Invoice, RejectedRow, Window
from exporter.ledger import Ledger, Rules
from exporter.ledger.accounting.counters import Labels
from exporter.ledger.export import open_statement
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.span_totals import Bucket
from exporter.metrics.snapshot import snapshot_of
from exporter.polling.publisher import billed_last_month
from exporter.polling.reconciler import invoiced
from exporter.publication import NO_OUTLOOK
from exporter.queries.drivers import answer_drivers, parse_drivers_question
from exporter.queries.focus.files import LackingError, file_contents
from exporter.queries.focus.push import month_contents
from exporter.queries.focus.question import parse_request
from exporter.queries.invoices import InvoicesQuestion, answer_invoices
from exporter.queries.machines import answer_machines, parse_machines_question
from exporter.queries.parameters import NoDataYetError
from exporter.queries.usage import answer_usage, parse_usage_question

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
START = datetime(2026, 9, 20, tzinfo=UTC)
MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 20, 13, tzinfo=UTC))
HOURS = int((MONTH.end - START) / HOUR)
FOLDED = 11 * 24
"""Hours before the last month, beyond which nothing is folded."""

SOURCE = "models"
LABELS = Labels(("account", "model", "api_key"))
KINDS = [
    Dimensions("", "red", "model_apis", model, unit=unit, api_key=key, surge=surge)
    for model, unit, surge in (("flux", "image", ""), ("veo", "second", ""), ("veo", "second", SURGE))
    for key in ("k1", "k2", "")
]
NAMES = ("one", "two", "three")

Stated = Mapping[tuple[int, int], int]


class Restated(NamedTuple):
    """Hours of an account, and what fal now charges in them: cents by hour and place in KINDS."""

    account: str
    first: int
    length: int
    cents: Stated
    is_partial: bool = False


class Renamed(NamedTuple):
    """An account that gets another name."""

    old: str
    new: str


class Aliased(NamedTuple):
    """New aliases of the keys of an account."""

    account: str
    aliases: Mapping[str, str]


class Configured(NamedTuple):
    """The accounts that are configured from now on."""

    accounts: Sequence[str]


class Asked(NamedTuple):
    """A question that is put to all rooms."""

    first: int
    length: int
    by: Sequence[str]
    every: Bucket | None
    zone: str


hours = st.integers(0, HOURS - 1)
names = st.sampled_from(NAMES)
restatements = st.builds(
    Restated,
    names,
    hours,
    st.integers(1, 80),
    st.dictionaries(st.tuples(hours, st.integers(0, len(KINDS) - 1)), st.integers(-300, 10**6), max_size=40),
    st.booleans(),
)
aliases = st.builds(
    Aliased, names, st.dictionaries(st.sampled_from(["k1", "k2"]), st.sampled_from(["shop", "ads", ""]))
)
configurations = st.builds(Configured, st.lists(names, min_size=1, unique=True))
questions = st.builds(
    Asked,
    hours,
    st.integers(1, HOURS),
    st.lists(st.sampled_from(["account", "model", "unit", "api_key", "surge"]), unique=True, max_size=3),
    st.sampled_from([None, "day", "month", "hour"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
steps = st.lists(
    st.one_of(
        restatements, restatements, aliases, configurations, questions, questions,
        st.builds(Renamed, names, st.sampled_from([*NAMES, "four"])),
        st.sampled_from(["restart", "fold"]),
    ),
    min_size=6,
    max_size=24,
)  # fmt: skip


class Rooms:
    """A ledger at work, what has been stated to it, and the rooms that tell of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.charged: dict[str, dict[tuple[int, Dimensions], int]] = {}
        self.kept_from = 0
        self.configured: tuple[str, ...] = NAMES
        self.reader = LedgerReader(address)
        self.open()

    def open(self) -> None:
        self.ledger = Ledger(self.address, rules=Rules(labels=LABELS.names), clock=lambda: NOW)
        self.ledger.activate(dict.fromkeys(self.configured, (SOURCE,)))

    def close(self) -> None:
        self.reader.close()
        self.ledger.close()

    def take(self, step: object) -> None:
        match step:
            case Restated() if step.account in self.configured:
                self.restate(step)
            case Aliased() if step.account in self.configured:
                keys = [ApiKey(step.account, key, alias) for key, alias in step.aliases.items()]
                self.ledger.names.record_api_keys(step.account, keys)
            case Configured():
                self.configured = tuple(step.accounts)
                self.ledger.activate(dict.fromkeys(step.accounts, (SOURCE,)))
            case Renamed() if step.old in self.charged and step.new not in {*self.charged, *self.configured}:
                self.rename(step)
            case "restart":
                self.ledger.close()
                self.open()
            case "fold":
                self.kept_from = FOLDED
                self.ledger.fold_before(START + self.kept_from * HOUR)
            case Asked():
                self.ask(step)

    def restate(self, step: Restated) -> None:
        window = Window(START + step.first * HOUR, START + min(step.first + step.length, HOURS) * HOUR)
        stated = {
            (hour, KINDS[kind]._replace(account=step.account)): cents * 10**7
            for (hour, kind), cents in step.cents.items()
            if START + hour * HOUR in window and hour >= self.kept_from
        }
        charges = [
            Charge(START + hour * HOUR, kind, Amounts(cost, 0, cost, 0, cost)) for (hour, kind), cost in stated.items()
        ]
        odd = RejectedRow("wrong_type", window.start) if step.is_partial else None
        self.ledger.restate(step.account, SOURCE, window, charges, at=NOW, rejected=[odd] if odd else [])
        before = self.charged.setdefault(step.account, {})
        for cell in [*before]:
            if START + cell[0] * HOUR in window:
                lost = before.pop(cell)
                if odd is not None and START + cell[0] * HOUR == window.start:
                    # What a row that cannot be read may be of is not lowered.
                    stated[cell] = max(stated.get(cell, lost), lost)
        before |= {cell: cost for cell, cost in stated.items() if cost}

    def rename(self, step: Renamed) -> None:
        self.ledger.close()
        rename_account(self.address, step.old, step.new, now=NOW)
        moved = self.charged.pop(step.old)
        self.charged[step.new] = {(hour, kind._replace(account=step.new)): cost for (hour, kind), cost in moved.items()}
        if step.old in self.configured:
            self.configured = tuple(step.new if name == step.old else name for name in self.configured)
            with self.reader.snapshot() as ledger:  # before the next start
                assert {scope.account for scope in ledger.scopes()} == {*self.configured}
        self.open()

    def truth(self, window: Window) -> Iterator[tuple[datetime, Dimensions, int]]:
        """Yield what counts of what has been stated, each key under its label."""
        labels = self.ledger.names.key_labels()
        for account in self.configured:
            for (hour, kind), cost in self.charged.get(account, {}).items():
                at = START + hour * HOUR
                if at in window and hour >= self.kept_from:
                    yield at, kind._replace(api_key=labels.get((account, kind.api_key), kind.api_key)), cost

    def ask(self, question: Asked) -> None:
        """Compare what all rooms say with what has been stated."""
        first, length, by, every, zone = question
        window = Window(START + first * HOUR, START + min(first + length, HOURS) * HOUR)
        place = ZoneInfo(zone)
        stated = grouped(self.truth(window), by)
        with self.reader.snapshot() as ledger:
            told = ledger.usage(window, by, every, zone=place)
        sums: defaultdict[tuple[str, ...], int] = defaultdict(int)
        for found in told:
            sums[found.group] += found.amounts.cost
            if every is not None:
                assert found.at is not None
                assert window.start <= found.at < window.end
        assert without_zeros(sums) == stated
        with open_statement(self.address) as statement:
            rows = ((charge.hour, charge.dimensions, charge.amounts.cost) for charge in statement.charges(window))
            assert grouped(rows, by) == stated
        self.ask_gauges()

    def ask_gauges(self) -> None:
        view = self.ledger.view()
        gauge = {sample.labels: sample.value for page in view.known_of_month for sample in page.samples if sample.value}
        assert gauge == grouped(self.truth(MONTH), LABELS.names)
        assert self.counted() <= {*self.configured}

    def counted(self) -> set[str]:
        """Return the accounts that have counters."""
        return {sample.labels[0] for page in self.ledger.view().spend for sample in page.samples}


def grouped(rows: Iterable[tuple[datetime, Dimensions, int]], by: Sequence[str]) -> dict[tuple[str, ...], int]:
    sums: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for _, kind, cost in rows:
        sums[tuple(getattr(kind, name) for name in by)] += cost
    return without_zeros(sums)


def without_zeros(sums: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    return {group: cost for group, cost in sums.items() if cost}


@given(actions=steps)
@settings(max_examples=examples(6, long=300), suppress_health_check=list(HealthCheck))
def test_all_rooms_say_what_has_been_stated(tmp_path_factory: pytest.TempPathFactory, actions: list[object]) -> None:
    with closing(Rooms(f"sqlite:///{tmp_path_factory.mktemp('rooms') / 'ledger.sqlite'}")) as rooms:
        for action in actions:
            rooms.take(action)
        everything = Asked(0, HOURS, ("account", "model", "api_key"), "month", "UTC")
        rooms.take(Configured(NAMES))
        for account in NAMES:
            rooms.take(Restated(account, 1100, 10, {(1105, 0): 100, (1106, 4): 250}))
            rooms.take(Restated(account, 1105, 2, {}, is_partial=True))
        rooms.take(everything)
        assert rooms.counted() == {*NAMES}
        rooms.take(Configured(NAMES[:2]))
        rooms.take(everything)
        assert rooms.counted() == {*NAMES[:2]}
        rooms.take(Renamed(NAMES[0], "five"))
        rooms.take(everything)
        assert rooms.counted() == {kind.account for _, kind, _ in rooms.truth(MONTH)} == {"five", NAMES[1]}


def accounts_told(address: str, window: Window) -> dict[str, object]:
    """Return of which accounts each room tells in a window, and whether it says that something is missing."""
    given = {"start": f"{window.start:%Y-%m-%dT%H:%MZ}", "end": f"{window.end:%Y-%m-%dT%H:%MZ}"}
    span = {"window": f"{given['start']}/{given['end']}"}
    with closing(LedgerReader(address)) as reader, reader.snapshot() as ledger:
        usage = answer_usage(
            ledger, parse_usage_question(given | {"group_by": "account"}, now=NOW, zone=ZoneInfo("UTC"))
        )
        drivers = answer_drivers(ledger, parse_drivers_question(span, now=NOW, zone=ZoneInfo("UTC")))
        machines = answer_machines(ledger, parse_machines_question(given, now=NOW, zone=ZoneInfo("UTC")))
        invoices = answer_invoices(ledger, InvoicesQuestion())
    with open_statement(address) as statement:
        contents = file_contents(statement, parse_request(given | {"timeframe": "hour"}, now=NOW), None, NOW)
        rows = {charge.dimensions.account for charge in contents.charges}
    return {
        "usage": ({row.group["account"] for row in usage.rows}, usage.coverage.complete),
        "drivers": ({item.item.account for item in drivers.items}, drivers.window.complete),
        "machines": (None, machines.coverage.complete),
        "FOCUS": (rows, contents.missing == 0),
        "invoices": ({invoice.account for invoice in invoices}, None),
    }


DAY = Window(datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
ALL, SOME = {"one", "two", "three"}, {"one", "two"}


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    """Rooms of three accounts, each with charges and an invoice of a day that has been read."""
    with closing(Rooms(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as made:
        hour = (DAY.start - START) // HOUR
        for name in NAMES:
            made.take(Restated(name, hour, 24, {(hour + 3, 0): 500}))
            invoice = Invoice(name, f"in_{name}", "", "paid", DAY.start, DAY.end, DAY.end, None, "USD", 5, 0, 0, 5)
            made.ledger.record_invoices(name, [invoice])
        yield made


def everywhere(accounts: set[str], *, complete: bool) -> dict[str, object]:
    told = dict.fromkeys(("usage", "drivers", "FOCUS"), (accounts, complete))
    return {**told, "machines": (None, complete), "invoices": (accounts, None)}


def charges_revision(rooms: Rooms) -> int:
    with rooms.reader.snapshot() as ledger:
        return ledger.charges_revision


def test_an_account_that_is_configured_no_more_is_in_no_room_until_it_comes_back(rooms: Rooms) -> None:
    assert accounts_told(rooms.address, DAY) == everywhere(ALL, complete=True)
    revisions = [charges_revision(rooms)]
    rooms.take(Configured(("one", "two")))
    revisions.append(charges_revision(rooms))
    assert accounts_told(rooms.address, DAY) == everywhere(SOME, complete=True)
    rooms.take("restart")
    assert accounts_told(rooms.address, DAY) == everywhere(SOME, complete=True)
    rooms.take(Configured(NAMES))
    revisions.append(charges_revision(rooms))
    assert accounts_told(rooms.address, DAY) == everywhere(ALL, complete=True)
    assert revisions == sorted({*revisions}), "answers that were kept are given no more"


def test_an_account_whose_key_can_read_nothing_is_named_as_missing_in_every_room(rooms: Rooms) -> None:
    rooms.ledger.activate({"one": (SOURCE,), "two": (SOURCE,), "new": ()})
    assert accounts_told(rooms.address, DAY) == everywhere(SOME, complete=False)
    given = {"start": "2026-11-19", "end": "2026-11-20", "account": "new"}
    with closing(LedgerReader(rooms.address)) as reader, reader.snapshot() as ledger:
        question = parse_usage_question(given | {"account": "one,new"}, now=NOW, zone=ZoneInfo("UTC"))
        assert answer_usage(ledger, question).notes == ("Not read yet: usage of new.",)
        with pytest.raises(NoDataYetError):
            answer_usage(ledger, parse_usage_question(given, now=NOW, zone=ZoneInfo("UTC")))
        question = parse_usage_question(given | {"account": "one"}, now=NOW, zone=ZoneInfo("UTC"))
        assert answer_usage(ledger, question).coverage.complete
    with open_statement(rooms.address, "one") as statement:
        assert statement.coverage(DAY).missing == 0


def test_an_hour_with_a_row_that_cannot_be_read_is_missing_in_every_room(rooms: Rooms) -> None:
    hour = (DAY.start - START) // HOUR + 5
    rooms.take(Restated("two", hour, 1, {}, is_partial=True))
    assert accounts_told(rooms.address, DAY) == everywhere(ALL, complete=False)
    with open_statement(rooms.address) as statement:
        assert statement.coverage(DAY).missing == 1
    rooms.take(Restated("two", hour, 1, {}))
    assert accounts_told(rooms.address, DAY) == everywhere(ALL, complete=True)


@pytest.mark.parametrize(
    ("status", "bills"),
    [("paid", True), ("open", True), ("uncollectible", True), ("draft", False), ("void", False)],
)
def test_an_invoice_bills_in_every_room_or_in_none(rooms: Rooms, status: str, *, bills: bool) -> None:
    invoice = Invoice("one", "in_9", "", status, OCTOBER.start, OCTOBER.end, NOW, None, "USD", 7, 0, 0, 7)
    rooms.ledger.record_invoices("one", [invoice])
    rooms.take(Restated("one", 300, 24, {(305, 0): 100}))
    request = parse_request({"source": "invoice", "charge_month": "2026-10"}, now=NOW)
    with open_statement(rooms.address, "one") as statement:
        if bills:
            charges = [*file_contents(statement, request, "one", NOW).charges]
            assert {charge.invoice_id for charge in charges} == {"in_9"}
            assert sum(charge.amounts.cost for charge in charges) == 7
        else:
            with pytest.raises(LackingError):
                file_contents(statement, request, "one", NOW)
    draft = Invoice("one", "in_8", "", "draft", OCTOBER.start, OCTOBER.end, NOW, None, "USD", 5, 0, 0, 5)
    bill = invoiced("one", [invoice, draft], OCTOBER)
    assert bill is not None
    # A draft stands in only for an invoice that is not there.
    assert bill.usage == (7 if bills else 12 if status == "draft" else 5)
    assert (billed_last_month("one", rooms.ledger.view()) is not None) == bills
    assert ("in_9" in {item.invoice for item in Invoices(ledger=rooms.address).read()}) == bills


def billed_to(name: str, start: datetime, end: datetime, subtotal: int, status: str = "paid") -> Invoice:
    return Invoice("one", name, name.upper(), status, start, end, NOW, end, "USD", subtotal, 2, 1, subtotal - 1)


def test_invoices_of_a_part_of_a_month_stand_for_no_more_than_it_in_any_room(rooms: Rooms) -> None:
    """fal may bill whenever a threshold is reached: the rest of the month is then on no invoice yet, and not saved."""
    middle = OCTOBER.start + timedelta(days=14)
    first = billed_to("in_1", OCTOBER.start, middle - timedelta(seconds=1), 10 * NANO)
    second = billed_to("in_2", middle, OCTOBER.end, 30 * NANO, "open")
    note = billed_to("in_3", OCTOBER.start, middle, -4 * NANO)
    whole = Restated("one", (OCTOBER.start - START) // HOUR, len(OCTOBER), {((middle - START) // HOUR + 5, 0): 100})
    rooms.take(whole)
    request = parse_request({"source": "invoice", "charge_month": "2026-10"}, now=NOW)

    rooms.ledger.record_invoices("one", [first])
    part = invoiced("one", rooms.ledger.invoices("one"), OCTOBER)
    assert part is not None
    assert (part.window, part.usage) == (Window(OCTOBER.start, middle), 10 * NANO)
    assert rooms.ledger.reconcile(part, at=NOW).difference == -10 * NANO
    assert billed_last_month("one", rooms.ledger.view()) is None
    with open_statement(rooms.address, "one") as statement:
        with pytest.raises(LackingError, match="for the charges of 2026-10 up to 2026-10-15T00:00Z only"):
            file_contents(statement, request, "one", NOW)
        source, contents = month_contents(statement, OCTOBER, NOW)
        assert (source, sum(charge.amounts.cost for charge in contents.charges)) == ("estimate", NANO)

    rooms.ledger.record_invoices("one", [second])
    assert invoiced("one", [second], OCTOBER) is None, "the first half is on none"
    both = invoiced("one", rooms.ledger.invoices("one"), OCTOBER)
    assert both is not None
    assert (both.window, both.usage) == (OCTOBER, 40 * NANO)

    rooms.ledger.record_invoices("one", [note])
    all_three = invoiced("one", rooms.ledger.invoices("one"), OCTOBER)
    assert all_three is not None
    assert (all_three.usage, all_three.by_category) == (36 * NANO, {"Usage": 36 * NANO, "Credit": -6, "Tax": 3})
    rooms.ledger.reconcile(all_three, at=NOW)
    billed = billed_last_month("one", rooms.ledger.view())
    assert billed is not None
    assert (billed.number, billed.status, billed.total) == ("IN_2, IN_1, IN_3", "open, paid", 36 * NANO - 3)
    assert billed.difference == NANO - 36 * NANO
    with open_statement(rooms.address, "one") as statement:
        source, contents = month_contents(statement, OCTOBER, NOW)
        sums: dict[str, int] = {}
        for charge in contents.charges:
            sums[charge.invoice_id] = sums.get(charge.invoice_id, 0) + charge.amounts.cost
    assert (source, sums) == ("invoice", {item.id: item.total for item in (first, second, note)})


def test_each_account_has_its_own_invoices_of_the_latest_month_that_is_billed_whole(rooms: Rooms) -> None:
    """Of November some days are billed, of October all."""
    hour = (OCTOBER.start - START) // HOUR
    for name in ("one", "two"):
        rooms.take(Restated(name, hour, len(OCTOBER), {(hour + 5, 0): 100}))
        invoice = replace(billed_to(f"in_{name}_10", OCTOBER.start, OCTOBER.end, 7 * NANO), account=name)
        part = replace(invoice, id=f"in_{name}_11", period_start=OCTOBER.end, period_end=OCTOBER.end + 9 * 24 * HOUR)
        rooms.ledger.record_invoices(name, [invoice, part])
    rooms.take(Restated("three", hour, len(OCTOBER), {}))
    with open_statement(rooms.address) as statement:
        contents = file_contents(statement, parse_request({"source": "invoice"}, now=NOW), None, NOW)
        assert contents.window == OCTOBER
        sums: dict[tuple[str, str], int] = {}
        for charge in contents.charges:
            key = charge.dimensions.account, charge.invoice_id
            sums[key] = sums.get(key, 0) + charge.amounts.cost
    total = 7 * NANO - 1
    assert sums == {("one", "in_one_10"): total, ("two", "in_two_10"): total}


def test_invoices_of_one_number_have_names_of_their_own_in_metrics(rooms: Rooms) -> None:
    invoice = billed_to("in_1", OCTOBER.start, OCTOBER.end, 10)
    note = replace(invoice, id="in_2", subtotal=-10, total=-11)
    rooms.ledger.record_invoices("one", [invoice, note, replace(invoice, id="in_3", number="IN_3")])
    snapshot = snapshot_of(rooms.ledger.view(), {}, NO_OUTLOOK)
    for family in ("fal_invoice_total_usd", "fal_invoice_due_timestamp_seconds"):
        (table,) = [item for item in snapshot.tables if item.family.name == family]
        samples = {sample.labels for page in table.pages for sample in page.samples}
        assert samples >= {("one", name, "paid") for name in ("IN_3", "in_1", "in_2")}
        assert ("one", "IN_1", "paid") not in samples
