"""Usage calls: models, serverless and organization with their events, and `/billing/usage` of the older host.

The published interface of the older host leaves the body of `/billing/usage` untyped; its shape here is assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from exporter.simulator.interfaces.calls import (
    Answer,
    ApiError,
    Call,
    Cursor,
    Period,
    Row,
    Sums,
    need_admin,
    need_enterprise,
    need_root,
)
from exporter.simulator.world.exact import HOUR, Exact, microseconds, stamp
from exporter.simulator.world.lines import MODEL_APIS, PRODUCTS, SERVERLESS, ApiKey, tags_of
from exporter.simulator.world.world import Charge

_VIEWS = ("time_series", "summary")
_SOURCES = ("estimate", "tagged-estimate")
_TAGS_LAG = HOUR
_AUTH = ("auth_method", "auth_method_structured")
_LARGEST_PAGE = 10

Group = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """Conversion of charges to rows.

    Attributes:
        wanted: filter of charges; key: group of a charge; row: writing of a group.
        organization: of all teams that the key sees; lag: microseconds by which charges are seen later than usual.
    """

    wanted: Callable[[Charge], bool]
    key: Callable[[Charge], Group]
    row: Callable[[Group, list[int]], Row]
    organization: bool = False
    lag: int = 0


async def models_usage(call: Call) -> Answer:
    """Answer `GET /models/usage`: spend on model endpoints, or an allocation of that spend by tags.

    The source `tagged-estimate` lags by an hour, so that its sums differ from `estimate` in the last hours.
    """
    need_admin(call.key)
    tagged = call.query.choice("source", _SOURCES, _SOURCES[0]) == _SOURCES[1]
    tags = [tag.partition("=") for tag in call.query.values("tag")]
    if tags and not tagged:
        raise ApiError(400, "tag: only source=tagged-estimate can be filtered by tags.")
    expand = call.query.choices("expand", _VIEWS + _AUTH, _VIEWS[:1])
    endpoints = call.query.values("endpoint_id")
    keys, logins = call.query.values("api_key_id"), call.query.values("login_username")
    with_key = bool({*_AUTH} & {*expand})

    def wanted(charge: Charge) -> bool:
        line = charge.line
        return (
            line.product == MODEL_APIS
            and (not endpoints or line.model in endpoints)
            and (not keys or (line.key is not None and line.key.id in keys))
            and (not logins or (line.key is not None and line.key.login in logins))
            and all(tags_of(line).get(name) == value for name, _, value in tags)
        )

    def key(charge: Charge) -> Group:
        line = charge.line
        shown = tuple(tags_of(line).items()) if tagged else None
        return line.model, line.unit, line.price, charge.percent, line.key if with_key else None, shown

    def row(group: Group, sums: list[int]) -> Row:
        endpoint_id, unit, price, percent, api_key, shown = group
        fields: Row = {"endpoint_id": endpoint_id, "unit": unit}
        fields |= _amounts(call, price, percent, sums)
        fields |= auth_fields(expand, api_key)
        return fields | {"tags": dict(shown)} if isinstance(shown, tuple) else fields

    return await _answer(call, Listing(wanted, key, row, lag=_TAGS_LAG if tagged else 0), expand)


async def serverless_usage(call: Call) -> Answer:
    """Answer `GET /serverless/usage`: machine-seconds of the account's own apps."""
    need_admin(call.key)
    expand = call.query.choices("expand", _VIEWS, _VIEWS[:1])
    apps, search = call.query.values("app"), (call.query.text("search") or "").lower()

    def wanted(charge: Charge) -> bool:
        line = charge.line
        return (
            line.product == SERVERLESS
            and (not apps or line.app in apps)
            and (not search or search in (line.app or "").lower())
        )

    def key(charge: Charge) -> Group:
        line = charge.line
        return line.app, line.environment, line.machine, line.unit, line.surge, line.price, charge.percent

    def row(group: Group, sums: list[int]) -> Row:
        app, environment, machine, unit, surge, price, percent = group
        fields: Row = {"app": app, "environment": environment, "machine_type": machine, "unit": unit}
        return fields | _amounts(call, price, percent, sums) | {"is_surge": surge}

    return await _answer(call, Listing(wanted, key, row), expand)


async def organization_usage(call: Call) -> Answer:
    """Answer `GET /organization/usage`: spend of all teams on all products; prices are those after discount."""
    need_root(call.key)
    need_enterprise(call)
    expand = call.query.choices("expand", _VIEWS + _AUTH, _VIEWS[:1])
    endpoints, keys = call.query.values("endpoint_id"), call.query.values("api_key_id")
    teams = call.query.values("team_username")
    products = call.query.choices("product", PRODUCTS, PRODUCTS)
    with_key = bool({*_AUTH} & {*expand})

    def wanted(charge: Charge) -> bool:
        line = charge.line
        return (
            line.product in products
            and (not endpoints or line.billing_line in endpoints)
            and (not teams or line.team in teams)
            and (not keys or (line.key is not None and line.key.id in keys))
        )

    def key(charge: Charge) -> Group:
        line = charge.line
        price = line.price * (100 - (charge.percent or 0)) // 100
        return line.team, line.product, line.billing_line, line.unit, price, line.key if with_key else None

    def row(group: Group, sums: list[int]) -> Row:
        team, product, billing_line, unit, price, api_key = group
        _, quantity, _, subtotal, discount = sums
        fields: Row = {
            "username": team,
            "product": product,
            "endpoint_id": billing_line,
            "unit": unit,
            "quantity": Exact(quantity),
            "unit_price": _exact(price),
            "cost": Exact(subtotal - discount),
            "currency": "USD",
        }
        return fields | auth_fields(expand, api_key)

    return await _answer(call, Listing(wanted, key, row, organization=True), expand)


async def _answer(call: Call, listing: Listing, expand: tuple[str, ...]) -> Answer:
    if not {*_VIEWS} & {*expand}:
        raise ApiError(400, "expand: at least one of time_series, summary is needed.")
    period = call.query.period(call.now)
    limit = call.query.limit(call.options.page_rows, _LARGEST_PAGE * call.options.page_rows)
    body: Row = {"next_cursor": None, "has_more": False}
    following: Cursor | None = None
    summarised = "summary" in expand
    if "time_series" in expand:
        body["time_series"], following = await _time_series(call, listing, period, limit)
        if summarised:
            # Pages are those of the time series; the summary of the whole span comes with the first.
            body["summary"] = [] if call.query.text("cursor") else await _summary(call, listing, period)
    else:
        rows, first = await _summary(call, listing, period), call.cursor.row
        body["summary"] = rows[first : first + limit]
        if first + limit < len(rows):
            following = _moved(call.cursor, call.cursor.at, first + limit)
    return Answer(body, call.cursor, following)


async def _time_series(call: Call, listing: Listing, period: Period, limit: int) -> tuple[list[Row], Cursor | None]:
    series: list[Row] = []
    for stamped, span in period.buckets():
        if span[1] <= call.cursor.at:
            continue
        if span[0] >= call.as_of:
            break
        rows = await _rows(call, listing, span)
        skipped = call.cursor.row if span[0] <= call.cursor.at else 0
        shown = rows[skipped : skipped + limit]
        if rows[skipped:] and not limit:
            return series, _moved(call.cursor, span[0], skipped)
        if shown:
            series.append({"bucket": stamp(stamped), "results": shown})
            limit -= len(shown)
        if skipped + len(shown) < len(rows):
            return series, _moved(call.cursor, span[0], skipped + len(shown))
    return series, None


async def _summary(call: Call, listing: Listing, period: Period) -> list[Row]:
    return await _rows(call, listing, period.span)


async def _rows(call: Call, listing: Listing, span: tuple[int, int]) -> list[Row]:
    sums = Sums()
    async for charges in call.charges(span, listing.wanted, organization=listing.organization, lag=listing.lag):
        sums.add(listing.key, charges)
    return [listing.row(group, amounts) for group, amounts in sums.groups.items()]


def _moved(cursor: Cursor, at: int, row: int) -> Cursor:
    return Cursor(cursor.as_of, at, row, cursor.query)


def _amounts(call: Call, price: object, percent: object, sums: list[int]) -> Row:
    _, quantity, _, subtotal, discount = sums
    cost = Exact(subtotal - discount)
    if call.options.cost_only:
        return {"quantity": Exact(quantity), "unit_price": _exact(price), "cost": cost, "currency": "USD"}
    return {
        "quantity": Exact(quantity),
        "unit_price": _exact(price),
        "percent_discount": percent,
        "cost_subtotal": Exact(subtotal),
        "cost_discount": Exact(discount),
        "cost_total": cost,
        "cost": cost,
        "currency": "USD",
    }


def _exact(price: object) -> Exact:
    if not isinstance(price, int):
        raise TypeError("a group's price is a whole number of nano-USD")
    return Exact(price)


def auth_fields(expand: tuple[str, ...], key: object) -> Row:
    """Return the fields about the caller that a call is expanded by."""
    fields: Row = {}
    if isinstance(key, ApiKey):
        if "auth_method" in expand:
            fields["auth_method"] = f"API key: {key.detail}"
        if "auth_method_structured" in expand:
            fields["auth_method_structured"] = _structured(key)
    return fields


def _structured(key: ApiKey) -> Row:
    """Return the value of `auth_method_structured` for a key."""
    return {"detail": key.detail, "api_key_id": key.id, "login_username": key.login}


DIMENSIONS = ("model", "app", "gpu_class")


async def reported_usage(call: Call) -> Answer:
    """Answer `GET /billing/usage`: spend of a span, by the asked dimensions; the others are null. Assumed shape."""
    need_admin(call.key)
    group_by = call.query.choices("group_by", DIMENSIONS, ())
    if call.options.single_dimension and len(group_by) > 1:
        raise ApiError(422, "group_by: only one dimension is accepted.")
    start, end = call.query.span(call.now)

    def key(charge: Charge) -> tuple[object, ...]:
        line = charge.line
        values = {"model": line.model or None, "app": line.app, "gpu_class": line.gpu_class or None}
        return tuple(values[name] if name in group_by else None for name in DIMENSIONS)

    sums = Sums()
    async for charges in call.charges((microseconds(start), microseconds(end)), lambda _: True, organization=True):
        sums.add(key, charges)
    usage = [
        dict(zip(DIMENSIONS, group, strict=True))
        | {
            "requests": requests,
            "gpu_seconds": Exact(gpu_seconds),
            "spend": Exact(subtotal - discount),
        }
        for group, (requests, _, gpu_seconds, subtotal, discount) in sums.groups.items()
    ]
    body: Row = {
        "start": stamp(start),
        "end": stamp(end),
        "group_by": list(group_by),
        "currency": "USD",
        "usage": usage,
    }
    return Answer(body)
