"""Usage by tags adds up to usage, to the nano-dollar and by unit, for any window and period."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queries.conftest import APP, BERLIN, FLUX, HISTORY, NOW, UTC_ZONE, VEO, charges_of

from exporter.charges import HOUR, NANO, Amounts, Charge, Window, decimal_of
from exporter.focus.charge import Granularity, focus_charges
from exporter.focus.outputs import Format
from exporter.focus.writer import values
from exporter.ledger import Ledger, Rules
from exporter.ledger.export import open_statement
from exporter.ledger.reader import LedgerReader
from exporter.queries.drivers import DriversAnswer, answer_drivers, parse_drivers_question
from exporter.queries.exact_json import tree
from exporter.queries.focus.files import file_contents, ledger_dataset
from exporter.queries.focus.question import EstimateRequest
from exporter.queries.parameters import QuestionError
from exporter.queries.usage import UsageAnswer, answer_usage, parse_usage_question
from exporter.queries.usage_documents import Usage
from exporter.tags import TaggedCharge, TaggedReading

KEYS = ("customer", "feature")
U = "untagged"
WHOLE = {"start": "2026-10-30", "end": "2026-11-03T11:00Z"}
SHORT = datetime(2026, 11, 1, 5, tzinfo=UTC)
FLUX_PART = Amounts(NANO, 0, 15 * NANO // 100, NANO // 100, 14 * NANO // 100)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerReader]:
    """Open a ledger with tags: of flux a part is tagged in every hour, of veo more than is charged in the first."""
    address = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(settle_delay=timedelta(hours=48), tags=KEYS), clock=lambda: NOW)
    ledger.activate({"studio": ("models",), "research": ("serverless",)})
    ledger.restate("studio", "models", HISTORY, [*charges_of(FLUX, 45), *charges_of(VEO, 90)], at=NOW)
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 9, gpu_seconds=7), at=NOW)
    tagged = [
        TaggedCharge(hour, FLUX.model, "image", values, FLUX_PART)
        for hour in HISTORY.hours()
        for values in (("acme", "search"), ("acme", U))
    ]
    tagged.append(TaggedCharge(HISTORY.start, VEO.model, "second", ("bolt", U), Amounts(NANO, 0, NANO, 0, NANO)))
    stated = dict.fromkeys(HISTORY.hours(), 135 * NANO // 100)
    # Of this hour some rows could not be read, and of the next less than half a cent was lost.
    stated[SHORT] -= 30 * NANO // 100
    stated[SHORT + HOUR] -= 4_999_999
    ledger.tags.record(TaggedReading("studio", HISTORY, KEYS, tuple(tagged), stated, {}), at=NOW)
    ledger.close()
    opened = LedgerReader(address)
    yield opened
    opened.close()


def asked(reader: LedgerReader, *zones: ZoneInfo, **given: str) -> UsageAnswer:
    with reader.snapshot() as snapshot:
        return answer_usage(snapshot, parse_usage_question(given, now=NOW, zone=(*zones, UTC_ZONE)[0]))


def spend(answer: UsageAnswer) -> dict[tuple[str, ...], int]:
    return {tuple(row.group.values()): row.amounts.cost for row in answer.rows}


def test_what_a_tag_does_not_explain_is_untagged(reader: LedgerReader) -> None:
    hours = len(HISTORY)
    answer = asked(reader, **WHOLE, group_by="tag:customer")
    acme = hours * 2 * FLUX_PART.cost
    assert spend(answer) == {("acme",): acme, ("bolt",): NANO, (U,): hours * 144 * NANO // 100 - acme - NANO}
    assert answer.total == asked(reader, **WHOLE).total
    by_feature = asked(reader, **WHOLE, group_by="tag:feature,account")
    assert spend(by_feature)["search", "studio"] == acme // 2
    assert spend(by_feature)[U, "research"] == hours * 9 * NANO // 100


def test_where_more_is_tagged_than_charged_untagged_is_below_zero(reader: LedgerReader) -> None:
    first = {"start": "2026-10-30T00:00Z", "end": "2026-10-30T01:00Z"}
    rows = spend(asked(reader, **first, group_by="model,tag:customer", model=VEO.model))
    assert rows == {(VEO.model, "bolt"): NANO, (VEO.model, U): -NANO // 10}


def test_filters_by_tag(reader: LedgerReader) -> None:
    acme = len(HISTORY) * 2 * FLUX_PART.cost
    assert asked(reader, **WHOLE, tag="customer=acme").total.amounts.cost == acme
    assert asked(reader, **WHOLE, tag="customer=acme,feature=search").total.amounts.cost == acme // 2
    assert asked(reader, **WHOLE, tag="customer=acme,customer=bolt").total.amounts.cost == acme + NANO
    assert asked(reader, **WHOLE, tag="customer=acme,feature=untagged", group_by="model").rows[0].quantities == {
        "image": len(HISTORY) * NANO
    }
    assert asked(reader, **WHOLE, tag="customer=nobody").rows == ()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"group_by": "tag:plan"}, "tag is not one of those that spend is read by; accepted are customer, feature"),
        ({"tag": "plan=x"}, "accepted are customer, feature"),
        ({"tag": "customer"}, "tag is not a comma-separated list of up to 50 KEY=VALUE"),
        ({"group_by": "tag:customer,app"}, "group_by cannot be combined with tags"),
        ({"group_by": "tag:customer", "api_key": "k"}, "api_key cannot be combined with tags"),
        ({"group_by": "tag:customer", "live": "true"}, "live cannot be true with tags"),
        ({"group_by": "tag:Customer"}, "group_by is not a comma-separated list of .*, tag:KEY, each at most once"),
    ],
)
def test_a_wrong_question_is_answered_by_what_is_accepted(
    reader: LedgerReader, given: dict[str, str], sentence: str
) -> None:
    with pytest.raises(QuestionError, match=sentence):
        asked(reader, **WHOLE, **given)


def test_what_fal_states_less_by_tags_than_it_charges_is_said(reader: LedgerReader) -> None:
    both = {"start": "2026-11-01T04:00Z", "end": "2026-11-01T06:00Z", "account": "studio", "group_by": "tag:customer"}
    answer = asked(reader, **both)
    (note,) = answer.notes
    assert note == (
        "studio: for the hours that have been read by tags fal states $0.30 less by tags than it charges; untagged is "
        "higher by that."
    )
    assert not answer.coverage.complete
    below_a_cent = both | {"start": "2026-11-01T06:00Z", "end": "2026-11-01T09:00Z"}
    assert asked(reader, **below_a_cent).notes == ()
    assert asked(reader, **below_a_cent).coverage.complete
    with reader.snapshot() as snapshot:
        before = Window(HISTORY.start - 9 * HOUR, HISTORY.start + HOUR)
        assert snapshot.difference_by_tags("studio", before) == 0
        assert snapshot.difference_by_tags("studio", HISTORY) == -30 * NANO // 100 - 4_999_999
        assert snapshot.difference_by_tags("research", HISTORY) == 0
        assert snapshot.difference_by_tags("studio", Window(HISTORY.end, HISTORY.end + HOUR)) == 0


def test_hours_that_have_not_been_read_for_good_are_said(reader: LedgerReader) -> None:
    first, second, third = asked(reader, **WHOLE, group_by="tag:customer").notes[-3:]
    assert first.startswith(f"research: {len(HISTORY)} of {len(HISTORY)} hours have not been read by tags for good yet")
    assert second.startswith("studio: 3 of")
    assert "less by tags than it charges" in third
    early = {"start": "2026-10-30", "end": "2026-10-31", "account": "studio"}
    assert not asked(reader, **early, group_by="tag:customer").notes
    assert asked(reader, **early, group_by="tag:customer").coverage.complete
    late = early | {"account": "research"}
    assert not asked(reader, **late, group_by="tag:customer").coverage.complete
    assert asked(reader, **late, group_by="model").coverage.complete, "what a model cost is known without tags"


def test_a_document_has_the_tags_as_an_object(reader: LedgerReader) -> None:
    document = tree(Usage.model_validate(asked(reader, **WHOLE, group_by="tag:customer,model")))
    assert isinstance(document, dict)
    tags = [(row["tags"], row["model"]) for row in document["usage"]]
    assert ({"customer": "acme"}, FLUX.model) in tags
    assert document["group_by"] == ("tag:customer", "model")


@given(
    st.integers(0, len(HISTORY) - 1),
    st.integers(1, 60),
    st.sampled_from(["", "hour", "day", "month"]),
    st.sampled_from([UTC_ZONE, BERLIN, ZoneInfo("Asia/Kolkata")]),
)
def test_rows_by_tags_add_up_to_rows_without_in_every_period(
    reader: LedgerReader, first: int, hours: int, every: str, zone: ZoneInfo
) -> None:
    start = HISTORY.start + first * HOUR
    window = {"start": start.isoformat(), "end": (start + hours * HOUR).isoformat()}
    times = [every] if every else []
    plain = asked(reader, zone, **window, group_by=",".join(["model", *times]))
    tagged = asked(reader, zone, **window, group_by=",".join(["model", *times, "tag:customer", "tag:feature"]))
    sums: dict[tuple[str, ...], Amounts] = {}
    units: dict[tuple[str, ...], dict[str, int]] = {}
    for row in tagged.rows:
        place = tuple(value for name, value in row.group.items() if not name.startswith("tag:"))
        sums[place] = sums.get(place, Amounts()).plus(row.amounts)
        for unit, amount in row.quantities.items():
            units.setdefault(place, {})[unit] = units.get(place, {}).get(unit, 0) + amount
    assert sums == {tuple(row.group.values()): row.amounts for row in plain.rows}
    assert units == {tuple(row.group.values()): dict(row.quantities) for row in plain.rows}
    assert tagged.total == plain.total


def test_a_focus_file_has_the_tags_of_a_charge_where_they_are_certain(reader: LedgerReader) -> None:
    window = Window(HISTORY.start, HISTORY.start + 2 * HOUR)
    with open_statement(reader.address) as statement:
        charges = [
            charge
            for granularity in (Granularity.HOUR, Granularity.DAY)
            for charge in focus_charges(statement.charges(window), window, granularity, {}, divide=statement.divide)
        ]
    of_flux = [charge for charge in charges if charge.dimensions.model == FLUX.model]
    search = [charge for charge in of_flux if charge.tags == '{"customer": "acme", "feature": "search"}']
    assert [charge.amounts for charge in search] == [FLUX_PART, FLUX_PART, FLUX_PART.plus(FLUX_PART)]
    # Of videos more is tagged than charged in the first hour, so that nothing is certain.
    assert {charge.tags for charge in charges if charge.dimensions.model == VEO.model} == {""}
    assert sum(charge.amounts.cost for charge in charges) == 2 * 2 * 144 * NANO // 100
    (row,) = {values(charge)["Tags"] for charge in search}
    assert row == '{"customer": "acme", "feature": "search"}'


def test_a_data_set_says_which_cost_has_no_tags_because_it_was_not_read_by_tags(
    reader: LedgerReader, tmp_path: Path
) -> None:
    end = HISTORY.end + 2 * HOUR
    with open_statement(reader.address) as statement:
        request = EstimateRequest("estimate", HISTORY.start, end)
        for folder in ("first", "again"):
            (tmp_path / folder).mkdir()
            contents = file_contents(statement, request, None, NOW)
            made = ledger_dataset(
                statement, contents, tmp_path / folder, output_format=Format.CSV, version="1.2", created=NOW
            )
            told = made.manifest["tags"]
        of_models = sum(
            charge.amounts.cost
            for charge in statement.charges(Window(HISTORY.start, end))
            if charge.dimensions.product == "model_apis"
        )
    assert isinstance(told, dict)
    assert told.pop("keys") == list(KEYS)
    costs = {name: Decimal(amount) for name, amount in told.items()}
    assert sum(costs.values()) == decimal_of(of_models)
    assert costs["cost_with_tags"] == decimal_of(2 * FLUX_PART.cost * len(HISTORY))
    # The last three hours were read too early; in each is what flux has without tags, and all of veo.
    assert costs["cost_not_read_by_tags"] == decimal_of(3 * (45 + 90 - 2 * 14) * NANO // 100)


def moved(reader: LedgerReader, **given: str) -> DriversAnswer:
    with reader.snapshot() as snapshot:
        return answer_drivers(snapshot, parse_drivers_question(given, now=NOW, zone=UTC_ZONE))


EARLY = {"window": "2026-10-31/2026-11-01", "compare": "2026-10-30/2026-10-31", "account": "studio"}


def test_who_moved_by_a_tag_adds_up_to_the_difference_of_the_windows(reader: LedgerReader) -> None:
    answer = moved(reader, **EARLY, group_by="tag:customer")
    assert answer.groups is not None
    # The first hour of the earlier day has a dollar of bolt, which is taken from what no tag explains.
    assert [(move.name, move.change) for move in answer.groups.moves.top] == [("bolt", -NANO), (U, NANO), ("acme", 0)]
    assert answer.groups.moves.total.before == answer.compare.spend
    assert answer.groups.moves.total.after == answer.window.spend
    assert (answer.window.complete, answer.compare.complete, answer.notes) == (True, True, ())
    first = moved(reader, **EARLY, group_by="tag:customer", limit="1").groups
    assert first is not None
    assert (len(first.moves.top), first.moves.count, first.moves.rest.change) == (1, 2, NANO)
    assert first.moves.total == answer.groups.moves.total


def test_a_named_window_ends_where_it_has_been_read_by_tags(reader: LedgerReader) -> None:
    today = {"window": "today", "account": "studio"}
    plain, tagged = moved(reader, **today), moved(reader, **today, group_by="tag:customer")
    read_until = NOW.replace(minute=0, second=0, microsecond=0) - 2 * HOUR
    assert plain.window.end > tagged.window.end == read_until
    assert tagged.window.end - tagged.window.start == tagged.compare.end - tagged.compare.start
    assert tagged.window.complete
    assert tagged.notes == (
        f"The window ends at {read_until:%Y-%m-%dT%H:%MZ}: later hours have not been read by tags for good yet.",
    )
    written = moved(reader, window="2026-11-03/2026-11-03T11:00Z", account="studio", group_by="tag:customer")
    assert not written.window.complete
    assert any("hours have not been read by tags for good yet" in note for note in written.notes)


def test_an_account_that_is_not_read_by_tags_does_not_end_a_named_window(reader: LedgerReader) -> None:
    alone, both = (
        moved(reader, window="today", account=accounts, group_by="tag:customer")
        for accounts in ("studio", "studio,research")
    )
    assert (both.window.start, both.window.end) == (alone.window.start, alone.window.end)
    assert both.compare.end == alone.compare.end
    assert not both.window.complete


def test_a_month_that_is_longer_than_the_last_is_compared_with_all_of_it(tmp_path: Path) -> None:
    now = datetime(2026, 3, 31, 9, 20, tzinfo=UTC)
    february, march = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    read = Window(february, datetime(2026, 3, 31, 10, tzinfo=UTC))
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with closing(Ledger(address, rules=Rules(tags=KEYS), clock=lambda: now)) as ledger:
        ledger.activate({"studio": ("models",)})
        charge = Amounts(NANO, 0, NANO, 0, NANO)
        ledger.restate("studio", "models", read, [Charge(hour, FLUX, charge) for hour in read.hours()], at=now)
        ledger.tags.record(TaggedReading("studio", read, KEYS, (), {}, {}), at=now)
    with closing(LedgerReader(address)) as reader, reader.snapshot() as snapshot:
        question = parse_drivers_question({"group_by": "tag:customer"}, now=now, zone=UTC_ZONE)
        answer = answer_drivers(snapshot, question)
    assert (answer.window.start, answer.window.end) == (march, read.end - 3 * HOUR)
    assert (answer.compare.start, answer.compare.end) == (february, march)
    assert answer.compare.spend == 28 * 24 * NANO
    assert answer.window.spend == (30 * 24 + 7) * NANO


def test_accounts_that_are_not_read_by_tags_are_said_where_customers_are_compared(reader: LedgerReader) -> None:
    answer = moved(reader, **EARLY | {"account": "studio,research"}, group_by="tag:customer")
    assert not answer.window.complete
    assert any("research: 24 of 24 hours have not been read by tags" in note for note in answer.notes)
    by_account = moved(reader, **EARLY | {"account": "studio,research"}, group_by="account")
    assert by_account.groups is not None
    assert {move.name for move in by_account.groups.moves.top} == {"studio", "research"}
    assert by_account.window.complete


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"group_by": "tag:plan"}, "tag is not one of those that spend is read by; accepted are customer, feature"),
        ({"group_by": "hour"}, "group_by is not one of model, app"),
        ({"group_by": "tag:customer", "app": "a"}, "app cannot be combined with a tag"),
    ],
)
def test_a_wrong_question_about_who_moved(reader: LedgerReader, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(QuestionError, match=sentence):
        moved(reader, **given)
