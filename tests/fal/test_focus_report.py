from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
import structlog
from fal.conftest import Answer, Bench, Fal, refused
from fal.focus_csv import report, usage

from exporter.fal.aggregation import Detail
from exporter.fal.errors import ApiError, DetailRefusedError, RefusalError
from exporter.fal.focus.report import FocusReports
from exporter.fal.focus.request import FocusRequest

PATH = "/v1/account/focus"
INVOICE = FocusRequest(source="invoice")


class Cost(NamedTuple):
    billed_cost: Decimal
    sku_id: str | None


async def rows(reports: FocusReports, bench: Bench, rejected: Counter[str]) -> list[Cost]:
    deadline = bench.clients[0].deadline()
    return [row async for rows in reports.rows(Cost, INVOICE, deadline, rejected) for row in rows]


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
    with pytest.raises(DetailRefusedError, match="fal refuses expand=organization, which it has answered before"):
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
