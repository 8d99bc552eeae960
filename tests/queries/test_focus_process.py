import csv
import gzip
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from queries.conftest import HISTORY, NOW

from exporter.charges import HOUR, Window
from exporter.ledger import Ledger, Rules
from exporter.queries.focus import FocusQuestion, Head, Order, parse_focus_question
from exporter.queries.focus_process import run
from exporter.queries.parameters import QuestionError


def written(address: str, question: FocusQuestion, *, gzipped: bool = False) -> tuple[Head, bytes]:
    output = io.BytesIO()
    run(Order(address, question, gzipped=gzipped), output)
    head, _, body = output.getvalue().partition(b"\n")
    return Head.read(head), body


def test_an_order_arrives_as_it_was_sent() -> None:
    question = FocusQuestion(HISTORY, "day", "1.3", "studio")
    order = Order("sqlite:///it's here", question, gzipped=True)
    assert Order.read(order.written) == order


def test_the_file_adds_up_to_the_ledger(address: str, ledger: Ledger, hours: int) -> None:
    del ledger
    head, body = written(address, FocusQuestion(Window(HISTORY.start, HISTORY.end - HOUR), "day"))
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    assert head == Head(missing=0)
    assert sum(Decimal(row["BilledCost"]) for row in rows) == (hours - 1) * Decimal("1.44")
    assert len(rows) == 3 * 5
    packed = written(address, FocusQuestion(Window(HISTORY.start, HISTORY.end - HOUR), "day"), gzipped=True)[1]
    assert gzip.decompress(packed) == body


def test_hours_that_have_not_been_read_to_their_end_are_counted(address: str, ledger: Ledger) -> None:
    del ledger
    assert written(address, FocusQuestion(HISTORY))[0].missing == 1  # the running hour, whichever source lacks it


def test_one_account_can_be_asked_for(address: str, ledger: Ledger) -> None:
    del ledger
    _, body = written(address, FocusQuestion(HISTORY, account="research"))
    assert {row["BillingAccountId"] for row in csv.DictReader(io.StringIO(body.decode()))} == {"research"}
    assert written(address, FocusQuestion(HISTORY, account="nobody")) == (
        Head(status=400, message="account is not an account that is polled"),
        b"",
    )


def test_without_a_ledger_or_with_a_strange_one_there_is_no_file(tmp_path: Path) -> None:
    assert written(f"sqlite:///{tmp_path / 'none'}", FocusQuestion(HISTORY))[0].status == 503
    (tmp_path / "strange").write_text("This is no database, but it is long enough to be looked at." * 20)
    head, _ = written(f"sqlite:///{tmp_path / 'strange'}", FocusQuestion(HISTORY))
    assert head.status == 503
    assert "cannot be read" in head.message
    assert "strange" not in head.message
    Ledger(f"sqlite:///{tmp_path / 'new'}", rules=Rules(), clock=lambda: NOW).close()
    assert "nothing has been read" in written(f"sqlite:///{tmp_path / 'new'}", FocusQuestion(HISTORY))[0].message


def test_hours_that_have_been_folded_are_refused(address: str, ledger: Ledger) -> None:
    del ledger
    later = Ledger(address, rules=Rules(), clock=lambda: NOW + timedelta(days=90))
    later.fold_before(datetime(2026, 11, 1, tzinfo=UTC))
    later.close()
    head, _ = written(address, FocusQuestion(HISTORY))
    assert head.status == 400
    assert head.message.startswith("start is before 2026-11-01T00:00Z")
    kept = Window(datetime(2026, 11, 1, tzinfo=UTC), HISTORY.end)
    assert written(address, FocusQuestion(kept))[0].status == 200


@pytest.mark.parametrize(
    ("given", "question"),
    [
        (
            {"source": "estimate", "start": "2026-10-30", "end": "2026-10-31", "timeframe": "day"},
            FocusQuestion(Window(datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 10, 31, tzinfo=UTC)), "day"),
        ),
        (
            {"charge_month": "2026-10", "focus_version": "1.4", "account": "studio"},
            FocusQuestion(
                Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)), "hour", "1.4", "studio"
            ),
        ),
    ],
)
def test_questions_go_by_fals_own_names(given: dict[str, str], question: FocusQuestion) -> None:
    assert parse_focus_question(given, now=NOW) == question


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "invoice"}, "source is not one of estimate"),
        ({"charge_month": "2026-10", "start": "2026-10-01"}, "charge_month is given beside start or end"),
        ({"timeframe": "minute"}, "timeframe is not one of hour, day, month"),
    ],
)
def test_a_question_that_cannot_be_understood_is_told_what_is_accepted(given: dict[str, str], message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse_focus_question(given, now=NOW)
    assert message in str(caught.value)
