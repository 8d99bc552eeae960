"""Process that writes a FOCUS file: `python -m exporter.queries.focus_process`.

A month of a large account is hundreds of thousands of rows, each written by Python, which in a thread of the web
process would hold up scrapes. The body is the file.
"""

import gzip
import sys
from contextlib import ExitStack
from http import HTTPStatus
from typing import IO

from exporter.errors import FalExporterError
from exporter.focus.charge import Granularity, Price, focus_charges
from exporter.focus.writer import write
from exporter.ledger.export import Statement, open_statement
from exporter.ledger.tables.database import NoLedgerError
from exporter.queries.focus import FocusQuestion, Head, Order
from exporter.queries.parameters import UNREADABLE, NoDataYetError, QuestionError
from exporter.queries.worker import serve

_LEVEL = 5


def run(order: Order, output: IO[bytes]) -> None:
    """Write what was ordered.

    Raises:
        LedgerError: the ledger could not be read to the end; the file is cut off.
    """
    question = order.question
    with ExitStack() as stack:
        try:
            statement = stack.enter_context(open_statement(order.address, question.account))
            missing = _missing(statement, question)
            prices = {price[:6]: Price(price.price, price.discount) for price in statement.prices().values()}
        except FalExporterError as error:
            _tell(_refusal(error), output)
            return
        _tell(Head(missing), output)
        charges = statement.charges(question.window)
        rows = focus_charges(charges, question.window, Granularity(question.timeframe), prices)
        if order.gzipped:
            with gzip.GzipFile(mode="wb", compresslevel=_LEVEL, fileobj=output, mtime=0) as packed:
                write(rows, packed, version=question.version)
        else:
            write(rows, output, version=question.version)


def _missing(statement: Statement, question: FocusQuestion) -> int:
    if not statement.accounts and question.account is None:
        raise NoDataYetError("nothing has been read from fal yet")
    if not statement.accounts:
        raise QuestionError("account", "is not an account that is polled")
    found = statement.coverage(question.window)
    if found.kept_from is not None and question.window.start < found.kept_from:
        kept = f"{found.kept_from:%Y-%m-%dT%H:%MZ}"
        raise QuestionError("start", f"is before {kept}, from which on the ledger keeps single hours; ask from there")
    return found.missing


def _refusal(error: FalExporterError) -> Head:
    if isinstance(error, QuestionError):
        return Head(status=HTTPStatus.BAD_REQUEST, message=str(error))
    # An error of the ledger names its address, which is nobody's business but the log's.
    what = "nothing has been read from fal yet" if isinstance(error, NoDataYetError | NoLedgerError) else UNREADABLE
    return Head(status=HTTPStatus.SERVICE_UNAVAILABLE, message=what)


def _tell(head: Head, output: IO[bytes]) -> None:
    output.write(head.written)
    output.flush()


def _work(order: bytes, output: IO[bytes]) -> None:
    run(Order.read(order), output)


if __name__ == "__main__":
    sys.exit(serve(_work))
