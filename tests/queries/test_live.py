"""The part of a window that fal is asked for, and answers made of both fal's and the ledger's hours."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from queries.conftest import APP, BERLIN, FLUX, HISTORY, NOW, UTC_ZONE

from exporter.charges import HOUR, NANO, Amounts, Dimensions, Window, hour_start
from exporter.inquiry import Inquiry
from exporter.ledger import Ledger, ScopeState
from exporter.ledger.reader import LedgerReader
from exporter.queries import live
from exporter.queries.live import LivePart, LiveQuestion, LiveRow, live_questions
from exporter.queries.usage import CHANGED, UsageAnswer, answer_usage, parse_usage_question

BEFORE = Window(datetime(2026, 10, 28, 22, tzinfo=UTC), HISTORY.start)
WHOLE = {"start": "2026-10-28T22:00Z", "end": "2026-11-03T10:00Z"}
UP_TO_NOW = Window(BEFORE.start, datetime(2026, 11, 3, 10, tzinfo=UTC))


def scope(account: str, source: str, known: Window | None) -> ScopeState:
    start, end = (None, None) if known is None else (known.start, known.end)
    return ScopeState(account, source, NOW, end, None, start, NOW, 0, 0, 0, 0)


def asked_of(mode: str, window: Window, *scopes: ScopeState, **given: object) -> dict[str, Window]:
    terms: dict[str, object] = {"accounts": None, "kept_from": None, "now": NOW} | given
    questions = live_questions(mode, window, None, UTC_ZONE, scopes=scopes, **terms)  # type: ignore[arg-type]
    return {question.account: question.window for question in questions}


def test_only_what_the_ledger_does_not_have_is_asked_for_account_by_account() -> None:
    later = Window(HISTORY.start + 24 * HOUR, HISTORY.end)
    scopes = (
        scope("studio", "models", HISTORY),
        scope("studio", "serverless", later),
        scope("research", "models", HISTORY),
        scope("new", "models", None),
    )
    window = Window(HISTORY.start - 2 * HOUR, HISTORY.end)
    assert asked_of("auto", window, *scopes) == {
        "studio": Window(window.start, later.start),
        "research": Window(window.start, HISTORY.start),
        "new": window,
    }
    assert asked_of("auto", later, *scopes) == {"new": later}
    assert asked_of("auto", window, *scopes, accounts={"research"}).keys() == {"research"}
    assert asked_of("auto", window, *scopes, kept_from=later.start + HOUR)["research"].end == later.start + HOUR


def test_all_or_nothing_is_asked_for_where_that_is_wanted_and_never_hours_to_come() -> None:
    known = scope("studio", "models", HISTORY)
    assert asked_of("false", Window(BEFORE.start, HISTORY.end), scope("new", "models", None)) == {}
    assert asked_of("true", HISTORY, known) == {"studio": HISTORY}
    running_until = NOW.replace(minute=0) + HOUR
    assert asked_of("true", Window(HISTORY.start, running_until + 24 * HOUR), known)["studio"].end == running_until
    assert asked_of("true", Window(running_until, running_until + HOUR), known) == {}


@pytest.mark.parametrize("every", [None, "hour", "day", "month"])
def test_a_question_arrives_as_it_was_sent(every: str | None) -> None:
    question = LiveQuestion("studio", BEFORE, every, BERLIN)  # type: ignore[arg-type]
    assert LiveQuestion.read(Inquiry.read(question.inquiry.written)) == question


def part(account: str, dimensions: Dimensions, *stamps: datetime, window: Window = BEFORE) -> LivePart:
    """Charge a dollar, 3 units and 7 GPU-seconds in every bucket."""
    amounts = Amounts(3 * NANO, 7 * NANO, NANO, 0, NANO)
    its = dimensions._replace(account=account)
    return LivePart(account, window, NOW, tuple(LiveRow(at, its, amounts) for at in stamps))


PARTS = (
    part("studio", FLUX, BEFORE.start, HISTORY.start - 24 * HOUR),
    part("research", APP, BEFORE.start),
)


def asked(reader: LedgerReader, *parts: LivePart, **given: str) -> UsageAnswer:
    with reader.snapshot() as snapshot:
        question = parse_usage_question(WHOLE | given, now=NOW, zone=UTC_ZONE)
        return answer_usage(snapshot, question, parts)


def spend(answer: UsageAnswer) -> dict[tuple[str, ...], float]:
    return {tuple(row.group.values()): row.amounts.cost / NANO for row in answer.rows}


def test_sums_are_of_fals_hours_and_the_ledgers(reader: LedgerReader) -> None:
    ledger, both = asked(reader), asked(reader, *PARTS)
    assert both.total.amounts.cost == ledger.total.amounts.cost + 3 * NANO
    assert both.total.amounts.gpu_seconds == ledger.total.amounts.gpu_seconds + 21 * NANO
    assert both.total.quantities["machine_second"] == ledger.total.quantities["machine_second"] + 3 * NANO
    assert (ledger.coverage.complete, both.coverage.complete) == (False, True)
    assert both.live == PARTS
    assert any("studio: 2026-10-28T22Z/2026-10-30T00Z is not from the ledger" in note for note in both.notes)


def test_what_fal_tells_is_never_added_to_what_the_ledger_has(reader: LedgerReader) -> None:
    whole = asked(reader, part("studio", FLUX, BEFORE.start, window=UP_TO_NOW), account="studio")
    assert whole.total.amounts.cost == NANO
    assert whole.coverage.complete


def test_filters_and_groups_hold_for_both(reader: LedgerReader) -> None:
    known = spend(asked(reader, group_by="model", account="studio"))
    both = spend(asked(reader, *PARTS, group_by="model", account="studio"))
    assert both == known | {("fal-ai/flux",): known["fal-ai/flux",] + 2}
    assert spend(asked(reader, *PARTS, group_by="app", gpu_class="H100"))["train",] == pytest.approx(
        spend(asked(reader, group_by="app", gpu_class="H100"))["train",] + 1
    )


def test_a_month_that_both_tell_of_is_one_row(reader: LedgerReader) -> None:
    months = spend(asked(reader, *PARTS, group_by="month"))
    assert list(months) == [("2026-10",), ("2026-11",)]
    assert months["2026-10",] == pytest.approx(48 * 1.44 + 3)


def test_days_begin_in_fals_hours_and_go_on_in_the_ledgers(reader: LedgerReader) -> None:
    days = spend(asked(reader, *PARTS, group_by="day"))
    assert list(days)[:3] == [("2026-10-28",), ("2026-10-29",), ("2026-10-30",)]
    assert (days["2026-10-28",], days["2026-10-29",]) == (2, 1)


def test_pages_lead_through_both_and_tell_where_fal_has_answered_anew(reader: LedgerReader) -> None:
    rows: list[dict[tuple[str, ...], float]] = []
    cursor: dict[str, str] = {}
    while not rows or cursor:
        page = asked(reader, *PARTS, group_by="day,model", limit="2", **cursor)
        assert CHANGED not in page.notes
        rows.append(spend(page))
        cursor = {"cursor": page.next_cursor} if page.next_cursor else {}
    assert {key: cost for page in rows for key, cost in page.items()} == spend(
        asked(reader, *PARTS, group_by="day,model")
    )
    first = asked(reader, *PARTS, group_by="day,model", limit="2")
    later = [replace(each, as_of=NOW + timedelta(minutes=5)) for each in PARTS]
    assert first.next_cursor is not None
    assert CHANGED in asked(reader, *later, group_by="day,model", limit="2", cursor=first.next_cursor).notes


def test_what_fal_has_not_answered_is_missing_and_a_note_says_why(reader: LedgerReader) -> None:
    failed = LivePart("studio", BEFORE, problem="fal is away", reason="connection")
    answer = asked(reader, failed, PARTS[1])
    assert not answer.coverage.complete
    assert answer.live == PARTS[1:]
    assert any(note.endswith("did not answer: fal is away") for note in answer.notes)
    assert any("The ledger has every hour from 2026-10-30T00:00Z on" in note for note in answer.notes)


@pytest.mark.parametrize("changed", [{"unreadable": 2}, {"window": Window(BEFORE.start, NOW.replace(minute=0) + HOUR)}])
def test_rows_that_cannot_be_read_and_a_running_hour_leave_it_incomplete(
    reader: LedgerReader, changed: dict[str, object]
) -> None:
    lacking = replace(PARTS[0], **changed)  # type: ignore[arg-type]
    assert not asked(reader, lacking, account="studio").coverage.complete


def test_before_anything_has_been_read_fal_alone_tells(ledger: Ledger, address: str) -> None:
    ledger.activate({"studio": ("models",), "research": ("serverless",), "new": ("models",)})
    with LedgerReader(address).snapshot() as snapshot:
        question = parse_usage_question(WHOLE | {"account": "new"}, now=NOW, zone=UTC_ZONE)
        found = answer_usage(snapshot, question, [part("new", FLUX, BEFORE.start, window=UP_TO_NOW)])
    assert found.total.amounts.cost == NANO
    assert found.coverage.complete
    assert found.coverage.data_through is None


def test_an_answer_of_any_length_is_read_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (hour_start(number).isoformat(), "red", "", "flux", "", "", "image", number, 0, 2, 1, 1)
        for number in range(950)
    ]
    given_way: list[float] = []
    monkeypatch.setattr(time, "sleep", given_way.append)
    question = LiveQuestion("studio", BEFORE, "hour", UTC_ZONE)
    body = live.body_of(rows)
    found = live._part(question, {"at": NOW.isoformat(), "unreadable": 0}, body)
    assert [(row.at, row.amounts.quantity) for row in found.rows] == [
        (hour_start(number), number) for number in range(950)
    ]
    assert {row.dimensions for row in found.rows} == {Dimensions("studio", "red", model="flux", unit="image")}
    assert max(len(json.loads(line)) for line in body.splitlines()) <= 100
    assert given_way == [0] * len(body.splitlines())
