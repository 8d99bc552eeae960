"""`/billing/usage`: spend by model, app and GPU class, one hour a call.

The interface knows no hours, so every hour of a window is asked for on its own. Its published description leaves the
body open; what is read here is assumed: `{"start", "end", "currency", "usage": [{"model", "app", "gpu_class",
"requests", "gpu_seconds", "spend"}]}`, with `endpoint_id` for `model` and `cost` or `amount` for `spend`. Rows tell no
product: one with an app is taken for serverless, any other for a model.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import structlog

from exporter.charges import HOUR, Amounts, Dimensions, Window, gpu_machine
from exporter.fal.aggregation import Reading, Tally
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.errors import BadRequestError
from exporter.fal.rows import RejectedError, Rejection, Row, amount, in_dollars, instant, optional_text, row_of

CALL = Endpoint(Host.REPORTING, "/billing/usage")
ALL_DIMENSIONS = "model,app,gpu_class"
ONE_DIMENSION = "model"

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ReportingUsage:
    """Reads the reporting interface's usage for one account."""

    name = "reporting"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._group_by = ALL_DIMENSIONS

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:  # noqa: ARG002  it tells no key
        """Read a window hour by hour; see `UsageSource`."""
        client = self._client
        deadline = client.deadline()
        tally = Tally(client.account, self.name, window, client.rejections)
        first, *others = window.hours()
        # The first hour alone, as it may find out that fal takes one dimension only.
        self._take(tally, first, await self._ask(first, deadline))

        async def read_hour(hour: datetime) -> None:
            self._take(tally, hour, await self._ask(hour, deadline))

        try:
            async with asyncio.TaskGroup() as group:
                for hour in others:
                    group.create_task(read_hour(hour))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return tally.reading()

    async def _ask(self, hour: datetime, deadline: Deadline) -> object:
        group_by = self._group_by
        try:
            return await self._client.get(CALL, usage_parameters(hour, group_by), deadline)
        except BadRequestError:
            if group_by == ONE_DIMENSION:
                raise
        answer = await self._client.get(CALL, usage_parameters(hour, ONE_DIMENSION), deadline)
        if self._group_by != ONE_DIMENSION:
            self._group_by = ONE_DIMENSION
            _log.warning(
                "one_dimension_only",
                account=self._client.account,
                source=self.name,
                advice="fal groups this account's usage by model only: its charges have no app and no gpu_class",
            )
        return answer

    def _take(self, tally: Tally, hour: datetime, answer: object) -> None:
        """Read the rows of one hour's answer."""
        if not isinstance(answer, dict):
            raise self._client.misshapen(CALL, "is no object")
        rows = answer.get("usage")
        if not isinstance(rows, list):
            raise self._client.misshapen(CALL, "`usage` is no list")
        wrong = _other_window(answer, hour)
        if wrong:
            for row in rows:
                tally.reject(wrong, row)
            return
        for row in rows:
            try:
                dimensions, amounts = _charge(self._client.account, row_of(row), answer.get("currency", "USD"))
                tally.add(hour, dimensions, amounts)
            except RejectedError as rejected:
                tally.reject(rejected.reason, row)


def usage_parameters(hour: datetime, group_by: str) -> Parameters:
    """Return the query for one hour."""
    return {
        "start": f"{hour:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{hour + HOUR:%Y-%m-%dT%H:%M:%SZ}",
        "group_by": group_by,
    }


def _other_window(answer: Mapping[str, object], hour: datetime) -> Rejection | None:
    """Tell whether the answer is about more than the hour that was asked for; it need not say what it is about."""
    try:
        start = instant(answer.get("start", hour.isoformat()))
        end = instant(answer.get("end", hour.isoformat()))
    except RejectedError:
        return Rejection.BUCKET
    return None if hour <= start and end <= hour + HOUR else Rejection.OUTSIDE_WINDOW


def _charge(account: str, row: Row, currency: object) -> tuple[Dimensions, Amounts]:
    in_dollars(row.get("currency", currency))
    model = optional_text(_first(row, "model", "endpoint_id"))
    app = optional_text(row.get("app"))
    gpu_class = gpu_machine(optional_text(row.get("gpu_class"))).gpu_class
    cost = amount(_first(row, "spend", "cost", "amount"))
    dimensions = Dimensions(
        account,
        product="serverless" if app else "model_apis",
        model=model,
        app=app,
        gpu_class=gpu_class,
        unit="request",
    )
    return dimensions, Amounts(
        quantity=_optional(row.get("requests")),
        gpu_seconds=_optional(row.get("gpu_seconds")),
        list_cost=cost,
        cost=cost,
    )


def _first(row: Row, *names: str) -> object:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _optional(value: object) -> int:
    return 0 if value is None else amount(value)
