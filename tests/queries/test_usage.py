from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queries.conftest import APP, BERLIN, FLUX, HISTORY, NOW, UTC_ZONE, charges_of

from exporter.charges import HOUR, NANO, Balance, RejectedRow, Window, decimal_of, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Restatement, Rules
from exporter.ledger.reader import LedgerReader, LedgerSnapshot
from exporter.ledger.tables.span_totals import Bucket, UsageSum
from exporter.queries.parameters import NoDataYetError, QuestionError
from exporter.queries.usage import (
    CHANGED,
    NO_CALLERS,
    UsageAnswer,
    UsageRow,
    answer_usage,
    parse_usage_question,
    whole_hours,
)


def asked(reader: LedgerReader, *zones: ZoneInfo, **given: str) -> UsageAnswer:
    with reader.snapshot() as snapshot:
        return answer_usage(snapshot, parse_usage_question(given, now=NOW, zone=(*zones, UTC_ZONE)[0]))


def spend(answer: UsageAnswer) -> Mapping[tuple[str, ...], Decimal]:
    return {tuple(row.group.values()): decimal_of(row.amounts.cost) for row in answer.rows}


WHOLE = {"start": "2026-10-30", "end": "2026-11-03T11:00Z"}


def test_a_window_without_groups_is_one_row_and_the_total(reader: LedgerReader, hours: int) -> None:
    answer = asked(reader, **WHOLE)
    (row,) = answer.rows
    assert row == answer.total
    assert row.amounts.cost == hours * 144 * NANO // 100
    assert row.amounts.gpu_seconds == hours * 7 * NANO
    assert row.amounts.list_cost - row.amounts.discount == row.amounts.cost
    assert row.quantities == {"image": hours * 3 * NANO, "second": hours * 3 * NANO, "machine_second": hours * 3 * NANO}


def test_groups_are_the_most_expensive_first_and_add_up(reader: LedgerReader, hours: int) -> None:
    answer = asked(reader, **WHOLE, group_by="model,account")
    assert list(spend(answer).items()) == [
        (("fal-ai/veo3", "studio"), hours * Decimal("0.9")),
        (("fal-ai/flux", "studio"), hours * Decimal("0.45")),
        (("", "research"), hours * Decimal("0.09")),
    ]
    assert sum(row.amounts.cost for row in answer.rows) == answer.total.amounts.cost


def test_groups_stand_in_the_order_in_which_they_were_asked_for(reader: LedgerReader) -> None:
    first = asked(reader, **WHOLE, group_by="day,app,team").rows[0]
    assert list(first.group) == ["day", "app", "team"]


@pytest.mark.parametrize(
    ("filters", "cents"),
    [
        ({"model": "fal-ai/veo3"}, 90),
        ({"model": "fal-ai/veo3,fal-ai/flux"}, 135),
        ({"account": "research"}, 9),
        ({"account": "studio,research"}, 144),
        ({"gpu_class": "h100"}, 9),
        ({"product": "serverless", "team": "lab", "app": "train"}, 9),
        ({"model": "fal-ai/veo3", "account": "research"}, 0),
        ({"model": "never-used"}, 0),
    ],
)
def test_filters_are_joined_and_none_is_all(
    reader: LedgerReader, hours: int, filters: dict[str, str], cents: int
) -> None:
    assert asked(reader, **WHOLE, **filters).total.amounts.cost == hours * cents * NANO // 100


def test_questions_about_keys_say_that_none_are_known_and_are_never_put_to_fal(reader: LedgerReader) -> None:
    answer = asked(reader, **WHOLE, group_by="api_key,model")
    assert {row.group["api_key"] for row in answer.rows} == {""}
    assert answer.notes[-1] == NO_CALLERS
    assert NO_CALLERS in asked(reader, **WHOLE, member="ada").notes
    assert NO_CALLERS not in asked(reader, **WHOLE, group_by="model").notes
    long_ago = {"start": "2026-01-01", "end": "2026-02-01"}
    with reader.snapshot() as snapshot:
        scopes = snapshot.scopes()
    for terms, is_put in (({"group_by": "model"}, True), ({"group_by": "member"}, False), ({"api_key": "k"}, False)):
        question = parse_usage_question({**long_ago, **terms}, now=NOW, zone=UTC_ZONE)
        assert bool(question.live_questions(scopes, None, NOW)) is is_put
    with pytest.raises(QuestionError, match="live cannot be true with api_key or member"):
        parse_usage_question({**long_ago, "api_key": "k", "live": "true"}, now=NOW, zone=UTC_ZONE)


def test_days_and_months_are_those_of_the_zone(reader: LedgerReader) -> None:
    answer = asked(reader, BERLIN, start="2026-10-31", end="2026-11-02", group_by="day", account="research")
    assert (answer.start, answer.end) == (
        datetime(2026, 10, 30, 22, tzinfo=UTC) + HOUR,
        datetime(2026, 11, 1, 23, tzinfo=UTC),
    )
    assert spend(answer) == {("2026-10-31",): 24 * Decimal("0.09"), ("2026-11-01",): 24 * Decimal("0.09")}
    months = asked(reader, BERLIN, **WHOLE, group_by="month", account="research")
    assert [row.group["month"] for row in months.rows] == ["2026-10", "2026-11"]
    assert asked(reader, UTC_ZONE, timezone="Europe/Berlin", **WHOLE).timezone == "Europe/Berlin"


def test_the_finest_of_several_periods_makes_the_rows(reader: LedgerReader) -> None:
    answer = asked(
        reader, start="2026-10-31T23:00Z", end="2026-11-01T01:00Z", group_by="month,hour", model="fal-ai/veo3"
    )
    assert [tuple(row.group.values()) for row in answer.rows] == [
        ("2026-10", "2026-10-31T23:00:00Z"),
        ("2026-11", "2026-11-01T00:00:00Z"),
    ]


@pytest.mark.parametrize("group_by", ["model", "hour", "day,model", "month,model", "account,hour,model"])
@pytest.mark.parametrize("limit", [1, 7, 10_000])
def test_pages_are_the_whole_without_overlap_or_gap(reader: LedgerReader, group_by: str, limit: int) -> None:
    span = {"start": "2026-10-31T20:00Z", "end": "2026-11-01T03:00Z"}
    whole = asked(reader, BERLIN, **span, group_by=group_by)
    rows: list[UsageRow] = []
    cursor: dict[str, str] = {}
    while True:
        page = asked(reader, BERLIN, **span, group_by=group_by, limit=str(limit), **cursor)
        assert len(page.rows) <= limit
        assert page.total == whole.total
        rows += page.rows
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
    assert tuple(rows) == whole.rows
    assert sum(row.amounts.cost for row in rows) == whole.total.amounts.cost
    # A page that the last row fills is the last.
    assert asked(reader, BERLIN, **span, group_by=group_by, limit=str(len(whole.rows))).next_cursor is None


def test_a_cursor_of_another_question_is_refused(reader: LedgerReader) -> None:
    page = asked(reader, **WHOLE, group_by="model", limit="1")
    assert page.next_cursor is not None
    with pytest.raises(QuestionError, match="cursor belongs to another question"):
        asked(reader, **WHOLE, group_by="app", cursor=page.next_cursor)
    hours = {"start": "2026-10-31T20:00Z", "end": "2026-11-01T03:00Z", "group_by": "day,model"}
    in_utc = asked(reader, **hours, limit="1").next_cursor
    assert in_utc is not None
    with pytest.raises(QuestionError, match="cursor belongs to another question"):
        asked(reader, BERLIN, **hours, cursor=in_utc)


def test_a_cursor_survives_everything_that_moves_no_charge(reader: LedgerReader, ledger: Ledger) -> None:
    page = asked(reader, **WHOLE, group_by="model", limit="1")
    assert page.next_cursor is not None
    later = NOW + timedelta(minutes=5)
    ledger.record_balance(Balance("studio", 5, later))
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 9, gpu_seconds=7), at=later)
    ledger.activate({"studio": ("models",), "research": ("serverless",)})
    ledger.view()
    following = asked(reader, **WHOLE, group_by="model", limit="1", cursor=page.next_cursor)
    assert following.rows
    assert CHANGED not in following.notes


def test_a_page_after_a_change_of_charges_goes_on_and_says_how_to_begin_again(
    reader: LedgerReader, ledger: Ledger
) -> None:
    page = asked(reader, **WHOLE, group_by="model", limit="1")
    assert page.next_cursor is not None
    ledger.restate("research", "serverless", HISTORY, charges_of(APP, 8), at=NOW + timedelta(minutes=5))
    following = asked(reader, **WHOLE, group_by="model", limit="1", cursor=page.next_cursor)
    assert following.rows
    assert CHANGED in following.notes
    assert "without cursor" in CHANGED
    assert CHANGED not in asked(reader, **WHOLE, group_by="model", limit="1").notes


def test_an_unaligned_window_is_widened_and_says_so(reader: LedgerReader) -> None:
    answer = asked(reader, start="2026-11-01T00:30Z", end="2026-11-01T01:00:00.000001Z")
    assert (answer.start, answer.end) == (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, 2, tzinfo=UTC))
    assert "widened to 2026-11-01T00Z/2026-11-01T02Z" in answer.notes[0]
    assert asked(reader, start="2026-11-01T00:00Z", end="2026-11-01T01:00Z").notes == ()


def test_what_is_left_out_is_the_last_24_hours(reader: LedgerReader) -> None:
    answer = asked(reader)
    assert answer.end == hour_of(NOW) + HOUR
    assert answer.start == hour_of(NOW) - 24 * HOUR
    assert not any("widened" in note for note in answer.notes)


def test_a_window_that_the_ledger_knows_is_complete(reader: LedgerReader) -> None:
    answer = asked(reader, start="2026-10-30", end="2026-11-03T10:00Z")
    assert answer.coverage.complete
    assert answer.coverage.data_through == hour_of(NOW)
    assert answer.coverage.settled_through == hour_of(NOW) - 48 * HOUR
    assert answer.coverage.available_from == HISTORY.start


@pytest.mark.parametrize(
    ("start", "end", "note"),
    [
        ("2026-10-01", "2026-11-01", "from 2026-10-30T00:00Z on"),
        ("2026-11-01", "2026-11-04", "after 2026-11-03T10:00Z"),
    ],
)
def test_a_window_beyond_the_ledger_is_not_silently_short(
    reader: LedgerReader, start: str, end: str, note: str
) -> None:
    answer = asked(reader, start=start, end=end)
    assert not answer.coverage.complete
    assert note in answer.notes[0]


def test_folded_hours_are_told_to_be_missing(reader: LedgerReader, address: str) -> None:
    horizon = datetime(2026, 11, 1, tzinfo=UTC)
    later = Ledger(address, rules=Rules(), clock=lambda: NOW + timedelta(days=90))
    later.fold_before(horizon)
    later.close()
    answer = asked(reader, **WHOLE)
    assert not answer.coverage.complete
    assert answer.coverage.available_from == horizon


def test_a_source_that_has_not_been_read_makes_the_answer_incomplete(reader: LedgerReader, ledger: Ledger) -> None:
    ledger.activate({"studio": ("models",), "research": ("serverless",), "new": ("models",)})
    answer = asked(reader, start="2026-10-30", end="2026-11-03T10:00Z")
    assert not answer.coverage.complete
    assert answer.coverage.data_through is None
    assert "models of new" in answer.notes[0]
    assert asked(reader, start="2026-10-30", end="2026-11-03T10:00Z", account="studio").coverage.complete


def test_hours_with_rows_that_cannot_be_read_are_not_complete(reader: LedgerReader, ledger: Ledger) -> None:
    hour = datetime(2026, 11, 2, 5, tzinfo=UTC)
    rows = [RejectedRow("wrong_type", hour, cost=5 * NANO), RejectedRow("unit", hour, is_counted=True)]
    ledger.restate("studio", "models", Window(hour, hour + HOUR), [], at=NOW, rejected=rows)
    answer = asked(reader, start="2026-11-02T05:00Z", end="2026-11-02T06:00Z")
    assert not answer.coverage.complete
    (note,) = answer.notes
    assert note == (
        "2 rows of models of studio cannot be read, or only partly; their hours keep their previous values. $5.00 in "
        "these rows is not included."
    )
    assert spend(answer) == {(): Decimal("1.44")}, "nothing has been taken back"
    for others in ({"account": "research"}, {"start": "2026-11-02T06:00Z", "end": "2026-11-02T07:00Z"}):
        window = {"start": "2026-11-02T05:00Z", "end": "2026-11-02T06:00Z"}
        assert asked(reader, **window | others).coverage.complete


def test_an_account_that_is_not_polled_is_an_error_that_names_those_that_are(reader: LedgerReader) -> None:
    with pytest.raises(QuestionError, match="accepted are research, studio"):
        asked(reader, account="nobody")


def test_before_anything_has_been_read_there_is_no_answer(address: str) -> None:
    reader = LedgerReader(address)
    with pytest.raises(LedgerError):
        asked(reader)
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    with pytest.raises(NoDataYetError):
        asked(reader)
    ledger.activate({"studio": ("models",)})
    with pytest.raises(NoDataYetError):
        asked(reader)
    reader.close()
    ledger.close()


def test_an_answer_is_of_one_state_of_the_ledger(
    reader: LedgerReader, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwatched = LedgerSnapshot.usage
    restated: list[Restatement] = []

    def usage(
        snapshot: LedgerSnapshot,
        window: Window,
        by: Sequence[str],
        every: Bucket | None = None,
        *,
        zone: ZoneInfo,
        where: Mapping[str, Collection[str]],
    ) -> tuple[UsageSum, ...]:
        found = unwatched(snapshot, window, by, every, zone=zone, where=where)
        if not restated:
            # The ledger changes after the first sums have been read.
            restated.append(ledger.restate("studio", "models", HISTORY, charges_of(FLUX, 9), at=NOW + HOUR))
        return found

    monkeypatch.setattr(LedgerSnapshot, "usage", usage)
    answer = asked(reader, **WHOLE, group_by="day,model")
    assert restated
    assert sum(row.amounts.cost for row in answer.rows) == answer.total.amounts.cost
    assert "fal-ai/veo3" in {row.group["model"] for row in answer.rows}, "all of it is as it was at the beginning"
    after = asked(reader, **WHOLE, group_by="day,model")
    assert "fal-ai/veo3" not in {row.group["model"] for row in after.rows}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "2026-11-02", "end": "2026-11-01"}, "start is not before end"),
        ({"start": "2026-11-02", "end": "2026-11-02"}, "start is not before end"),
        ({"start": "yesterday"}, "start is not a date or a time; write it like"),
        ({"start": "2026-02-30"}, "start is not a date or a time"),
        ({"end": "1999-01-01"}, "end is not a date or a time"),
        ({"group_by": "colour"}, "group_by is not a comma-separated list of model, app, gpu_class, account"),
        ({"group_by": "model,model"}, "each at most once"),
        ({"group_by": ""}, "group_by is not a comma-separated list"),
        ({"timezone": "Berlin"}, "timezone is not an IANA time zone"),
        ({"timezone": "../../etc/passwd"}, "timezone is not an IANA time zone"),
        ({"limit": "0"}, "limit is not a whole number from 1 to 10000"),
        ({"limit": "ten"}, "limit is not a whole number"),
        ({"model": ""}, "leave it out to ask for all"),
        ({"cursor": "abc"}, "cursor is not a cursor"),
        ({"groupby": "model"}, "groupby is not a parameter; did you mean group_by?"),
        ({"colour": "model"}, "colour is not one of start, end, group_by"),
    ],
)
def test_a_question_that_cannot_be_understood_is_told_what_is_accepted(given: dict[str, str], message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse_usage_question(given, now=NOW, zone=UTC_ZONE)
    assert message in str(caught.value)


def test_a_key_in_the_wrong_place_is_not_repeated() -> None:
    for texts in ({"0af3:secret-half": "x"}, {"model": "x", "start": "0af3:secret-half"}):
        with pytest.raises(QuestionError) as caught:
            parse_usage_question(texts, now=NOW, zone=UTC_ZONE)
        assert "secret" not in str(caught.value)


@given(
    st.datetimes(datetime(2001, 1, 1), datetime(2098, 1, 1)),  # noqa: DTZ001  of the zone
    st.timedeltas(timedelta(seconds=1), timedelta(days=40)),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe"]),
)
def test_a_widened_window_holds_what_was_asked_for_and_no_hour_more(
    start: datetime, length: timedelta, zone_name: str
) -> None:
    zone = ZoneInfo(zone_name)
    since = start.replace(tzinfo=zone).astimezone(UTC)
    window, _ = whole_hours(since, since + length, now=NOW, zone=zone)
    assert isinstance(window, Window)
    assert window.start <= since < window.start + HOUR
    assert window.end - HOUR < since + length <= window.end
