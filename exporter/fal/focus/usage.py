"""Source `focus`: the hourly usage of an account with FOCUS reports, from the running estimate.

An estimate is rewritten by fal until it is invoiced; like every source it is read again, and a reading replaces what
was read before. It contains all that `models` and `serverless` report.

fal does not publish what it writes into which column. So each dimension is looked for where FOCUS wants it, then where
fal's other interfaces would have it; what is found nowhere is empty.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, mul, sub
from types import MappingProxyType
from typing import NamedTuple

from exporter.charges import (
    ATTO_PER_NANO,
    HOUR,
    NO_GPU,
    SURGE,
    Amounts,
    Charge,
    Dimensions,
    GpuMachine,
    RejectedRow,
    Window,
    gpu_machine,
    hour_of,
    nano_of_atto,
)
from exporter.fal.aggregation import Detail, Offer, Reading, one_reading, rounded, unit_prices
from exporter.fal.buckets import Allowance, Buckets
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline
from exporter.fal.errors import TooLargeError
from exporter.fal.focus.report import FocusReports
from exporter.fal.focus.request import FocusRequest, Report
from exporter.fal.platform_usage import Item
from exporter.fal.rows import (
    BillingLine,
    RejectedError,
    Rejection,
    Rejections,
    billing_line,
    gpu_time,
    gpu_time_of_unit,
    is_dollars,
    text,
)
from exporter.focus.row_schema import Atto
from exporter.focus.values import json_object

MODEL_APIS, SERVERLESS, COMPUTE = "model_apis", "serverless", "compute"

_MACHINES_LINE = re.compile(r"type:\s*[^()\s]+(?:\s*\(.*\))?", re.IGNORECASE)
_ENDPOINT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")
_COUNTED = re.compile(r"1(?P<zeros>(?:000){1,2})[ _-]+(?P<noun>.+)")
_BY_WORD = MappingProxyType({"serverless": SERVERLESS, "model": MODEL_APIS, "compute": COMPUTE})
_BY_SUBCATEGORY = MappingProxyType({"Serverless Compute": SERVERLESS, "Virtual Machines": COMPUTE})
_BY_CATEGORY = MappingProxyType({"AI and Machine Learning": MODEL_APIS, "Compute": SERVERLESS})


@dataclass(frozen=True, slots=True, eq=False)
class UsageLine:
    """The part of a row that occurs in every hour again: what is sold, to whom, at which price."""

    charge_category: str
    billing_currency: str
    list_unit_price: Decimal | None = None
    contracted_unit_price: Decimal | None = None
    pricing_category: str | None = None
    service_name: str | None = None
    service_category: str | None = None
    service_subcategory: str | None = None
    charge_description: str | None = None
    sku_id: str | None = None
    sku_meter: str | None = None
    sku_price_details: str | None = None
    consumed_unit: str | None = None
    pricing_unit: str | None = None
    sub_account_id: str | None = None
    sub_account_name: str | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    tags: str | None = None
    x_unit: str | None = None
    x_fal_unit: str | None = None
    x_app: str | None = None
    x_environment: str | None = None
    x_is_surge: str | None = None


class UsageRow(NamedTuple):
    """The columns that a charge is made of; amounts in atto-units."""

    line: UsageLine
    charge_period_start: datetime
    charge_period_end: datetime
    billed_cost: Atto
    effective_cost: Atto | None
    list_cost: Atto | None
    consumed_quantity: Atto | None
    pricing_quantity: Atto | None


def described(account: str, row: UsageLine) -> Item:
    """Return what a line is for.

    A compute machine's quantity is its own time; of any other machine it counts every GPU already.

    Raises:
        RejectedError: never for text; see `exporter.charges.label_text`.
    """
    line = _line(row)
    product = _product(row, line)
    unit = row.x_unit or row.x_fal_unit or unit_of_fal(row.consumed_unit or row.pricing_unit or row.sku_meter or "")
    common = Dimensions(account, team=text(row.sub_account_name or row.sub_account_id or ""), product=product)
    common = common._replace(unit=text(unit), surge=_surge(row))
    if product in {SERVERLESS, COMPUTE}:
        gpu = gpu_time(_machine(row, line), unit, each=product == COMPUTE)
        app = row.x_app or row.resource_name or row.resource_id or (line.app if line else "") or _tag(row, "app")
        environment = row.x_environment or (line.environment if line else "") or _tag(row, "environment")
        dimensions = common._replace(app=text(app), environment=text(environment), gpu_class=gpu.gpu_class)
        return Item(dimensions, gpu)
    gpu = gpu_time_of_unit(unit)
    model = row.sku_id or _endpoint(row)
    return Item(common._replace(model=text(model), gpu_class=gpu.gpu_class), gpu)


def unit_of_fal(unit: str) -> str:
    """Return fal's own word for a unit in the FOCUS format: `image` for `Images`."""
    counted = _COUNTED.fullmatch(unit)
    if counted is not None:
        return f"1{'k' if len(counted['zeros']) < len('000000') else 'm'}_{counted['noun'].lower()}"
    word = re.sub(r"[ -]+", "_", unit.lower())
    return word.removesuffix("s") if len(word) > 1 else unit


def _line(row: UsageLine) -> BillingLine | None:
    """Return the machine's line that the description or the SKU holds, if one does."""
    for value in (row.charge_description, row.sku_id):
        found = _MACHINES_LINE.search(value or "")
        if found is not None:
            return billing_line(found[0])
    return None


def _product(row: UsageLine, line: BillingLine | None) -> str:
    name = (row.service_name or "").lower()
    for word, product in _BY_WORD.items():
        if word in name:
            return product
    known = _BY_SUBCATEGORY.get(row.service_subcategory or "")
    if known is None and line is not None and line.machine.gpus > 1:
        # Several GPUs at once are rented as machines only.
        known = COMPUTE
    return known or _BY_CATEGORY.get(row.service_category or "", MODEL_APIS if _endpoint(row) else "")


def _surge(row: UsageLine) -> str:
    is_surge = row.pricing_category == "Dynamic" or (row.x_is_surge or "").lower() == "true"
    return SURGE if is_surge else ""


def _machine(row: UsageLine, line: BillingLine | None) -> GpuMachine:
    """Return what the SKU's details, the machine's line or the SKU's own name say of GPUs."""
    details = _object(row.sku_price_details)
    named = details.get("InstanceType")
    if isinstance(named, str):
        machine = gpu_machine(named)
        count = details.get("GpuCount")
        if machine.gpus and isinstance(count, Decimal) and count == int(count) and count > 0:
            return machine._replace(gpus=int(count))
        return machine
    if line is not None:
        return line.machine
    return gpu_machine(row.sku_id) if row.sku_id and "/" not in row.sku_id else NO_GPU


def _endpoint(row: UsageLine) -> str:
    for value in (row.sku_id, row.charge_description, row.resource_id):
        found = _ENDPOINT.search(value or "")
        if found is not None:
            return found[0]
    return ""


def _tag(row: UsageLine, name: str) -> str:
    value = _object(row.tags).get(name)
    return value if isinstance(value, str) else ""


def _object(value: str | None) -> Mapping[str, object]:
    try:
        return json_object(value) if value else {}
    except ValueError:
        return {}


_LARGEST = (2**63 - 1) * ATTO_PER_NANO
_QUANTITIES = frozenset({"consumed_quantity", "pricing_quantity"})
_HOURS_OF_A_CALL = 31 * 24
_MOST_KNOWN = 50_000
_MOST_ITEMS = 10_000
_texts = attrgetter(*(element.name for element in fields(UsageLine)))
_amounts: Callable[[Iterable[int]], Amounts] = partial(tuple.__new__, Amounts)


class FocusUsage:
    """Reads the estimate of one account."""

    name = "focus"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reports = FocusReports(client, self.name, by_team=True)
        self._items = Items(client.account)

    @property
    def detail(self) -> Detail | None:
        """True if fal reports the teams of an organization."""
        return self._reports.detail

    @detail.setter
    def detail(self, detail: Detail | None) -> None:
        self._reports.detail = detail or Detail.UNKNOWN

    async def ask_for_detail(self, window: Window) -> None:
        """Ask for the teams again; see `UsageSource`."""
        await self._reports.ask_for_teams(estimate(window), self._client.deadline())

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:  # noqa: ARG002  it reports no key
        """Read the rows of a window's hours; see `UsageSource`."""
        return await self._read(window, self._client.deadline())

    async def read_buckets(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> Reading:
        """Read a window hour by hour, as polls do, by one call for a month at most; see `UsageSource`."""
        readings = []
        for window in buckets.window.pieces(_HOURS_OF_A_CALL):
            allowance.take()
            readings.append(await self._read(window, deadline))
        return one_reading(buckets.window, readings)

    async def _read(self, window: Window, deadline: Deadline) -> Reading:
        client = self._client
        rejected: Counter[str] = Counter()
        usage = Usage(self._items, window, client.rejections, rejected)
        request = estimate(window)
        most = min(client.limits.rows, client.limits.rows_per_hour * len(window))
        count = 0
        async with aclosing(self._reports.rows(UsageRow, request, deadline, rejected, usage.take_in_part)) as lists:
            async for rows in lists:
                count += len(rows)
                if count + sum(rejected.values()) > most:
                    what = f"fal's report has more than {most} rows"
                    raise client.failure(TooLargeError, request.call, what, TooLargeError.advice_on_reports)
                usage.take(rows)
        return usage.reading(self.name)


def estimate(window: Window, timeframe: str = "hour") -> FocusRequest:
    """Return the request for the estimate of a window's hours, or of its days."""
    return FocusRequest(source=Report.ESTIMATE, start=window.start, end=window.end, timeframe=timeframe)


class Items:
    """Meaning of the lines of an account's reports, kept because nearly all of them occur in every report again."""

    def __init__(self, account: str) -> None:
        self.account = account
        self._known: dict[tuple[object, ...], tuple[Item, Rejection | None]] = {}

    def of(self, line: UsageLine) -> tuple[Item, Rejection | None]:
        """Return what a line is for, and why its rows cannot be charges where they cannot."""
        texts = _texts(line)
        found = self._known.get(texts)
        if found is None:
            if len(self._known) >= _MOST_ITEMS:
                self._known.clear()
            found = self._known[texts] = self._new(line)
        return found

    def _new(self, line: UsageLine) -> tuple[Item, Rejection | None]:
        try:
            item = described(self.account, line)
        except RejectedError as rejected:
            return Item(Dimensions(self.account)), rejected.reason
        return item, None if is_dollars(line.billing_currency) else Rejection.CURRENCY


Sums = tuple[int, int, int]
"""Quantity, list cost and cost, in atto-units."""


@dataclass(slots=True, eq=False)
class _Entry:
    """Sums of the rows of a line.

    Attributes:
        refused: why none of them can be a charge.
        sums: by hour.
    """

    line: UsageLine
    item: Item
    refused: Rejection | None
    sums: dict[datetime, Sums] = field(default_factory=dict)

    def amounts(self) -> Iterable[tuple[datetime, Amounts]]:
        """Return what was charged in every hour, made column by column."""
        if not self.sums:
            return ()
        quantities, list_costs, costs = zip(*self.sums.values(), strict=True)
        gpu_seconds = map(mul, quantities, repeat(self.item.gpu.seconds, len(quantities)))
        discounts = map(sub, list_costs, costs)
        columns = zip(quantities, gpu_seconds, list_costs, discounts, costs, strict=True)
        return zip(self.sums, map(_amounts, columns), strict=True)

    def offer(self) -> Offer | None:
        """Return the price that the line states, as of the last hour in which it was charged."""
        price = self.line.list_unit_price
        if price is None or price < 0 or not self.sums:
            return None
        return Offer(max(self.sums), not self.item.dimensions.surge, price, discount_percent(self.line))


class Usage:
    """The charges of one reading while its rows come in.

    fal may take back a part of an hour by a row below zero: only the sums must not be negative. Amounts are in
    atto-units until they have been added up.
    """

    def __init__(self, items: Items, window: Window, rejections: Rejections, rejected: Counter[str]) -> None:
        self._items = items
        self._window = window
        self._rejections = rejections
        self._rejected = rejected
        self._entries: dict[tuple[object, ...], _Entry] = {}
        self._known: dict[UsageLine, _Entry | None] = {}
        self._rejected_rows: list[RejectedRow] = []
        self._rows = 0

    def take(self, rows: Iterable[UsageRow]) -> None:
        """Add rows to their charges.

        What usage costs is EffectiveCost, which holds for prepaid usage too; BilledCost where there is no such column.
        The discount is what is missing between that and ListCost; a list cost below the cost is raised to it.
        """
        known = self._known
        hour: datetime | None = None
        until: datetime | None = None
        refused: Rejection | None = None
        for row in rows:
            line, start, end, billed, effective, listed, consumed, priced = row
            entry = known[line] if line in known else self._entry(line)
            if entry is None:
                continue
            if start is not hour or end is not until:
                hour, until, refused = start, end, self._refusal(start, end)
            reason = refused or entry.refused
            if reason is not None:
                self._reject(reason, row)
                if reason is not Rejection.OUTSIDE_WINDOW:
                    self._rejected_rows.append(self._left_out(reason, row._asdict()))
                continue
            self._rows += 1
            cost = billed if effective is None else effective
            list_cost = cost if listed is None or listed < cost else listed
            quantity = (priced or 0) if consumed is None else consumed
            sums = entry.sums
            if start in sums:
                quantity_0, list_cost_0, cost_0 = sums[start]
                sums[start] = quantity_0 + quantity, list_cost_0 + list_cost, cost_0 + cost
            else:
                sums[start] = quantity, list_cost, cost

    def take_in_part(self, fields: Mapping[str, object]) -> None:
        """Take what can be read of a row that cannot be read as a whole.

        One of which only quantities cannot be read costs what it costs. What is not counted is kept for the hour and
        for what it is for, as far as that is known.
        """
        line = fields.get("line")
        if isinstance(line, UsageLine) and line.charge_category != "Usage":
            return
        if set(UsageRow._fields) - set(fields) <= _QUANTITIES:
            row = UsageRow._make(fields.get(name) for name in UsageRow._fields)
            known = self._rows
            self.take([row])
            if self._rows > known and _QUANTITIES - set(fields):
                kept = self._left_out(Rejection.QUANTITY, fields)
                self._rejected_rows.append(kept._replace(cost=0, is_counted=True))
            return
        start = fields.get("charge_period_start")
        if not isinstance(start, datetime) or start in self._window:
            self._rejected_rows.append(self._left_out(Rejection.UNREADABLE, fields))

    def _left_out(self, reason: Rejection, fields: Mapping[str, object]) -> RejectedRow:
        """Return what a row that is not counted was for and costs, as far as its fields can be read."""
        start, end, line = (fields.get(name) for name in ("charge_period_start", "charge_period_end", "line"))
        hour = start if isinstance(start, datetime) and isinstance(end, datetime) else None
        if hour is not None and (not isinstance(end, datetime) or self._refusal(hour, end) is not None):
            hour = None
        dimensions, cost = None, 0
        if isinstance(line, UsageLine):
            item, refused = self._items.of(line)
            dimensions = item.dimensions if refused in {None, Rejection.CURRENCY} else None
            costs = [fields.get(name) for name in ("effective_cost", "billed_cost")]
            if refused is None:
                cost = next((abs(nano_of_atto(value)) for value in costs if isinstance(value, int)), 0)
        return RejectedRow(reason.value, hour, dimensions, cost)

    def _refusal(self, hour: datetime, end: datetime) -> Rejection | None:
        if hour not in self._window:
            return Rejection.OUTSIDE_WINDOW
        return Rejection.BUCKET if hour != hour_of(hour) or end - hour != HOUR else None

    def _entry(self, line: UsageLine) -> _Entry | None:
        """Return where a line's rows are added up; None for what is no usage. The reader may have made it anew."""
        entry: _Entry | None = None
        if line.charge_category == "Usage":
            texts = _texts(line)
            entry = self._entries.get(texts)
            if entry is None:
                entry = self._entries[texts] = _Entry(line, *self._items.of(line))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[line] = entry
        return entry

    def reading(self, source: str) -> Reading:
        """Return the sums, with the prices that were seen."""
        charges = tuple(self._charges())
        return Reading(
            account=self._items.account,
            source=source,
            window=self._window,
            charges=charges,
            prices=unit_prices(
                (entry.item.dimensions, offer) for entry in self._entries.values() if (offer := entry.offer())
            ),
            rejected=dict(self._rejected),
            rejected_rows=tuple(self._rejected_rows),
            rows=self._rows,
        )

    def _charges(self) -> Iterator[Charge]:
        hours: dict[datetime, dict[Dimensions, Amounts]] = {}
        for hour, dimensions, amounts in self._sums():
            if min(amounts) < 0:
                self._reject_sum(Rejection.NEGATIVE, hour, dimensions, amounts)
            elif max(amounts) > _LARGEST:
                self._reject_sum(Rejection.OUT_OF_RANGE, hour, dimensions, amounts)
            else:
                hours.setdefault(hour, {})[dimensions] = amounts
        for hour, sums in hours.items():
            for dimensions, amounts in rounded(sums):
                yield Charge(hour, dimensions, amounts)

    def _sums(self) -> Iterator[tuple[datetime, Dimensions, Amounts]]:
        by_dimensions: dict[Dimensions, list[_Entry]] = {}
        for entry in self._entries.values():
            by_dimensions.setdefault(entry.item.dimensions, []).append(entry)
        for dimensions, entries in by_dimensions.items():
            for hour, amounts in entries[0].amounts() if len(entries) == 1 else _together(entries):
                yield hour, dimensions, amounts

    def _reject_sum(self, reason: Rejection, hour: datetime, dimensions: Dimensions, amounts: Amounts) -> None:
        self._reject(reason, Charge(hour, dimensions, amounts))
        cost = abs(nano_of_atto(amounts.cost)) if reason is Rejection.NEGATIVE else 0
        self._rejected_rows.append(RejectedRow(reason.value, hour, dimensions, cost))

    def _reject(self, reason: Rejection, row: object) -> None:
        self._rejections.reject(self._rejected, FocusUsage.name, reason, row)


def _together(entries: Iterable[_Entry]) -> Iterable[tuple[datetime, Amounts]]:
    """Return what some lines were charged together in every hour."""
    sums: dict[datetime, Amounts] = {}
    for hour, amounts in chain.from_iterable(entry.amounts() for entry in entries):
        known = sums.get(hour)
        sums[hour] = amounts if known is None else known.plus(amounts)
    return sums.items()


def discount_percent(line: UsageLine) -> Decimal | None:
    """Return by how many percent the contracted price is below the list price, None where a line does not say."""
    listed, contracted = line.list_unit_price, line.contracted_unit_price
    if not listed or contracted is None:
        return None
    return (1 - contracted / listed) * 100
