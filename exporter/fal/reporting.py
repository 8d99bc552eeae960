"""`/billing/usage`: spend by model, app and GPU class, one hour a call.

The interface knows no hours, so every hour of a window is asked for on its own. Its published description leaves the
body open; what is read here is assumed: `{"start", "end", "currency", "usage": [{"model", "app", "gpu_class",
"requests", "gpu_seconds", "spend"}]}`, with `endpoint_id` for `model` and `cost` or `amount` for `spend`. Rows tell no
product: one with an app is taken for serverless, any other for a model.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import structlog

from exporter.charges import HOUR, Amounts, Dimensions, Window, gpu_machine
from exporter.fal.aggregation import SECOND_LOOK, Detail, Reading, Tally
from exporter.fal.buckets import Allowance, Buckets
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.errors import BadRequestError, DetailRefusedError
from exporter.fal.rows import (
    RejectedError,
    Rejection,
    Row,
    cost_shown,
    fine_amount,
    in_dollars,
    instant,
    optional_text,
    row_of,
)

CALL = Endpoint(Host.REPORTING, "/billing/usage")
ALL_DIMENSIONS = "model,app,gpu_class"
ONE_DIMENSION = "model"
_COSTS = ("spend", "cost", "amount")

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ReportingUsage:
    """Reads the reporting interface's usage for one account."""

    name = "reporting"

    def __init__(self, client: Client) -> None:
        self.detail: Detail | None = Detail.UNKNOWN
        self._client = client

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:  # noqa: ARG002  it reports no key
        """Read a window hour by hour; see `UsageSource`."""
        client = self._client
        deadline = client.deadline()
        tally = Tally(client.account, self.name, window, client.rejections)
        if self.detail is Detail.UNKNOWN:
            self.detail = await self._choose(window.start, deadline)
        group_by = ONE_DIMENSION if self.detail is Detail.REDUCED else ALL_DIMENSIONS

        async def read_hour(hour: datetime) -> None:
            an_hour = Window(hour, hour + HOUR)
            self._take(tally, an_hour, await self._ask(an_hour, group_by, deadline))

        try:
            async with asyncio.TaskGroup() as group:
                for hour in window.hours():
                    group.create_task(read_hour(hour))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return tally.reading()

    async def read_buckets(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> Reading:
        """Read a window by one call a bucket; see `UsageSource`."""
        client = self._client
        tally = Tally(client.account, self.name, buckets.window, client.rejections)
        group_by = ONE_DIMENSION if self.detail is Detail.REDUCED else ALL_DIMENSIONS
        for bucket in buckets.windows():
            allowance.take()
            try:
                answer = await client.get(CALL, usage_parameters(bucket, group_by), deadline)
            except BadRequestError:
                if group_by == ONE_DIMENSION:
                    raise
                # Nothing is kept of this question, so that fewer dimensions do no harm.
                group_by = ONE_DIMENSION
                answer = await client.get(CALL, usage_parameters(bucket, group_by), deadline)
            self._take(tally, bucket, answer)
        return tally.reading()

    async def ask_for_detail(self, window: Window) -> None:
        """Ask for all dimensions again; see `UsageSource`."""
        if self.detail is Detail.REDUCED and await self._takes_all(window.start, self._client.deadline()):
            self.detail = Detail.FULL

    async def _choose(self, hour: datetime, deadline: Deadline) -> Detail:
        """Find out which dimensions fal takes; one refusal alone decides nothing."""
        if await self._takes_all(hour, deadline):
            return Detail.FULL
        await self._client.pause(SECOND_LOOK)
        if await self._takes_all(hour, deadline):
            return Detail.FULL
        await self._client.get(CALL, usage_parameters(Window(hour, hour + HOUR), ONE_DIMENSION), deadline)
        _log.warning(
            "one_dimension_only",
            account=self._client.account,
            source=self.name,
            advice="fal groups this account's usage by model only: its charges have no app and no gpu_class. This is "
            "retried every day, and by every new version",
        )
        return Detail.REDUCED

    async def _takes_all(self, hour: datetime, deadline: Deadline) -> bool:
        try:
            await self._client.get(CALL, usage_parameters(Window(hour, hour + HOUR), ALL_DIMENSIONS), deadline)
        except BadRequestError:
            return False
        return True

    async def _ask(self, hour: Window, group_by: str, deadline: Deadline) -> object:
        try:
            return await self._client.get(CALL, usage_parameters(hour, group_by), deadline)
        except BadRequestError as error:
            if group_by == ONE_DIMENSION:
                raise
            # Where fewer dimensions are refused, too, that is the error.
            await self._client.get(CALL, usage_parameters(hour, ONE_DIMENSION), deadline)
            what = f"fal refuses group_by={group_by}, which it accepted before: {error}"
            raise self._client.failure(DetailRefusedError, CALL, what) from error

    def _take(self, tally: Tally, window: Window, answer: object) -> None:
        """Read the rows of the answer for one hour, or for one bucket."""
        hour = window.start
        if not isinstance(answer, dict):
            raise self._client.misshapen(CALL, "is not an object")
        rows = answer.get("usage")
        if not isinstance(rows, list):
            raise self._client.misshapen(CALL, "`usage` is not a list")
        wrong = _other_window(answer, window)
        currency = answer.get("currency", "USD")
        for row in rows:
            if wrong is not None:
                # Nothing else is said of the hour: what the ledger has of it must not be taken for gone.
                tally.reject(wrong, row, hour=hour)
                continue
            try:
                self._charge(tally, hour, row_of(row), currency)
            except RejectedError as rejected:
                self._reject(tally, hour, rejected.reason, row, currency)

    def _charge(self, tally: Tally, hour: datetime, row: Row, currency: object) -> None:
        in_dollars(row.get("currency", currency))
        dimensions = _dimensions(self._client.account, row)
        cost = fine_amount(_first(row, *_COSTS))
        lacks = False
        counts = []
        for name in ("requests", "gpu_seconds"):
            try:
                counts.append(_optional(row.get(name)))
            except RejectedError:
                counts.append(0)
                lacks = True
        tally.add(hour, dimensions, Amounts(quantity=counts[0], gpu_seconds=counts[1], list_cost=cost, cost=cost))
        if lacks:
            tally.reject(Rejection.QUANTITY, row, hour=hour, dimensions=dimensions, is_counted=True)

    def _reject(self, tally: Tally, hour: datetime, reason: Rejection, row: object, currency: object) -> None:
        """Leave a row out, but keep what it is for and what it costs, as far as that can be read."""
        dimensions, cost = None, 0
        if isinstance(row, dict):
            cost = cost_shown({"currency": currency, **row}, _COSTS)
            with suppress(RejectedError):
                dimensions = _dimensions(self._client.account, row)
        tally.reject(reason, row, hour=hour, dimensions=dimensions, cost=cost)


def usage_parameters(window: Window, group_by: str) -> Parameters:
    """Return the query for a window, which fal answers as one."""
    return {
        "start": f"{window.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{window.end:%Y-%m-%dT%H:%M:%SZ}",
        "group_by": group_by,
    }


def _other_window(answer: Mapping[str, object], asked: Window) -> Rejection | None:
    """Return whether the answer is about more than was asked for; it need not say what it is about."""
    try:
        start = instant(answer.get("start", asked.start.isoformat()))
        end = instant(answer.get("end", asked.start.isoformat()))
    except RejectedError:
        return Rejection.BUCKET
    return None if asked.start <= start and end <= asked.end else Rejection.OUTSIDE_WINDOW


def _dimensions(account: str, row: Row) -> Dimensions:
    app = optional_text(row.get("app"))
    return Dimensions(
        account,
        product="serverless" if app else "model_apis",
        model=optional_text(_first(row, "model", "endpoint_id")),
        app=app,
        gpu_class=gpu_machine(optional_text(row.get("gpu_class"))).gpu_class,
        unit="request",
    )


def _first(row: Row, *names: str) -> object:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _optional(value: object) -> int:
    return 0 if value is None else fine_amount(value)
