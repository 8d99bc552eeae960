"""Process that writes a FOCUS file: `python -m exporter.queries.focus.file_process`.

A month of a large account is hundreds of thousands of rows, each written by Python, which in a thread of the web
process would hold up scrapes. The body is the file.
"""

import gzip
import sys
from contextlib import ExitStack
from http import HTTPStatus
from typing import IO

from exporter.errors import FalExporterError
from exporter.focus.values import instant_text
from exporter.focus.writer import write
from exporter.ledger.export import open_statement
from exporter.ledger.tables.database import NoLedgerError
from exporter.queries.focus.files import LackingError, file_contents
from exporter.queries.focus.question import Head, Order
from exporter.queries.parameters import UNREADABLE, NoDataYetError, QuestionError
from exporter.worker import serve

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
            contents = file_contents(statement, question.request, question.account, question.now)
        except FalExporterError as error:
            _tell(_refusal(error), output)
            return
        window = contents.window
        _tell(Head(contents.missing, instant_text(window.start), instant_text(window.end), contents.note), output)
        if order.gzipped:
            with gzip.GzipFile(mode="wb", compresslevel=_LEVEL, fileobj=output, mtime=0) as packed:
                write(contents.charges, packed, version=question.version)
        else:
            write(contents.charges, output, version=question.version)


def _refusal(error: FalExporterError) -> Head:
    if isinstance(error, LackingError):
        return Head(status=error.status, message=str(error))
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
