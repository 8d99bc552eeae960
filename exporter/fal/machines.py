"""Own apps: their settings, runners by state, requests and queues; and the requests of models one calls.

- `/serverless/apps`: settings of every app and environment.
- `/serverless/apps/{owner}/{name}/runners/history`: mean number of runners of an hour by state, back to 90 days.
- `/serverless/analytics`, `/models/analytics`: requests of an hour, for endpoints that are named.
- `/serverless/apps/{owner}/{name}/queue`: requests that wait.

fal states runners by owner and name: those of all environments of an app together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from exporter.charges import HOUR, Window, hour_number, hour_of
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.errors import NotFoundError
from exporter.fal.listings import Listing
from exporter.fal.paging import pages
from exporter.fal.rows import RejectedError, Rejection, Row, amount, instant, optional_text, row_of, text
from exporter.machines import AppSettings, RequestHour, RunnerHour, Runners

APPS = Endpoint(Host.PLATFORM, "/serverless/apps")
RUNNERS = Endpoint(Host.PLATFORM, "/serverless/apps/{owner}/{name}/runners/history")
QUEUE = Endpoint(Host.PLATFORM, "/serverless/apps/{owner}/{name}/queue")
APP_REQUESTS = Endpoint(Host.PLATFORM, "/serverless/analytics")
MODEL_REQUESTS = Endpoint(Host.PLATFORM, "/models/analytics")

APP, MODEL = "serverless", "model_apis"
"""Products whose requests can be read."""

_NANO = 10**9
_ENDPOINTS_AT_ONCE = 50
_COUNTS = ("request_count", "success_count", "user_error_count", "error_count")
_OF_APPS = ("cold_boot_count", "total_billable_duration")
_NOW = timedelta(minutes=10)


class ListedApp(NamedTuple):
    """An app in an environment, and the endpoints that are its own."""

    settings: AppSettings
    endpoints: tuple[str, ...]


async def read_apps(client: Client, deadline: Deadline | None = None) -> Listing[ListedApp]:
    """Read the settings of all apps; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    query: Parameters = {"expand": "endpoints"}
    answer = await client.get(APPS, query, deadline or client.deadline(), track_lock=False)
    rows = answer.get("apps") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise client.misshapen(APPS, "`apps` is not a list of apps")
    found: dict[tuple[str, str, str], ListedApp] = {}
    rejected: Counter[str] = Counter()
    for row in rows:
        try:
            app = _app(client.account, row_of(row))
        except RejectedError as error:
            client.rejections.reject(rejected, "apps", error.reason, row)
        else:
            found[app.settings.owner, app.settings.app, app.settings.environment] = app
    return Listing(found.values(), dict(rejected))


def _app(account: str, row: Row) -> ListedApp:
    endpoint = text(row.get("endpoint_id"))
    owner, slash, name = endpoint.partition("/")
    if not (owner and slash and name):
        raise RejectedError(Rejection.WRONG_TYPE)
    updated_at, listed = row.get("updated_at"), row.get("endpoints")
    settings = AppSettings(
        account=account,
        owner=owner,
        app=name,
        environment=optional_text(row.get("environment")),
        machine=optional_text(row.get("machine_type")),
        keep_alive=_whole(row.get("keep_alive")),
        min_concurrency=_whole(row.get("min_concurrency")),
        max_concurrency=_whole(row.get("max_concurrency")),
        updated_at=None if updated_at is None else instant(updated_at),
    )
    others = [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
    return ListedApp(settings, tuple(dict.fromkeys((endpoint, *others))))


def _whole(value: object) -> int | None:
    return None if value is None else amount(value) // _NANO


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return 0 if value is None else amount(value) // _NANO


async def read_runners(
    client: Client, owner: str, name: str, window: Window, deadline: Deadline | None = None
) -> Listing[RunnerHour]:
    """Read the runners of an app in the hours of a window; an hour that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    began_at = client.now()
    found: dict[int, RunnerHour] = {}
    rejected: Counter[str] = Counter()
    for row in await _history(client, owner, name, (window.start, window.end, "hour"), deadline):
        try:
            stamped, runners = _runners(row)
            hour = hour_of(stamped)
        except RejectedError as error:
            client.rejections.reject(rejected, "runners", error.reason, row)
            continue
        if hour in window:
            number = hour_number(hour)
            found[number] = RunnerHour(client.account, name, number, runners, hour + HOUR <= began_at)
    return Listing(found.values(), dict(rejected))


async def read_idle_runners(client: Client, owner: str, name: str, deadline: Deadline | None = None) -> int | None:
    """Return the mean number of idle runners of an app in the last minutes, in nano-runners; None where not stated.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    end = client.now().replace(second=0, microsecond=0)
    idle = []
    for row in await _history(client, owner, name, (end - _NOW, end, "minute"), deadline):
        try:
            idle.append(_runners(row)[1].idle)
        except RejectedError:
            continue
    return sum(idle) // len(idle) if idle else None


async def _history(
    client: Client, owner: str, name: str, span: tuple[datetime, datetime, str], deadline: Deadline | None
) -> Sequence[object]:
    start, end, timeframe = span
    query: Parameters = {
        "start": _stamp(start),
        "end": _stamp(end),
        "timeframe": timeframe,
        "aggregation": "avg",
    }
    call = RUNNERS.of(owner=owner, name=name)
    answer = await client.get(call, query, deadline or client.deadline(), track_lock=False)
    rows = answer.get("history") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise client.misshapen(call, "`history` is not a list")
    return rows


def _runners(value: object) -> tuple[datetime, Runners]:
    row = row_of(value)
    return instant(row.get("timestamp")), Runners(*(amount(row.get(state)) for state in Runners._fields))


async def read_queue(client: Client, owner: str, name: str, deadline: Deadline | None = None) -> int:
    """Return the number of requests that wait for an app.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    call = QUEUE.of(owner=owner, name=name)
    answer = await client.get(call, {}, deadline or client.deadline(), track_lock=False)
    try:
        return amount(row_of(answer).get("queue_size")) // _NANO
    except RejectedError as error:
        raise client.misshapen(call, f"the size of the queue cannot be read ({error})") from None


async def read_requests(
    client: Client, product: str, names: Mapping[str, str], window: Window, deadline: Deadline | None = None
) -> Listing[RequestHour]:
    """Read the requests of endpoints in the hours of a window, added up by app or model.

    An endpoint that fal does not know has none. A row that is not understood is left out and counted.

    Args:
        client: asks.
        product: APP or MODEL.
        names: the app or model of each endpoint.
        window: whole hours.
        deadline: ends all requests.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    sums: dict[tuple[str, int], RequestHour] = {}
    rejected: Counter[str] = Counter()
    endpoints = sorted(names)
    for first in range(0, len(endpoints), _ENDPOINTS_AT_ONCE):
        batch = endpoints[first : first + _ENDPOINTS_AT_ONCE]
        for bucket, row in await _known(client, product, batch, window, deadline):
            try:
                hour = hour_of(instant(bucket))
                fields = row_of(row)
                name = names.get(text(fields.get("endpoint_id")))
                if name is None or hour not in window:
                    continue
                counted = _request_hour(client.account, product, name, hour_number(hour), fields)
            except RejectedError as error:
                client.rejections.reject(rejected, "analytics", error.reason, row)
                continue
            known = sums.get((name, counted.hour))
            sums[name, counted.hour] = counted if known is None else _plus(known, counted)
    return Listing(sums.values(), dict(rejected))


async def _known(
    client: Client, product: str, endpoints: Sequence[str], window: Window, deadline: Deadline | None
) -> list[tuple[object, object]]:
    """Return bucket and row of endpoints; one that fal does not know would have it refuse all of them."""
    try:
        return await _buckets(client, product, endpoints, window, deadline)
    except NotFoundError:
        if len(endpoints) == 1:
            return []
    found = []
    for endpoint in endpoints:
        found += await _known(client, product, [endpoint], window, deadline)
    return found


async def _buckets(
    client: Client, product: str, endpoints: Iterable[str], window: Window, deadline: Deadline | None
) -> list[tuple[object, object]]:
    call = APP_REQUESTS if product == APP else MODEL_REQUESTS
    query: Parameters = {
        "start": _stamp(window.start),
        "end": _stamp(window.end),
        "timeframe": "hour",
        "endpoint_id": list(endpoints),
        "expand": ["time_series", *_COUNTS, *(_OF_APPS if product == APP else ())],
    }
    found: list[tuple[object, object]] = []
    async for page in pages(client, call, query, deadline or client.deadline(), track_lock=False):
        for bucket in page:
            fields = bucket if isinstance(bucket, dict) else {}
            results = fields.get("results")
            if not isinstance(results, list):
                raise client.misshapen(call, "`time_series` contains something that is not a bucket")
            found += [(fields.get("bucket"), row) for row in results]
    return found


def _request_hour(account: str, product: str, name: str, hour: int, row: Row) -> RequestHour:
    billable = row.get("total_billable_duration")
    return RequestHour(
        account,
        product,
        name,
        hour,
        requests=amount(row.get("request_count")) // _NANO,
        succeeded=amount(row.get("success_count")) // _NANO,
        user_errors=_count(row, "user_error_count"),
        errors=_count(row, "error_count"),
        cold_starts=_count(row, "cold_boot_count"),
        billable=0 if billable is None else amount(billable),
    )


def _plus(known: RequestHour, more: RequestHour) -> RequestHour:
    return RequestHour(*known[:4], *(one + other for one, other in zip(known[4:], more[4:], strict=True)))


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
