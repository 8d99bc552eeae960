"""fal's own reports on demand, from a scripted fal, through an inquiry as the web process makes it."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fal.conftest import Answer, Bench, Fal, bench, fal, refused, stage, tls

from exporter.inquiry import Inquirer, Inquiry, InquiryError, Responder
from exporter.polling.inquiries import focus_reports
from exporter.polling.inquiries.focus_reports import FocusReports
from exporter.queries.focus.question import REPORT

__all__ = ["bench", "fal", "stage", "tls"]

PATH = "/v1/account/focus"
BODY = b"BilledCost,ChargeCategory\n" + b"1.5,Usage\n" * 60_000
OCTOBER = {"source": "invoice", "charge_month": "2026-10"}
TAGGED = {
    "source": "tagged-estimate",
    "start": "2026-11-20T00:00:00+00:00",
    "end": "2026-11-21T00:00:00+00:00",
    "timezone": "Europe/Berlin",
    "timeframe": "hour",
}

Ask = Callable[[dict[str, str]], Awaitable[bytes]]


def csv(body: bytes = BODY, *, chunk: int = 0, promised: int | None = None) -> Answer:
    return Answer(body, headers=(("content-type", "text/csv"),), chunk=chunk, promised=promised)


@pytest.fixture
async def reports(bench: Bench, tmp_path: Path) -> AsyncIterator[FocusReports]:
    made = FocusReports(
        {"prod": bench.client(attempts=1)},
        f"sqlite:///{tmp_path / 'ledger.sqlite'}",
        invoice_fresh_for=timedelta(hours=6),
        clock=bench.time.now,
    )
    yield made
    await made.close()


@pytest.fixture
async def ask(reports: FocusReports) -> AsyncIterator[Ask]:
    responder = Responder({REPORT: reports.answer})

    async def ask(fields: dict[str, str], account: str = "prod") -> bytes:
        async with Inquirer(responder.connect).ask(Inquiry(REPORT, account, fields), patience=20) as answer:
            assert answer.head.keys() == {"read_at"}
            return await answer.body(2**24)

    yield ask
    await responder.close()


async def test_a_report_is_fals_to_the_byte_and_is_asked_for_once_while_it_is_fresh(
    fal: Fal, bench: Bench, ask: Ask, tmp_path: Path
) -> None:
    fal.plays(PATH, csv(chunk=50_000))
    assert await ask(OCTOBER) == BODY
    assert await ask(OCTOBER) == BODY
    assert [request.query for request in fal.requests] == [{"source": ["invoice"], "charge_month": ["2026-10"]}]
    folder = tmp_path / "ledger.sqlite-reports"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in folder.iterdir()] == ["prod-focus-account-invoice-charged-2026-10.csv"]
    bench.time.elapsed += 6 * 3600
    assert await ask(OCTOBER) == BODY
    assert len(fal.requests) == 2
    await ask({"source": "invoice", "billing_month": "2026-10"})
    assert len(fal.requests) == 3, "another question has another file"


async def test_a_window_is_asked_for_as_it_has_been_widened(fal: Fal, ask: Ask) -> None:
    fal.plays(PATH, csv())
    await ask(TAGGED)
    await ask(TAGGED)
    (request,) = fal.requests
    assert {name: values[0] for name, values in request.query.items()} == {
        "source": "tagged-estimate",
        "start": "2026-11-20T00:00:00Z",
        "end": "2026-11-21T00:00:00Z",
        "timezone": "Europe/Berlin",
        "timeframe": "hour",
        "bound_to_timeframe": "false",
    }


async def test_one_that_was_had_before_answers_while_fal_does_not(fal: Fal, bench: Bench, ask: Ask) -> None:
    fal.plays(PATH, csv(), refused(503))
    await ask(OCTOBER)
    bench.time.elapsed += 7 * 3600
    assert await ask(OCTOBER) == BODY
    assert len(fal.requests) == 2


@pytest.mark.parametrize(
    ("answer", "reason", "asked"),
    [
        (refused(403, "authorization_error", "FOCUS reports are not enabled for this account."), "unavailable", 1),
        (refused(403, "authorization_error", "Admin scope is needed."), "unavailable", 1),
        (refused(404, "not_found", "Not Found"), "unavailable", 1),
        (refused(400, "validation_error", "No invoice has been issued for 2026-10 yet."), "lacking", 2),
        (refused(500), "failed", 2),
        (refused(403, message="User is locked. Reason: TOP_UP"), "failed", 2),
        (csv(promised=len(BODY) + 9), "failed", 2),
    ],
)
async def test_what_is_not_to_be_had_is_said_and_what_is_refused_is_not_asked_for_every_time(
    fal: Fal, ask: Ask, answer: Answer, reason: str, asked: int
) -> None:
    fal.plays(PATH, answer)
    for _ in range(2):
        with pytest.raises(InquiryError) as caught:
            await ask(OCTOBER)
        assert caught.value.reason == reason
    assert len(fal.requests) == asked


async def test_half_a_report_is_not_kept(fal: Fal, ask: Ask, tmp_path: Path) -> None:
    fal.plays(PATH, csv(promised=len(BODY) + 9))
    with pytest.raises(InquiryError, match="was cut off"):
        await ask(OCTOBER)
    assert list((tmp_path / "ledger.sqlite-reports").iterdir()) == []


async def test_a_report_leaves_the_ledger_room_on_its_disk(
    fal: Fal, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fal.plays(PATH, csv())
    monkeypatch.setattr(focus_reports, "LEFT_FREE", shutil.disk_usage(tmp_path).total)
    with pytest.raises(InquiryError, match=r"cannot be kept in a file: less than [\d]+ MiB are free on its disk"):
        await ask(OCTOBER)
    assert list((tmp_path / "ledger.sqlite-reports").iterdir()) == []


async def test_a_refusal_is_believed_for_an_hour(fal: Fal, bench: Bench, ask: Ask) -> None:
    fal.plays(PATH, refused(403, "authorization_error", "FOCUS reports are not enabled."), csv())
    with pytest.raises(InquiryError, match="not enabled"):
        await ask(OCTOBER)
    bench.time.elapsed += 3600
    assert await ask(OCTOBER) == BODY


async def test_what_a_killed_collector_left_is_cleared_and_old_reports_give_way(
    fal: Fal, bench: Bench, ask: Ask, tmp_path: Path
) -> None:
    folder = tmp_path / "ledger.sqlite-reports"
    folder.mkdir()
    (folder / ".prod-x.csv.1a2b3c4d").write_bytes(b"half")
    fal.plays(PATH, csv(b"BilledCost\n1.5\n"))
    for month in range(1, 13):
        for year in ("2023", "2024", "2025"):
            bench.time.elapsed += 1
            await ask({"source": "invoice", "charge_month": f"{year}-{month:02}"})
    kept = sorted(file.name for file in folder.iterdir())
    assert len(kept) == 24
    assert "prod-focus-account-invoice-charged-2025-12.csv" in kept
    assert "prod-focus-account-invoice-charged-2023-01.csv" not in kept


async def test_an_account_that_is_not_polled_has_none(fal: Fal, ask: Ask) -> None:
    with pytest.raises(InquiryError, match="is not an account that is polled"):
        await ask(OCTOBER, account="nobody")  # type: ignore[call-arg]  # the fixture's own
    assert fal.requests == []
