"""The tools about FOCUS files: one sums up a report, of the ledger or of fal through an inquiry; one checks a file."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from web.mcp.conftest import COST

from exporter.errors import FalExporterError
from exporter.focus.columns import columns_of
from exporter.focus.findings import FocusError
from exporter.inquiry import AnswerWriter, Inquirer, Inquiry, InquiryError, Responder
from exporter.queries.focus.question import REPORT, UNAVAILABLE
from exporter.web.mcp import focus_tools
from exporter.web.mcp.focus_tools import check, report_tool
from exporter.web.mcp.server import mcp_server
from exporter.web.mcp.tool import Known

from mcp import Client  # isort: skip

DAY = {"source": "estimate", "start": "2026-11-19", "end": "2026-11-20", "timeframe": "day"}
CSV = (
    b"BilledCost,BillingCurrency,ChargeCategory,ChargePeriodStart,InvoiceId\n7.5,USD,Usage,2026-10-01T00:00:00Z,in_1\n"
)


def test_an_estimate_is_summed_up_exactly_with_its_first_rows_and_where_the_whole_is(known: Known) -> None:
    answer = report_tool(known).answer({**DAY, "limit": 2})
    document = json.loads(json.dumps(answer.document))
    assert (document["answered_by"], document["missing_hours"], document["rows"]) == ("ledger", 0, 5)
    billed = sum(Decimal(row["billed_cost"]) for row in document["totals"])
    assert billed == 24 * Decimal(COST + 3).scaleb(-9)
    assert len(document["first_rows"]) == 2
    assert document["first_rows"][0]["ChargePeriodStart"] == "2026-11-19T00:00:00Z"
    whole = "GET /v1/billing/focus?source=estimate&start=2026-11-19&end=2026-11-20&timeframe=day"
    assert document["whole"] == whole
    assert answer.text.startswith("The exporter's ledger, 5 rows")
    assert answer.text.endswith(f"The whole report as CSV: {whole}")


def test_what_the_ledger_has_not_read_is_said(known: Known) -> None:
    answer = report_tool(known).answer({**DAY, "end": "2026-11-21"})
    assert answer.document["missing_hours"] == 13
    assert "NOT complete: 13 hours" in answer.text


def test_a_report_that_is_too_large_names_the_way_to_the_whole(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focus_tools, "LARGEST_REPORT", 1000)
    with pytest.raises(FalExporterError, match=r"too large to be summarized here.* GET /v1/billing/focus\?source="):
        report_tool(known).answer(DAY)


async def test_fals_own_report_answers_and_is_said_to(known: Known) -> None:
    asked: list[Inquiry] = []

    async def report(inquiry: Inquiry, answer: AnswerWriter) -> None:
        asked.append(inquiry)
        await answer.head({"read_at": "2026-11-20T12:00:00+00:00"})
        await answer.piece(CSV)

    async def refused(inquiry: Inquiry, answer: AnswerWriter) -> None:
        del inquiry, answer
        raise InquiryError(UNAVAILABLE, "FOCUS reports are not enabled for this account.")

    responders = [Responder({REPORT: handler}) for handler in (report, refused)]
    answers = []
    for responder in responders:
        asking = replace(known, inquirer=Inquirer(responder.connect), accounts=("default",))
        async with Client(mcp_server([report_tool(asking)])) as client:
            answers += [
                await client.call_tool("fal-get-focus", {"charge_month": "2026-10"}),
                await client.call_tool("fal-get-focus", {"charge_month": "2026-10", "live": "true"}),
            ]
        await responder.close()
    of_fal, live, of_ledger, none = answers
    assert (of_fal.structured_content["answered_by"], live.structured_content["answered_by"]) == ("fal", "fal")
    assert of_fal.structured_content["totals"][0]["billed_cost"] == "7.5"
    assert of_fal.structured_content["read_at"] == "2026-11-20T12:00:00+00:00"
    assert asked == 2 * [Inquiry(REPORT, "default", {"source": "invoice", "charge_month": "2026-10"})]
    assert of_ledger.is_error, "the ledger lacks October"
    assert "the ledger has nothing of 2026-10-01" in of_ledger.content[0].text
    assert none.content[0].text == "FOCUS reports are not enabled for this account; live=false answers from the ledger"


def test_a_file_is_checked_against_the_version_that_is_named() -> None:
    header = ",".join(f'"{column.name}"' for column in columns_of("1.2"))
    answer = check({"csv": f"{header}\n", "focus_version": "1.2"})
    assert answer.document["focus_version"] == "1.2"
    assert answer.document["counts"] == {"X-NoRows": 1}
    assert answer.document["clean"] is False
    assert "X-NoRows" in answer.text


def test_findings_are_counted_in_full_and_told_in_part() -> None:
    answer = check({"csv": "BilledCost,BillingCurrency\n" + "x,USD\n" * 50})
    counts, findings = answer.document["counts"], answer.document["findings"]
    assert isinstance(counts, dict)
    assert isinstance(findings, list)
    (rule,) = {name for name in counts if counts[name] >= 50}
    assert sum(finding["rule"] == rule for finding in findings) == 5
    assert json.dumps(answer.document)


def test_a_check_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focus_tools, "LONGEST_CHECK", 0.01)
    with pytest.raises(FocusError, match="takes longer than"):
        check({"csv": "BilledCost\n1\n"})


def test_text_that_no_file_can_hold_is_found_out() -> None:
    counts = check({"csv": "BilledCost,ServiceName\n1,\ud800\n"}).document["counts"]
    assert isinstance(counts, dict)
    assert counts["ServiceName-C-001-M"] == 1
