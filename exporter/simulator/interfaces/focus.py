"""FOCUS downloads `/account/focus` and `/organization/focus`: streamed CSV in the shape of FOCUS 1.2.

fal publishes no column list; this one is plausible. Billing is pooled: the root of the organization is the one billing
account, and its teams are sub accounts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from csv import writer
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import islice
from types import MappingProxyType

from exporter.simulator.interfaces.calls import (
    ApiError,
    Call,
    Download,
    Period,
    Sums,
    need_admin,
    need_enterprise,
    need_root,
)
from exporter.simulator.world.account import Account, Invoice, invoice_id, invoice_of, issue_of, last_invoiced
from exporter.simulator.world.exact import decimal_text, instant_of, json_text, microseconds, month_of, months_after
from exporter.simulator.world.lines import COMPUTE, MODEL_APIS, SERVERLESS, SERVICE_NAMES, Line, tags_of
from exporter.simulator.world.world import Charge

_PROVIDER = "fal"
_LONGEST = timedelta(days=90)
_SERVICES = {
    MODEL_APIS: ("AI and Machine Learning", "Generative AI"),
    SERVERLESS: ("Compute", "Serverless Compute"),
    COMPUTE: ("Compute", "Virtual Machines"),
}
_UNITS = {
    "image": "Images",
    "video": "Videos",
    "second": "Seconds",
    "megapixel": "Megapixels",
    "1k_characters": "1000 Characters",
    "compute_second": "Compute-Seconds",
}
COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice"),
    *("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId"),
    *("SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
    *("x_Unit", "x_Environment", "x_PercentDiscount", "x_IsSurge"),
)
"""Columns of every download, in order."""

Fields = dict[str, str]

_PIECE = 500
_AT = MappingProxyType({name: column for column, name in enumerate(COLUMNS)})
_COSTS = tuple(_AT[name] for name in ("BilledCost", "ContractedCost", "EffectiveCost", "PricingCurrencyEffectiveCost"))
_LIST_COSTS = (_AT["ListCost"],)
_QUANTITIES = (_AT["ConsumedQuantity"], _AT["PricingQuantity"])


@dataclass(frozen=True, slots=True)
class _Layout:
    """Shape of one download.

    Attributes:
        teams: fill the sub account columns; every_line: also for lines without a caller.
        tagged: only model lines, with their tags; invoiced: the invoiced month, None for an estimate.
    """

    account: Account
    teams: bool
    every_line: bool
    tagged: bool
    invoiced: datetime | None


async def account_focus(call: Call) -> Download:
    """Answer `GET /account/focus`: the account's charges; with `expand=organization` by team."""
    need_admin(call.key)
    need_enterprise(call)
    expand = call.query.choices("expand", ("organization",), ())
    if expand:
        need_root(call.key)
    return await _download(call, teams=bool(expand), team="")


async def organization_focus(call: Call) -> Download:
    """Answer `GET /organization/focus`: the charges of all teams, or of one."""
    need_root(call.key)
    need_enterprise(call)
    team = call.query.text("team_username") or ""
    if team and team not in call.account.world.teams:
        raise ApiError(404, f"Team {team!r} was not found.")
    return await _download(call, teams=True, team=team)


async def _download(call: Call, *, teams: bool, team: str) -> Download:
    if call.query.text("source") is None:
        raise ApiError(400, "source: one of invoice, estimate, tagged-estimate is required.")
    source = call.query.choice("source", ("invoice", "estimate", "tagged-estimate"), "")
    if source == "invoice":
        if team:
            raise ApiError(400, "team_username: an invoice under pooled billing cannot be filtered by team.")
        month = _charge_month(call)
        layout = _Layout(call.account, teams, every_line=False, tagged=False, invoiced=month)
        period = Period(month, months_after(month, 1), "hour", UTC)
        as_of = microseconds(issue_of(month))
    else:
        period = call.query.period(call.now)
        if period.end - period.start > _LONGEST + timedelta(days=31):
            raise ApiError(400, "start: at most 90 days can be asked for in one request.")
        layout = _Layout(call.account, teams, every_line=True, tagged=source == "tagged-estimate", invoiced=None)
        as_of = call.as_of
    # Billing is pooled: the invoice is the organization's, an estimate without the teams may be the caller's own.
    own = call.key.team if teams or source == "invoice" else call.own_team
    return Download(_chunks(layout, period, as_of, team or own))


def _charge_month(call: Call) -> datetime:
    billing, charged = call.query.month("billing_month"), call.query.month("charge_month")
    if billing and charged:
        raise ApiError(400, "billing_month, charge_month: only one of them can be given.")
    latest = last_invoiced(call.now)
    month = charged or (months_after(billing, -1) if billing else latest)
    if month > latest:
        raise ApiError(400, f"charge_month: no invoice has been issued for {month:%Y-%m} yet.")
    return month


async def _chunks(layout: _Layout, period: Period, as_of: int, team: str) -> AsyncIterator[str]:
    yield _csv([COLUMNS])
    total, rows = 0, _Writer(layout)
    for _, span in period.buckets():
        if span[0] >= as_of:
            break
        sums = Sums()
        for charges in layout.account.charges(span, as_of, team):
            sums.add(lambda charge: (charge.line, charge.percent), (c for c in charges if _is_told(layout, c)))
            await asyncio.sleep(0)
        total += sum(subtotal - discount for _, _, _, subtotal, discount in sums.groups.values())
        for text in rows.pieces(span, sums):
            yield text
            await asyncio.sleep(0)
    if layout.invoiced and not team:
        invoice = invoice_of(layout.account, layout.invoiced, total, issue_of(layout.invoiced))
        yield _csv(_values(row) for row in _settlement_rows(layout, invoice))


def _is_told(layout: _Layout, charge: Charge) -> bool:
    return not layout.tagged or charge.line.product == MODEL_APIS


class _Writer:
    """Writer of usage rows: fields common to the rows of a line are computed once and copied."""

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self._templates: dict[tuple[object, ...], list[str]] = {}

    def pieces(self, span: tuple[int, int], sums: Sums) -> Iterator[str]:
        """Yield the rows of a bucket as CSV, some hundreds at a time."""
        dates = [(_AT[name], text) for name, text in _dates(span).items()]
        rest = iter(sums.groups.items())
        while piece := list(islice(rest, _PIECE)):
            yield _csv(self._row(dates, group, amounts) for group, amounts in piece)

    def _row(self, dates: list[tuple[int, str]], group: tuple[object, ...], amounts: list[int]) -> list[str]:
        template = self._templates.get(group)
        if template is None:
            template = self._templates[group] = _values(_line_fields(self._layout, group))
        row = template.copy()
        for column, text in dates:
            row[column] = text
        _, quantity, _, subtotal, discount = amounts
        for columns, amount in ((_COSTS, subtotal - discount), (_LIST_COSTS, subtotal), (_QUANTITIES, quantity)):
            text = _number(amount)
            for column in columns:
                row[column] = text
        return row


def _line_fields(layout: _Layout, group: tuple[object, ...]) -> Fields:
    line, percent = group
    if not isinstance(line, Line) or not (percent is None or isinstance(percent, int)):
        raise TypeError("a group of FOCUS rows is a line and its discount")
    category, subcategory = _SERVICES[line.product]
    contracted = _number(line.price * (100 - (percent or 0)), places=11)
    unit, sku = _UNITS.get(line.unit, line.unit.title()), line.model or line.machine
    own = layout.teams and (layout.every_line or line.product == MODEL_APIS)
    return _account_fields(layout) | {
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{line.billing_line} by {line.unit}",
        "ChargeFrequency": "Usage-Based",
        "ConsumedUnit": unit,
        "ContractedUnitPrice": contracted,
        "ListUnitPrice": _number(line.price),
        "PricingCategory": "Dynamic" if line.surge else "Standard",
        "PricingCurrencyContractedUnitPrice": contracted,
        "PricingCurrencyListUnitPrice": _number(line.price),
        "PricingUnit": unit,
        "ServiceCategory": category,
        "ServiceName": SERVICE_NAMES[line.product],
        "ServiceSubcategory": subcategory,
        "SkuId": sku,
        "SkuMeter": line.unit,
        "SkuPriceDetails": _details(line),
        "SkuPriceId": f"{sku}/{line.unit}{'/surge' if line.surge else ''}",
        "SubAccountId": f"cus_{line.team}" if own else "",
        "SubAccountName": line.team if own else "",
        "Tags": _tags(layout, line),
        "x_Unit": line.unit,
        "x_Environment": line.environment or "",
        "x_PercentDiscount": "" if percent is None else f"{percent}.0",
        "x_IsSurge": str(line.surge).lower() if line.product == SERVERLESS else "",
    }


def _settlement_rows(layout: _Layout, invoice: Invoice) -> Iterator[Fields]:
    span = microseconds(invoice.period_start), microseconds(invoice.period_end)
    for category, amount in (("Credit", -invoice.credits), ("Tax", invoice.tax)):
        if amount:
            cost = _number(amount)
            yield (
                _account_fields(layout)
                | _dates(span)
                | {
                    "BilledCost": cost,
                    "ChargeCategory": category,
                    "ChargeDescription": "Promotional credit" if category == "Credit" else "Sales tax",
                    "ChargeFrequency": "One-Time",
                    "ContractedCost": cost,
                    "EffectiveCost": cost,
                    "ListCost": cost,
                    "PricingCurrencyEffectiveCost": cost,
                    "ServiceCategory": "Other",
                    "ServiceName": "fal Billing",
                    "ServiceSubcategory": "Other (Other)",
                }
            )


def _account_fields(layout: _Layout) -> Fields:
    root = layout.account.world.teams[0]
    return {
        "BillingAccountId": f"cus_{root}",
        "BillingAccountName": root,
        "BillingCurrency": "USD",
        "InvoiceId": invoice_id(layout.account, layout.invoiced) if layout.invoiced else "",
        "InvoiceIssuerName": _PROVIDER,
        "PricingCurrency": "USD",
        "ProviderName": _PROVIDER,
        "PublisherName": _PROVIDER,
    }


def _dates(span: tuple[int, int]) -> Fields:
    start, end = (instant_of(edge) for edge in span)
    month = month_of(start)
    return {
        "BillingPeriodEnd": _date(months_after(month, 1)),
        "BillingPeriodStart": _date(month),
        "ChargePeriodEnd": _date(end),
        "ChargePeriodStart": _date(start),
    }


def _details(line: Line) -> str:
    if not line.machine:
        return ""
    return json_text({"InstanceType": line.machine} | ({"GpuCount": line.gpus} if line.gpus else {}))


def _tags(layout: _Layout, line: Line) -> str:
    tags: dict[str, object] = {}
    if line.app:
        tags["app"] = line.app
    if layout.tagged:
        tags |= tags_of(line)
    return json_text(tags)


def _number(count: int, places: int = 9) -> str:
    text = decimal_text(count, places)
    return text if "." in text else f"{text}.0"


def _date(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def _values(row: Fields) -> list[str]:
    return [row.get(column, "") for column in COLUMNS]


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = StringIO()
    writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
