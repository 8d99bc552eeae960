"""Usage calls of the platform: `/models/usage`, `/serverless/usage` and `/organization/usage`, page by page.

The calls share one way of asking and one way of reading rows. An `Interface` describes what differs: the call, the
fields that decide a row's dimensions, and the rows that a source leaves to other sources.

- `models` (`/models/usage`): spend on model endpoints.
- `serverless` (`/serverless/usage`): machine time of the account's own apps. fal bills several GPUs as their count
  times the duration, so that the quantity of a GPU machine is GPU-seconds already.
- `organization` (`/organization/usage`): the spend of all teams, for a key of the organization's root team. It contains
  everything that the other sources report. `endpoint_id` says what a row is for, whatever the product: an endpoint, an
  app, or a machine's line such as `type: gpu_8x_h100_sxm5 (my-app, prod)`.
- `compute` (`/organization/usage`): the rows of products that neither `models` nor `serverless` reports, to be polled
  beside these two.

With `source=tagged-estimate`, `/models/usage` reports by the tags that callers sent. That allocates and does not bill:
recent usage comes later than without it, and its sums can differ.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from zoneinfo import ZoneInfo

from exporter.charges import SURGE, Amounts, Dimensions, UnitPrice, Window, gpu_machine, hour_of, nano_of_atto
from exporter.fal.aggregation import Detail, Offer, Reading, Tally, offer, one_reading, rounded, unit_prices
from exporter.fal.buckets import Allowance, Buckets
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.errors import FeatureError
from exporter.fal.paging import pages
from exporter.fal.rows import (
    NO_GPU_TIME,
    GpuTime,
    RejectedError,
    Rejection,
    Row,
    billing_line,
    cost_shown,
    fine_amount,
    gpu_time,
    gpu_time_of_unit,
    in_dollars,
    instant,
    optional_text,
    row_of,
    text,
)
from exporter.tags import UNTAGGED, TaggedCharge, TaggedReading, TagValues, tag_values

_UTC = ZoneInfo("UTC")


@dataclass(slots=True)
class Item:
    """Meaning of rows with the same names, within one reading.

    Attributes:
        gpu: the GPU time in one unit of quantity.
        offer: the price among its rows that counts.
        has_unit: whether the unit of their quantities could be read.
    """

    dimensions: Dimensions
    gpu: GpuTime = NO_GPU_TIME
    offer: Offer | None = None
    has_unit: bool = True


@dataclass(frozen=True, slots=True)
class Interface:
    """Contract of one usage call.

    Attributes:
        source: the name of the source that reads it.
        names: the text fields that decide what a row is for.
        nullable: those of them that may be null or absent.
        describe: makes an item of the account and the values of `names`, in their order.
        tells_key: whether rows can be asked for by key.
        tells_surge: whether rows at surge prices are marked.
        tells_list_price: whether a row's unit price is the one before discount.
        left_out: the products whose rows belong to other sources.
    """

    source: str
    call: Endpoint
    names: tuple[str, ...]
    nullable: frozenset[str]
    describe: Callable[[str, Sequence[str]], Item]
    tells_key: bool
    tells_surge: bool = False
    tells_list_price: bool = True
    left_out: frozenset[str] = frozenset()

    def leaves_out(self, row: object) -> bool:
        """Return whether a row, readable or not, is of a product that another source reports."""
        product = row.get("product") if self.left_out and isinstance(row, dict) else None
        return isinstance(product, str) and product in self.left_out


class PlatformUsage:
    """Reads one usage call of the platform for one account."""

    def __init__(self, interface: Interface, client: Client) -> None:
        self.name = interface.source
        self.detail: Detail | None = None
        self._interface = interface
        self._client = client

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:
        """Read a window through all its pages; see `UsageSource`."""
        by_key = with_api_key and self._interface.tells_key
        client = self._client
        tally = Tally(client.account, self.name, window, client.rejections)
        query = window_parameters(window, by_key=by_key)
        most_rows = min(client.limits.rows, client.limits.rows_per_hour * len(window))
        return await self._read(tally, query, client.deadline(), by_key=by_key, most_rows=most_rows)

    async def read_buckets(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> Reading:
        """Read a window in few calls; see `UsageSource`."""
        client = self._client
        readings = []
        for piece in buckets.pieces():
            tally = Tally(client.account, self.name, piece.window, client.rejections, edges=piece.edges)
            query = window_parameters(piece.window, by_key=False, timeframe=piece.timeframe, zone=piece.zone)
            readings.append(await self._read(tally, query, deadline, by_key=False, allowance=allowance))
        return one_reading(buckets.window, readings)

    async def _read(
        self,
        tally: Tally,
        query: Parameters,
        deadline: Deadline,
        *,
        by_key: bool,
        allowance: Allowance | None = None,
        most_rows: int | None = None,
    ) -> Reading:
        client, call = self._client, self._interface.call
        rows = Rows(self._interface, client.account, tally, by_key=by_key)
        async for page in pages(client, call, query, deadline, allowance=allowance, most_rows=most_rows, summed=True):
            for bucket in page:
                results = bucket.get("results") if isinstance(bucket, dict) else None
                if not isinstance(bucket, dict) or not isinstance(results, list):
                    raise client.misshapen(call, "`time_series` contains something that is not a bucket with `results`")
                rows.take(bucket.get("bucket"), results)
        return tally.reading(rows.prices())

    async def ask_for_detail(self, window: Window) -> None:
        """Do nothing: the call reports the same to every key."""


def window_parameters(window: Window, *, by_key: bool, timeframe: str = "hour", zone: ZoneInfo = _UTC) -> Parameters:
    """Return the query for the hours of a window, and not one more, in a zone's buckets of a timeframe."""
    return {
        "start": f"{window.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{window.end:%Y-%m-%dT%H:%M:%SZ}",
        "timezone": zone.key,
        "timeframe": timeframe,
        "bound_to_timeframe": "false",
        "expand": ["time_series", "auth_method_structured"] if by_key else "time_series",
    }


class Rows:
    """Reads the rows of one reading into its tally."""

    def __init__(self, interface: Interface, account: str, tally: Tally, *, by_key: bool) -> None:
        self._interface = interface
        self._account = account
        self._tally = tally
        self._by_key = by_key
        self._names: Callable[[Row], tuple[object, ...]] = itemgetter(*interface.names)
        self._items: dict[tuple[object, ...], Item] = {}

    def take(self, stamp: object, rows: list[object]) -> None:
        """Read the rows of one bucket; a row that is not understood is rejected, the others are taken."""
        hour = self._tally.hour(stamp)
        for row in rows:
            if self._interface.leaves_out(row):
                continue
            if isinstance(hour, Rejection):
                self._reject(None, hour, row, {"bucket": stamp, "row": row})
                continue
            try:
                self._row(hour, row)
            except RejectedError as rejected:
                self._reject(hour, rejected.reason, row, row)

    def _row(self, hour: datetime, value: object) -> None:
        row = row_of(value)
        item = self._item(row)
        in_dollars(row.get("currency"))
        quantity, lacks = _quantity(row) if item.has_unit else (0, Rejection.UNIT)
        self._tally.add(hour, item.dimensions, amounts_of(row, quantity, item.gpu.seconds))
        if lacks is not None:
            dimensions = item.dimensions if item.has_unit else None
            self._tally.reject(lacks, row, hour=hour, dimensions=dimensions, is_counted=True)
            return
        asked = offer(hour, row) if self._interface.tells_list_price else None
        if asked is not None and asked.beats(item.offer):
            item.offer = asked

    def _reject(self, hour: datetime | None, reason: Rejection, row: object, shown: object) -> None:
        """Leave a row out, but keep what it is for and what it costs, as far as that can be read."""
        dimensions = None
        with suppress(RejectedError):
            item = self._item(row_of(row))
            dimensions = item.dimensions if item.has_unit else None
        self._tally.reject(
            reason, shown, hour=hour, dimensions=dimensions, cost=cost_shown(row, ("cost_total", "cost"))
        )

    def _item(self, row: Row) -> Item:
        """Return what a row is for; worked out once for the same names, which occur by the thousand."""
        try:
            names = self._names(row)
        except KeyError:
            names = tuple(row.get(name) for name in self._interface.names)
        if self._interface.tells_surge:
            names += (row.get("is_surge") is True,)
        if self._by_key:
            names += caller(row)
        try:
            item = self._items.get(names)
        except TypeError:  # a list or an object, which no dictionary takes as a key
            if isinstance(row.get("unit"), list | dict):
                return self._item({**row, "unit": None})
            raise RejectedError(Rejection.WRONG_TYPE) from None
        if item is None:
            item = self._items[names] = self._new_item(names)
        return item

    def _new_item(self, names: tuple[object, ...]) -> Item:
        nullable = self._interface.nullable
        of_name = dict(zip(self._interface.names, names, strict=False))
        has_unit = isinstance(of_name["unit"], str)
        # A row without a unit costs what it costs; only its quantity means nothing.
        of_name["unit"] = of_name["unit"] if has_unit else ""
        texts = [optional_text(value) if name in nullable else text(value) for name, value in of_name.items()]
        item = self._interface.describe(self._account, texts)
        item.has_unit = has_unit
        if self._interface.tells_surge and names[len(texts)]:
            item.dimensions = item.dimensions._replace(surge=SURGE)
        if self._by_key:
            key, login = names[-2:]
            item.dimensions = item.dimensions._replace(api_key=optional_text(key), member=optional_text(login))
        return item

    def prices(self) -> tuple[UnitPrice, ...]:
        """Return the unit prices that the rows stated."""
        return unit_prices((item.dimensions, item.offer) for item in self._items.values() if item.offer)


def _quantity(row: Row) -> tuple[int, Rejection | None]:
    """Return a row's quantity in atto-units; or 0 and the reason why not, as the row costs all the same."""
    try:
        return fine_amount(row.get("quantity")), None
    except RejectedError:
        return 0, Rejection.QUANTITY


def amounts_of(row: Row, quantity: int, gpu_seconds: int) -> Amounts:
    """Return how much a row is, in atto-units.

    What fal charges is `cost_total`, or `cost` in answers that have only that.

    The discount is what is missing between the list cost and the charge, not fal's own figure, so that the three
    always agree to the nano-dollar; a list cost below the charge is raised to it.

    Raises:
        RejectedError: a needed number is absent, none, negative or too large.
    """
    get = row.get
    total = get("cost_total")
    cost = fine_amount(get("cost") if total is None else total)
    subtotal = get("cost_subtotal")
    if subtotal is not None:
        list_cost = cost if subtotal == total else max(cost, fine_amount(subtotal))
    else:
        discount = get("cost_discount")
        list_cost = cost if discount is None else cost + fine_amount(discount)
    return Amounts(quantity, quantity * gpu_seconds, list_cost, list_cost - cost, cost)


def caller(row: Row) -> tuple[str, str]:
    """Return who made the requests of a row: the id of a key, and the login of a member; either may be empty.

    Where fal names neither, its words for the caller take the place of the id.
    """
    structured = row.get("auth_method_structured")
    fields = structured if isinstance(structured, dict) else {}
    key, login, words = (
        value if isinstance(value, str) else ""
        for value in (fields.get("api_key_id"), fields.get("login_username"), fields.get("detail"))
    )
    if key or login:
        return key, login
    value = row.get("auth_method")
    return words or (value if isinstance(value, str) else ""), ""


def describe_model(account: str, names: Sequence[str]) -> Item:
    """Describe the rows of an endpoint and unit; a unit that names a GPU gives GPU time."""
    model, unit = names
    gpu = gpu_time_of_unit(unit)
    return Item(Dimensions(account, product="model_apis", model=model, gpu_class=gpu.gpu_class, unit=unit), gpu)


MODELS = Interface(
    source="models",
    call=Endpoint(Host.PLATFORM, "/models/usage"),
    names=("endpoint_id", "unit"),
    nullable=frozenset(),
    describe=describe_model,
    tells_key=True,
)


def models(client: Client) -> PlatformUsage:
    """Return the source of an account's spend on model endpoints."""
    return PlatformUsage(MODELS, client)


def describe_machine(account: str, names: Sequence[str]) -> Item:
    """Return what rows of an app, environment, machine and unit are for."""
    app, environment, machine, unit = names
    gpu = gpu_time(gpu_machine(machine), unit, each=False)
    dimensions = Dimensions(
        account, product="serverless", app=app, environment=environment, gpu_class=gpu.gpu_class, unit=unit
    )
    return Item(dimensions, gpu)


SERVERLESS = Interface(
    source="serverless",
    call=Endpoint(Host.PLATFORM, "/serverless/usage"),
    names=("app", "environment", "machine_type", "unit"),
    nullable=frozenset({"app", "environment"}),
    describe=describe_machine,
    tells_key=False,
    tells_surge=True,
)


def serverless(client: Client) -> PlatformUsage:
    """Return the source of an account's machine time."""
    return PlatformUsage(SERVERLESS, client)


_MODEL_APIS = "model_apis"
_SERVERLESS = "serverless"


def describe_team_row(account: str, names: Sequence[str]) -> Item:
    """Return what rows of a team, product, endpoint and unit are for.

    A compute machine's quantity is its own time, so that eight GPUs make eight GPU-seconds of a second; a serverless
    quantity counts every GPU already.
    """
    team, product, endpoint, unit = names
    common = Dimensions(account, team=team, product=product, unit=unit)
    line = None if product == _MODEL_APIS else billing_line(endpoint)
    if line is not None:
        gpu = gpu_time(line.machine, unit, each=product != _SERVERLESS)
        return Item(common._replace(app=line.app, environment=line.environment, gpu_class=gpu.gpu_class), gpu)
    if product == _SERVERLESS:
        return Item(common._replace(app=endpoint))
    gpu = gpu_time_of_unit(unit)
    return Item(common._replace(model=endpoint, gpu_class=gpu.gpu_class), gpu)


ORGANIZATION = Interface(
    source="organization",
    call=Endpoint(Host.PLATFORM, "/organization/usage"),
    names=("username", "product", "endpoint_id", "unit"),
    nullable=frozenset(),
    describe=describe_team_row,
    tells_key=True,
    # Its rows state no discount: teams with different discounts would make one price jump to and fro.
    tells_list_price=False,
)


def organization(client: Client) -> PlatformUsage:
    """Return the source of the spend of all teams."""
    return PlatformUsage(ORGANIZATION, client)


def describe_compute(account: str, names: Sequence[str]) -> Item:
    """Describe the rows of a product, endpoint and unit that no other source reports.

    The team is left empty, as in `models` and `serverless`: one account's spend is not split between two values of the
    label.
    """
    return describe_team_row(account, ("", *names))


COMPUTE = Interface(
    source="compute",
    call=ORGANIZATION.call,
    names=("product", "endpoint_id", "unit"),
    nullable=frozenset(),
    describe=describe_compute,
    tells_key=True,
    tells_list_price=False,
    # Everything else is read, so that a product that fal introduces later is not missed.
    left_out=frozenset({_MODEL_APIS, _SERVERLESS}),
)


def compute(client: Client) -> PlatformUsage:
    """Return the source of compute machines, and of products that no other source knows."""
    return PlatformUsage(COMPUTE, client)


PRODUCT_OF_SOURCE = {"models": _MODEL_APIS, "serverless": _SERVERLESS}
"""The product of each source that reports one only."""


def source_of_product(product: str) -> str:
    """Return the source that reports a product in detail."""
    return next((source for source, its_own in PRODUCT_OF_SOURCE.items() if its_own == product), "compute")


@dataclass(frozen=True, slots=True)
class OrganizationTotals:
    """Sums of `/organization/usage` over a window.

    Attributes:
        by_product: nano-USD by product.
        teams: the usernames that have charges.
        rejected: how many rows could not be read; the sums lack them.
    """

    by_product: Mapping[str, int]
    teams: frozenset[str]
    rejected: int


async def organization_totals(
    client: Client, window: Window, deadline: Deadline, *, track_lock: bool = True
) -> OrganizationTotals:
    """Read the sums of a window by product; `track_lock` as for `Client.get`.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    by_product: Counter[str] = Counter()
    teams: set[str] = set()
    rejected = 0
    # Months make the fewest rows: nothing but their sum is wanted.
    query = window_parameters(window, by_key=False, timeframe="month")
    async for page in pages(client, ORGANIZATION.call, query, deadline, track_lock=track_lock, summed=True):
        for bucket in page:
            results = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(results, list):
                raise client.misshapen(ORGANIZATION.call, "`time_series` contains something that is not a bucket")
            for value in results:
                try:
                    row = row_of(value)
                    in_dollars(row.get("currency"))
                    team, product = text(row.get("username")), text(row.get("product"))
                    cost = amounts_of(row, 0, 0).cost
                except RejectedError:
                    rejected += 1
                    continue
                by_product[product] += cost
                teams.add(team)
    nanos = {product: nano_of_atto(cost) for product, cost in by_product.items()}
    return OrganizationTotals(nanos, frozenset(teams), rejected)


_TAGGED = "tagged-estimate"

_TaggedKey = tuple[str, str, TagValues]
"""Model, unit and values of the tags."""


async def read_tagged(
    client: Client, window: Window, keys: TagValues, deadline: Deadline | None = None
) -> TaggedReading:
    """Read a window by tags through all its pages.

    Args:
        client: the account's own.
        window: whole UTC hours.
        keys: of the tags that are wanted; values of others are added up.
        deadline: the client's own unless given.

    Raises:
        FeatureError: fal answers, but not by tags: reporting is not switched on for the account.
        ApiError: every other kind of failure; see `exporter.fal.errors`.
    """
    call, deadline = MODELS.call, deadline or client.deadline()
    hours: dict[datetime, dict[_TaggedKey, Amounts]] = {}
    rejected: Counter[str] = Counter()
    query = {**window_parameters(window, by_key=False), "source": _TAGGED}
    async for page in pages(client, call, query, deadline, track_lock=False, summed=True):
        for bucket in page:
            rows = bucket.get("results") if isinstance(bucket, dict) else None
            if not isinstance(bucket, dict) or not isinstance(rows, list):
                raise client.misshapen(call, "`time_series` contains something that is not a bucket with `results`")
            for row in rows:
                if isinstance(row, dict) and "tags" not in row:
                    raise client.failure(FeatureError, call, "fal's answer has no tags: reporting by tags is not on")
                try:
                    hour = _tagged_hour(bucket.get("bucket"), window)
                    key, amounts = _tagged_row(row, keys)
                except RejectedError as error:
                    client.rejections.reject(rejected, "tags", error.reason, row)
                    continue
                sums = hours.setdefault(hour, {})
                known = sums.get(key)
                sums[key] = amounts if known is None else known.plus(amounts)
    charges, stated = [], {}
    for hour, sums in hours.items():
        stated[hour] = 0
        for (model, unit, tags), amounts in rounded(sums):
            stated[hour] += amounts.cost
            if any(value != UNTAGGED for value in tags):
                charges.append(TaggedCharge(hour, model, unit, tags, amounts))
    return TaggedReading(client.account, window, keys, tuple(charges), stated, dict(rejected))


def _tagged_hour(stamp: object, window: Window) -> datetime:
    hour = instant(stamp)
    if hour != hour_of(hour):
        raise RejectedError(Rejection.BUCKET)
    if hour not in window:
        raise RejectedError(Rejection.OUTSIDE_WINDOW)
    return hour


def _tagged_row(value: object, keys: TagValues) -> tuple[_TaggedKey, Amounts]:
    row = row_of(value)
    in_dollars(row.get("currency"))
    tags = row.get("tags")
    if tags is not None and not isinstance(tags, dict):
        raise RejectedError(Rejection.WRONG_TYPE)
    unit = optional_text(row.get("unit"))
    amounts = amounts_of(row, fine_amount(row.get("quantity")), 0)
    return (text(row.get("endpoint_id")), unit, tag_values(tags or {}, keys)), amounts
