import asyncio
import gzip
import os
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from fal.conftest import Answer, Bench, Fal, gzipped, refused
from fal.focus_csv import report, usage

from exporter.fal.aggregation import Detail
from exporter.fal.client import Client
from exporter.fal.errors import (
    ApiError,
    DeadlineError,
    DetailRefusedError,
    FeatureError,
    LockedError,
    NotCsvError,
    ReadTimeoutError,
    RefusalError,
    ScopeError,
    TooLargeError,
    TruncatedError,
)
from exporter.fal.focus.report import FocusReports, Progress, download, fetch, file_name
from exporter.fal.focus.request import FocusRequest, FocusRequestError

PATH = "/v1/account/focus"
INVOICE = FocusRequest(source="invoice", charge_month="2026-10")
BODY = b"BilledCost,ChargeCategory\n" + b"1.5,Usage\n" * 20_000


def csv(body: bytes = BODY, **options: object) -> Answer:
    made = Answer(body, headers=(("content-type", "text/csv; charset=utf-8"),))
    return replace(made, **options)  # type: ignore[arg-type]  # a mapping has one type for all its values


async def body_of(client: Client, request: FocusRequest = INVOICE) -> list[bytes]:
    return [piece async for piece in download(client, request)]


async def test_a_report_comes_in_pieces_that_make_its_body(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, csv(chunk=10_000))
    pieces = await body_of(bench.client())
    assert b"".join(pieces) == BODY
    assert len(pieces) > 2
    assert all(pieces)
    assert fal.requests[0].query == {"source": ["invoice"], "charge_month": ["2026-10"]}
    assert fal.requests[0].headers["accept"] == "text/csv"
    assert bench.heard.codes == ["200"]


async def test_a_report_is_never_whole_in_memory_and_larger_than_an_answer_may_be(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, csv(chunk=10_000))
    pieces = await body_of(bench.client(answer_bytes=50_000))
    assert max(map(len, pieces)) < len(BODY)
    assert sum(map(len, pieces)) == len(BODY)


async def test_the_deadline_holds_for_the_body_and_for_what_is_done_with_it(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, csv(chunk=10_000))
    async with aclosing(download(bench.client(report_deadline=timedelta(minutes=5)), INVOICE)) as body:
        await anext(body)
        bench.time.elapsed += 301
        with pytest.raises(DeadlineError):
            await anext(body)


async def test_it_is_tried_again_before_the_first_byte(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(429, retry_after="3"), refused(503), Answer(b"", promised=50), csv())
    assert b"".join(await body_of(bench.client())) == BODY
    assert bench.heard.codes == ["429", "503", "error", "200"]
    assert len(bench.heard.retries) == 3
    assert bench.time.slept[0] == 3.0


async def test_a_body_that_breaks_off_is_truncated_and_not_begun_anew(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, csv(promised=len(BODY) + 100))
    with pytest.raises(TruncatedError):
        await body_of(bench.client())
    assert len(fal.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(403, "authorization_error", "Admin scope is needed."), ScopeError),
        (refused(403, "authorization_error", "FOCUS reports are not enabled for this account."), FeatureError),
        (refused(403, message="User is locked. Reason: TOP_UP"), LockedError),
        (Answer(b"<!DOCTYPE html><html>Sign in</html>"), NotCsvError),
        (Answer(b"<html>", headers=(("content-type", "text/html"),)), NotCsvError),
        (Answer(b'\xef\xbb\xbf {"error": {"type": "server_error"}}'), NotCsvError),
        (csv(b""), NotCsvError),
        (Answer(hangs=True), ReadTimeoutError),
    ],
)
async def test_failures_are_told_apart(fal: Fal, bench: Bench, answer: Answer, kind: type[ApiError]) -> None:
    fal.plays(PATH, answer)
    client = bench.client(
        attempts=1,
        read_timeout=timedelta(milliseconds=200),
        report_deadline=timedelta(milliseconds=400),
    )
    with pytest.raises(kind):
        await body_of(client)
    assert ("TOP_UP" in answer.body.decode("utf-8", "replace")) == bool(client.locks.reasons)


@pytest.mark.parametrize(
    "answer", [csv(), gzipped(BODY), Answer(gzip.compress(BODY, 0), headers=(("content-encoding", "gzip"),))]
)
async def test_a_report_is_not_taken_in_beyond_its_limit(fal: Fal, bench: Bench, answer: Answer) -> None:
    fal.plays(PATH, answer)
    with pytest.raises(TooLargeError):
        await body_of(bench.client(report_bytes=len(BODY) - 1))
    assert b"".join(await body_of(bench.client(report_bytes=len(answer.body) + len(BODY)))) == BODY


async def test_whoever_has_seen_enough_gives_the_place_to_others(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, csv(chunk=1000))
    client = bench.client(requests_at_once=1)
    async with aclosing(download(client, INVOICE)) as body:
        await anext(body)
        second = asyncio.create_task(body_of(client))
        await asyncio.sleep(0.02)
        assert len(fal.requests) == 1
    assert b"".join(await second) == BODY
    assert bench.heard.codes == ["200", "200"]


async def test_what_fal_would_refuse_is_never_sent(fal: Fal, bench: Bench) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(FocusRequestError, match="more than 90 days"):
        await body_of(bench.client(), FocusRequest(source="estimate", start=start, end=start + timedelta(days=91)))
    assert fal.requests == []


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


DAYS = FocusRequest(
    source="estimate", start=datetime(2025, 10, 1, tzinfo=UTC), end=datetime(2025, 10, 4, tzinfo=UTC), timeframe="day"
)


async def test_a_fetch_goes_on_with_the_first_piece_that_is_missing(fal: Fal, bench: Bench, tmp_path: Path) -> None:
    told: list[Progress] = []
    fal.plays(PATH, csv(b"first\n"), csv(b"second", promised=100))
    with pytest.raises(TruncatedError):
        await fetch(bench.client(attempts=1), DAYS, tmp_path, longest=timedelta(days=1), on_progress=told.append)
    assert contents(tmp_path) == [b"first\n"]
    assert (told[0].number, told[0].pieces, told[-1].number, told[-1].done) == (1, 3, 2, False)

    fal.plays(PATH, csv(b"second\n"), csv(b"third\n"))
    paths = await fetch(bench.client(), DAYS, tmp_path, longest=timedelta(days=1), on_progress=told.append)
    assert [path.read_bytes() for path in paths] == contents(tmp_path) == [b"first\n", b"second\n", b"third\n"]
    assert [request.query["start"] for request in fal.requests] == [
        ["2025-10-01T00:00:00Z"],
        ["2025-10-02T00:00:00Z"],
        ["2025-10-02T00:00:00Z"],
        ["2025-10-03T00:00:00Z"],
    ]


async def test_an_estimate_of_a_time_that_was_not_over_when_it_was_fetched_is_fetched_again(
    fal: Fal, bench: Bench, tmp_path: Path
) -> None:
    fal.plays(PATH, csv(b"so far\n"), csv(b"whole\n"))
    (path,) = await fetch(bench.client(), DAYS, tmp_path)
    assert DAYS.end is not None
    an_hour_before = DAYS.end.timestamp() - 3600
    os.utime(path, (an_hour_before, an_hour_before))
    for _ in range(2):
        await fetch(bench.client(), DAYS, tmp_path)
        assert path.read_bytes() == b"whole\n"
    assert len(fal.requests) == 2


async def test_a_fetch_without_resuming_begins_anew(fal: Fal, bench: Bench, tmp_path: Path) -> None:
    fal.plays(PATH, csv(b"old\n"), csv(b"new\n"))
    await fetch(bench.client(), INVOICE, tmp_path)
    (path,) = await fetch(bench.client(), INVOICE, tmp_path, resume=False)
    assert path.read_bytes() == b"new\n"


async def test_the_latest_invoice_is_another_one_next_month_and_always_fetched(
    fal: Fal, bench: Bench, tmp_path: Path
) -> None:
    fal.plays(PATH, csv(b"october\n"), csv(b"november\n"))
    for expected in (b"october\n", b"november\n"):
        (path,) = await fetch(bench.client(), FocusRequest(source="invoice"), tmp_path)
        assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (INVOICE, "focus-account-invoice-charged-2026-10.csv"),
        (FocusRequest(source="invoice", billing_month="2026-11"), "focus-account-invoice-billed-2026-11.csv"),
        (FocusRequest(source="invoice", expand="organization"), "focus-account-invoice-latest-by-team.csv"),
        (DAYS, "focus-account-estimate-day-20251001T000000Z-20251004T000000Z.csv"),
        (
            FocusRequest(source="invoice", organization=True, team_username="../a b"),
            "focus-organization-invoice-latest-%2e%2e%2fa%20b.csv",
        ),
    ],
)
def test_a_piece_has_a_name_of_its_own(request_: FocusRequest, name: str) -> None:
    assert file_name(request_) == name


INVOICE_FOCUS_REPORT = FocusRequest(source="invoice")


class Cost(NamedTuple):
    billed_cost: Decimal
    sku_id: str | None


async def rows(reports: FocusReports, bench: Bench, rejected: Counter[str]) -> list[Cost]:
    deadline = bench.clients[0].deadline()
    return [row async for rows in reports.rows(Cost, INVOICE_FOCUS_REPORT, deadline, rejected) for row in rows]


def reports(bench: Bench, *, by_team: bool = False) -> FocusReports:
    return FocusReports(bench.client(attempts=1), "focus", by_team=by_team)


async def test_rows_of_any_number_of_pieces_are_read_exactly(fal: Fal, bench: Bench) -> None:
    whole = report(*(usage(SkuId=f"a\n{number}", BilledCost=f"0.{number:030d}") for number in range(500)))
    fal.plays(PATH, Answer(whole.body, headers=whole.headers, chunk=777))
    found = await rows(reports(bench), bench, Counter())
    assert found == [(Decimal(f"0.{number:030d}"), f"a\n{number}") for number in range(500)]


async def test_rows_that_cannot_be_read_are_counted_and_the_first_is_shown(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, report(usage(BilledCost="free"), usage(), usage(BilledCost="gratis")))
    rejected: Counter[str] = Counter()
    with structlog.testing.capture_logs() as logs:
        found = await rows(reports(bench), bench, rejected)
    assert [row.billed_cost for row in found] == [Decimal("0.32")]
    assert rejected == {"unreadable": 2}
    (shown,) = [entry for entry in logs if entry["event"] == "row_rejected"]
    assert "line 2, BilledCost: 'free' is not a number" in shown["sample"]


async def test_what_a_line_is_need_not_be_read_again_in_the_next_report(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, report(usage()), report(usage()))
    made = reports(bench)
    (first,) = await rows(made, bench, Counter())
    (second,) = await rows(made, bench, Counter())
    assert second.sku_id is first.sku_id


@pytest.mark.parametrize(
    "refusal",
    [
        refused(400, "validation_error", "expand: not an organization root"),
        refused(403, "authorization_error", "This endpoint requires the root team."),
        refused(403, "authorization_error", "expand is not enabled for this account"),
        refused(404, "not_found", "no organization"),
    ],
)
async def test_what_only_a_root_may_ask_for_gives_way_to_what_every_account_may(
    fal: Fal, bench: Bench, refusal: Answer
) -> None:
    fal.plays(PATH, refusal, refusal, report(usage()))
    made = reports(bench, by_team=True)
    for _ in range(2):
        assert len(await rows(made, bench, Counter())) == 1
    assert made.detail is Detail.REDUCED
    assert [request.query.get("expand") for request in fal.requests] == [*[["organization"]] * 2, None, None]


REFUSALS = [refused(400), refused(403), refused(404)]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_one_refusal_of_the_teams_decides_nothing(fal: Fal, bench: Bench, refusal: Answer) -> None:
    fal.plays(PATH, refusal, report(usage()))
    made = reports(bench, by_team=True)
    assert len(await rows(made, bench, Counter())) == 1
    assert made.detail is Detail.FULL
    assert [request.query.get("expand") for request in fal.requests] == [["organization"]] * 2


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_teams_that_have_been_reported_are_never_given_up(fal: Fal, bench: Bench, refusal: Answer) -> None:
    fal.plays(PATH, report(usage()), refusal, report(usage()))
    made = reports(bench, by_team=True)
    await rows(made, bench, Counter())
    with pytest.raises(DetailRefusedError, match="fal refuses expand=organization, which it accepted before"):
        await rows(made, bench, Counter())
    assert len(await rows(made, bench, Counter())) == 1
    assert [request.query.get("expand") for request in fal.requests] == [
        *[["organization"]] * 2,
        None,
        ["organization"],
    ]
    fal.plays(PATH, refusal)
    with pytest.raises(RefusalError) as refused_altogether:
        await rows(made, bench, Counter())
    assert not isinstance(refused_altogether.value, DetailRefusedError)


async def test_teams_are_asked_for_again(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(403), report(usage()))
    made = reports(bench, by_team=True)
    made.detail = Detail.REDUCED
    start = datetime(2026, 11, 1, tzinfo=UTC)
    request = FocusRequest(source="estimate", start=start, end=start + timedelta(hours=1))
    for detail in (Detail.REDUCED, Detail.FULL, Detail.FULL):
        await made.ask_for_teams(request, bench.clients[0].deadline())
        assert made.detail is detail
    assert len(fal.requests) == 2


@pytest.mark.parametrize(
    "refusal", [refused(401), refused(403, message="User is locked. Reason: TOP_UP"), refused(500)]
)
async def test_any_other_failure_decides_nothing_about_teams(fal: Fal, bench: Bench, refusal: Answer) -> None:
    fal.plays(PATH, refusal, report(usage()))
    made = reports(bench, by_team=True)
    with pytest.raises(ApiError):
        await rows(made, bench, Counter())
    assert await rows(made, bench, Counter())
    assert [request.query.get("expand") for request in fal.requests] == [["organization"], ["organization"]]


async def test_a_report_of_another_window_is_asked_for_as_it_is(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, report())
    start = datetime(2026, 11, 1, tzinfo=UTC)
    request = FocusRequest(source="estimate", start=start, end=start + timedelta(hours=1))
    made = reports(bench)
    assert [row async for row in made.rows(Cost, request, bench.clients[0].deadline(), Counter())] == [[], []]
    assert fal.requests[0].query["start"] == ["2026-11-01T00:00:00Z"]
