"""FOCUS files from the ledger: usage of a window, or a month as it was invoiced, and data sets with manifests.

An invoiced month has the ledger's charges with the number of the invoice, and what makes them add up to its total:
credits, taxes, and an adjustment where fal has billed other usage than the ledger has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from zoneinfo import ZoneInfo

from exporter import __version__
from exporter.charges import HOUR, Amounts, Dimensions, Invoice, Window, decimal_of, hour_of
from exporter.errors import FalExporterError
from exporter.focus.charge import (
    FocusCharge,
    Granularity,
    Price,
    PriceHistory,
    PriceKey,
    Settlement,
    focus_charges,
    month_start,
    next_month,
)
from exporter.focus.outputs import Format, Part, manifest_of, write_parts
from exporter.focus.timeframes import bucket_start
from exporter.focus.values import instant_text, number_text
from exporter.focus.writer import layout, rows_of
from exporter.ledger.accounting.invoices import billed_part, reaching_out
from exporter.ledger.export import Statement
from exporter.queries.focus.question import EstimateRequest, FocusRequest, InvoiceRequest
from exporter.queries.parameters import NoDataYetError, QuestionError

_UTC = ZoneInfo("UTC")


class LackingError(FalExporterError):
    """The ledger does not have what a file is asked of.

    Attributes:
        status: 404 if that will stay so, 409 if it will not.
    """

    exit_code = 2

    def __init__(self, sentence: str, status: HTTPStatus = HTTPStatus.NOT_FOUND) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class FileContents:
    """Contents of a file.

    Attributes:
        window: of the charges.
        granularity: of the charge periods.
        missing: hours of the window that are over and have not been read to their end of every source.
        note: what the file is made of, where that does not go without saying.
        charges: read once, while the statement is open.
    """

    window: Window
    granularity: Granularity
    missing: int
    note: str
    charges: Iterator[FocusCharge]


def file_contents(statement: Statement, request: FocusRequest, account: str | None, now: datetime) -> FileContents:
    """Return what a file holds.

    Args:
        statement: of the account, or of all.
        request: not one for a tagged estimate.
        account: the one that was asked for.
        now: the present.

    Raises:
        NoDataYetError: nothing has been read from fal yet.
        QuestionError: the account is not one that the ledger counts.
        LackingError: the ledger lacks the window, or there is no invoice.
    """
    if not statement.accounts and account is None:
        raise NoDataYetError("nothing has been read from fal yet")
    if not statement.accounts:
        raise QuestionError("account", "is not an account that is polled")
    if isinstance(request, InvoiceRequest):
        return _invoiced(statement, request, now)
    return _estimated(statement, request, now)


def _estimated(statement: Statement, request: EstimateRequest, now: datetime) -> FileContents:
    window = _whole_hours(request)
    timeframe = "hour" if request.timeframe == "minute" else request.timeframe
    missing = _missing(statement, window, now)
    note = ""
    if timeframe != request.timeframe:
        note = "The window is short enough for minutes, but the ledger has hours."
    elif (window.start, window.end) != (request.start, request.end):
        note = f"The ledger keeps whole UTC hours: the window is {window}."
    granularity = Granularity(timeframe)
    charges = focus_charges(
        statement.charges(window), window, granularity, _prices(statement), request.zone, divide=statement.divide
    )
    return FileContents(window, granularity, missing, note, charges)


def _whole_hours(request: EstimateRequest) -> Window:
    """Return the whole hours of UTC that hold a window.

    In a zone that is half an hour off, a day is the hours that begin in it.
    """
    is_edge = request.timeframe in {"day", "week", "month"} and request.start == bucket_start(
        request.start, request.timeframe, request.zone
    )
    return Window(_hour_from(request.start) if is_edge else hour_of(request.start), _hour_from(request.end))


def _hour_from(instant: datetime) -> datetime:
    return hour_of(instant + HOUR - timedelta(microseconds=1))


def _missing(statement: Statement, window: Window, now: datetime) -> int:
    """Return the hours of a window that have begun and that the ledger lacks.

    Raises:
        LackingError: it lacks all of them, or has none to show.
    """
    if window.start > now:
        raise LackingError(f"{instant_text(window.start)} is in the future; nothing has been charged after it yet")
    begun = Window(window.start, min(window.end, hour_of(now) + HOUR))
    coverage = statement.coverage(begun)
    kept = coverage.kept_from
    if kept is not None and window.start < kept:
        raise LackingError(
            f"the report starts before {kept:%Y-%m-%dT%H:%MZ}, the first hour that the ledger keeps; start it later, "
            "or keep more hours (FAL_EXPORTER_RETENTION)"
        )
    if coverage.missing and not statement.has_charges(begun):
        if coverage.missing == len(begun):
            raise LackingError(
                f"the ledger has nothing of {window}; see FAL_EXPORTER_HISTORY for how far back it reads"
            )
        if statement.coverage(Window(begun.start, begun.start + HOUR)).missing:
            raise LackingError(
                f"the ledger has no charges of {window}, and {coverage.missing:,} of its hours have not been read "
                "from fal; try again later, or request less",
                HTTPStatus.CONFLICT,
            )
    return coverage.missing


def _prices(statement: Statement) -> Mapping[PriceKey, PriceHistory]:
    return {
        record.newest[:6]: PriceHistory(Price(record.newest.price, record.newest.discount), record.former)
        for record in statement.prices().values()
    }


def _invoiced(statement: Statement, request: InvoiceRequest, now: datetime) -> FileContents:
    issued: dict[str, list[Invoice]] = {}
    for item in statement.invoices():
        if item.is_issued and item.currency.upper() == "USD":
            issued.setdefault(item.account, []).append(item)
    month = request.charges or _latest_month(issued)
    if month is None:
        raise LackingError("the ledger knows of no invoice; source=estimate answers with usage so far")
    _refuse_reaching_out(issued, month)
    parts = {account: billed_part(invoices, month) for account, invoices in issued.items()}
    billed = {account: part for account, part in parts.items() if part is not None}
    of_month = [item for part in billed.values() for item in part.invoices]
    name = f"{month.start:%Y-%m}"
    if not of_month:
        raise LackingError(
            f"the ledger knows of no invoice for charges of {name}; source=estimate answers with usage so far"
        )
    for account, part in billed.items():
        if part.window != month:
            raise LackingError(
                f"account {account!r} has invoices for the charges of {name} up to {part.window.end:%Y-%m-%dT%H:%MZ} "
                "only; source=estimate answers with the usage of all of it"
            )
    missing = _missing(statement, month, now)
    unbilled = {*statement.accounts} - {*billed}
    for charge in statement.charges(month) if unbilled else ():
        if charge.dimensions.account in unbilled:
            raise LackingError(
                f"account {charge.dimensions.account!r} has charges of {name} and no invoice for them; ask for one "
                "account that has (account=...), or for source=estimate"
            )
    note = (
        "Made from the ledger: hourly charges with the number of the invoice, and its credits, taxes and adjustments; "
        "BilledCost by invoice adds up to the total of the invoice."
    )
    return FileContents(month, Granularity.HOUR, missing, note, _with_invoices(statement, month, of_month))


def _refuse_reaching_out(issued: Mapping[str, Sequence[Invoice]], month: Window) -> None:
    for account, invoices in issued.items():
        if reaching := reaching_out(invoices, month):
            names = " and ".join(sorted(item.number or item.id for item in reaching))
            raise LackingError(
                f"account {account!r} has usage of {month.start:%Y-%m} and of another month on one invoice ({names}); "
                "source=estimate answers with the usage of the month"
            )


def _latest_month(issued: Mapping[str, Sequence[Invoice]]) -> Window | None:
    """Return the latest month that invoices bill whole; where there is none, the latest of which they bill a part."""
    starts = {month_start(item.period_start) for invoices in issued.values() for item in invoices}
    months = [Window(start, next_month(start)) for start in sorted(starts, reverse=True)]
    for month in months:
        parts = [billed_part(invoices, month) for invoices in issued.values()]
        if any(part is not None and part.window == month for part in parts):
            return month
    return months[0] if months else None


def _with_invoices(statement: Statement, month: Window, invoices: Sequence[Invoice]) -> Iterator[FocusCharge]:
    usage = dict.fromkeys(((item.account, item.id) for item in invoices), 0)
    charges = focus_charges(
        statement.charges(month), month, Granularity.HOUR, _prices(statement), divide=statement.divide
    )
    for charge in charges:
        own = [item for item in invoices if item.account == charge.dimensions.account]
        # One of several invoices of a month; the adjustments set right what each of them bills.
        invoice = next((item for item in own if item.period_start <= charge.start < item.period_end), own[0])
        usage[invoice.account, invoice.id] += charge.amounts.cost
        yield charge._replace(invoice_id=invoice.id)
    for invoice in invoices:
        yield from _settlements(invoice, usage[invoice.account, invoice.id])


def _settlements(invoice: Invoice, usage: int) -> Iterator[FocusCharge]:
    """Yield what makes the usage of an invoice add up to its total."""
    rows = (
        ("Adjustment", "Usage on the invoice less the usage that the ledger has", invoice.subtotal - usage),
        ("Credit", "Credits", -invoice.credits),
        ("Tax", "Tax", invoice.tax),
        (
            "Adjustment",
            "Total of the invoice less its subtotal, credits and tax",
            invoice.total - (invoice.subtotal - invoice.credits + invoice.tax),
        ),
    )
    for category, description, amount in rows:
        if amount:
            yield FocusCharge(
                invoice.period_start,
                invoice.period_end,
                Dimensions(invoice.account),
                Amounts(0, 0, amount, 0, amount),
                invoice_id=invoice.id,
                settlement=Settlement(category, description),
            )


FILE_NAME = "focus"
"""Name of the files of a data set from the ledger, without an ending."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set whose files are made and have not taken their names.

    Attributes:
        complete: whether all of its window is over and has been read.
    """

    parts: Sequence[Part]
    manifest: Mapping[str, object]
    complete: bool


def ledger_dataset(
    statement: Statement,
    contents: FileContents,
    place: Path,
    *,
    output_format: Format,
    version: str,
    created: datetime,
    for_spreadsheet: bool = False,
    name: str = FILE_NAME,
) -> Dataset:
    """Write charges of the ledger into files of a folder, one a billing period.

    Args:
        statement: from which the contents are.
        contents: the charges; read once.
        place: the folder; see `making_in`.
        output_format: of the files.
        version: of FOCUS.
        created: the present.
        for_spreadsheet: see `exporter.focus.writer.write`.
        name: of each file, without an ending.
    """
    columns = layout(version)
    rows = rows_of(contents.charges, version=version, for_spreadsheet=for_spreadsheet)
    statement.take_tag_costs()
    written = write_parts(columns, rows, place, output_format, name=name, by_period=True)
    window = contents.window
    missing = _missing_by_month(statement, window, created)
    complete = not missing and window.end <= created
    facts = facts_of("the ledger", created) | {
        "focus_version": version,
        "format": output_format.value,
        "granularity": contents.granularity.value,
        "accounts": list(statement.accounts),
        "completeness": {
            "start": instant_text(window.start),
            "end": instant_text(window.end),
            "complete": complete,
            "missing_hours": sum(missing.values()),
            "missing_hours_by_billing_period": missing,
            "open": window.end > created,
        },
    }
    if statement.tag_keys:
        costs = statement.take_tag_costs()
        facts["tags"] = {
            "keys": list(statement.tag_keys),
            "cost_with_tags": number_text(decimal_of(costs.tagged)),
            "cost_without_tags": number_text(decimal_of(costs.untagged)),
            "cost_not_read_by_tags": number_text(decimal_of(costs.unread)),
        }
    return Dataset(written, manifest_of(written, columns, facts), complete)


def facts_of(origin: str, created: datetime) -> dict[str, object]:
    """Return what every manifest begins with."""
    return {
        "manifest_version": 1,
        "generator": f"fal-exporter {__version__}",
        "origin": origin,
        "created": instant_text(created),
    }


def _missing_by_month(statement: Statement, window: Window, now: datetime) -> dict[str, int]:
    """Return the hours that have begun and are not read to their end, by month; months that lack none are left out."""
    end = min(window.end, hour_of(now) + HOUR)
    start, found = window.start, {}
    while start < end:
        following = min(next_month(month_start(start)), end)
        if lacking := statement.coverage(Window(start, following)).missing:
            found[f"{start:%Y-%m}"] = lacking
        start = following
    return found
