"""Control interface `/_simulator/...`: statement (the truth), faults and keys, over HTTP and without a key."""

from collections.abc import Callable, Mapping
from datetime import datetime
from json import JSONDecodeError
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator.faults.fault_requests import faults_of, listing
from exporter.simulator.faults.faults import Faults
from exporter.simulator.interfaces.calls import JSON, SCOPES, ApiError, Key, Options, Query, Row, Sums, by_text
from exporter.simulator.interfaces.serverless import idle_part
from exporter.simulator.world.account import Account
from exporter.simulator.world.exact import FOREVER, HOUR, decimal_text, instant_of, json_text, microseconds, stamp
from exporter.simulator.world.lines import (
    COMPUTE,
    MODEL_APIS,
    PRODUCTS,
    SERVERLESS,
    Line,
)
from exporter.simulator.world.world import Charge


class Controlled(Protocol):
    """Parts of a simulator that the control interface reads and changes."""

    account: Account
    clock: Callable[[], datetime]
    faults: Faults
    keys: dict[str, Key]
    options: Options


def control_routes(fal: Controlled) -> list[Route]:
    """Return the routes of statement, faults and keys; invalid input answers 400 with a sentence."""

    async def answer_statement(request: Request) -> Response:
        try:
            return _answer(statement(fal, Query(request.query_params), microseconds(fal.clock())))
        except ApiError as error:
            return _answer({"detail": error.message}, error.status)

    async def change_faults(request: Request) -> Response:
        def change(document: object) -> None:
            wanted = faults_of(document)
            if request.method == "PUT":
                fal.faults.clear()
            fal.faults.add(*wanted)

        if request.method == "DELETE":
            fal.faults.clear()
        refusal = await _changed_by(request, change)
        return refusal or _answer(listing(fal.faults))

    async def change_keys(request: Request) -> Response:
        def change(document: object) -> None:
            wanted = [key_of(item, fal.keys) for item in (document if isinstance(document, list) else [document])]
            kept = () if request.method == "PUT" else fal.keys.values()
            fal.keys = by_text([*kept, *wanted])

        refusal = await _changed_by(request, change)
        return refusal or _answer({"keys": [_key_row(key) for key in fal.keys.values()]})

    return [
        Route("/_simulator/statement", answer_statement),
        Route("/_simulator/faults", change_faults, methods=["GET", "PUT", "POST", "DELETE"]),
        Route("/_simulator/keys", change_keys, methods=["GET", "PUT", "POST"]),
    ]


async def _changed_by(request: Request, change: Callable[[object], None]) -> Response | None:
    """Apply the document of a PUT or POST; return the refusal of an invalid one."""
    if request.method not in {"PUT", "POST"}:
        return None
    try:
        change(await request.json())
    except (JSONDecodeError, UnicodeDecodeError):
        return _answer({"detail": "The body is not JSON."}, 400)
    except ValueError as error:
        return _answer({"detail": f"{error}."}, 400)
    return None


_KEY_FIELDS = ("key", "key_id", "scope", "team", "own_only", "refused")


def key_of(item: object, known: Mapping[str, Key]) -> Key:
    """Parse a new key, or changes of the known one with the same id.

    Raises:
        ValueError: the document is invalid; the message says why.
    """
    if not isinstance(item, Mapping) or not {"key", "key_id"} & item.keys():
        raise ValueError('a key is an object with key ("id:secret") or, for a known one, key_id')
    for name in item:
        if name not in _KEY_FIELDS:
            raise ValueError(f"{name!r} is not a field of a key, which are {', '.join(_KEY_FIELDS)}")
    text = str(item.get("key", ""))
    wanted = text.partition(":")[0] or item["key_id"]
    old = next((key for key in known.values() if key.id == wanted), None)
    if old is None and not text:
        raise ValueError(f"key_id: there is no key {wanted!r}")
    old = old or Key(text)
    scope, own_only, refused = (item.get(name, getattr(old, name)) for name in ("scope", "own_only", "refused"))
    if scope not in SCOPES:
        raise ValueError(f"scope is one of {', '.join(SCOPES)}, not {scope!r}")
    if not isinstance(own_only, bool):
        raise ValueError(f"own_only is true or false, not {own_only!r}")  # noqa: TRY004  a wrong document
    if isinstance(refused, Mapping):
        refused = tuple(refused.items())
    if not isinstance(refused, tuple) or not all(type(status) is int and 400 <= status <= 499 for _, status in refused):  # noqa: PLR2004  the client errors of HTTP
        raise ValueError("refused is an object with a status of 400 to 499 for each pattern of paths")
    team = str(item.get("team", old.team))
    return Key(text or old.text, "admin" if scope == "admin" else "api", team, own_only, refused)


def _key_row(key: Key) -> Row:
    return {
        "key_id": key.id,
        "scope": key.scope,
        "team": key.team,
        "own_only": key.own_only,
        "refused": dict(key.refused),
    }


def _answer(body: object, status: int = 200) -> Response:
    return Response(json_text(body), status, media_type=JSON)


SOURCES: Mapping[str, tuple[str, ...]] = {
    "models": (MODEL_APIS,),
    "serverless": (SERVERLESS,),
    "compute": (COMPUTE,),
    "organization": PRODUCTS,
    "reporting": PRODUCTS,
    "focus": PRODUCTS,
    "": (MODEL_APIS, SERVERLESS, COMPUTE),
}
"""Products that each of fal's interfaces reports."""

DIMENSIONS: Mapping[str, Callable[[Line], str]] = {
    "team": lambda line: line.team,
    "product": lambda line: line.product,
    "model": lambda line: line.model,
    "app": lambda line: line.app or "",
    "environment": lambda line: line.environment or "",
    "machine_type": lambda line: line.machine,
    "gpu_class": lambda line: line.gpu_class,
    "unit": lambda line: line.unit,
    "api_key": lambda line: line.key.id if line.key else "",
    "surge": lambda line: "surge" if line.surge else "",
}
_DEFAULT = ("team", "product", "model", "app", "gpu_class", "unit")


_READ_THROUGH = {
    "models": "/v1/models/usage",
    "serverless": "/v1/serverless/usage",
    "organization": "/v1/organization/usage",
    "reporting": "/billing/usage",
    "focus": "/v1/account/focus",
}
_USUAL_READING = ("models", "serverless", "organization")


def statement(fal: Controlled, query: Query, as_of: int) -> Row:
    """Return totals and series of a span as of an instant (microseconds), amounts as exact decimal strings.

    With `key_id`, every row has the part of its cost that this key can read through none of the sources in `through`
    (default: models, serverless, organization), by the scope of the key and the paths refused to it. With `idle=true`,
    every row has the machine-seconds and the cost of idle runners.

    Raises:
        ApiError: 400: a parameter cannot be read.
    """
    account = fal.account
    start, end = query.instant("start"), query.instant("end")
    if start is None or end is None or start >= end:
        raise ApiError(400, "start, end: both are needed, ISO 8601, and the end is exclusive and after the start.")
    final = query.choice("final", ("true", "false"), "false") == "true"
    team = query.text("team") or ""
    products = SOURCES[query.choice("source", tuple(SOURCES), "")]
    group_by = query.choices("group_by", ("hour", *DIMENSIONS), _DEFAULT)
    can_read = _reading(fal, query)
    sums, total = Sums(), Sums()
    unreadable: dict[tuple[object, ...], int] = {}
    with_idle = query.choice("idle", ("true", "false"), "false") == "true"
    idle: dict[tuple[object, ...], list[int]] = {}
    span = microseconds(start), microseconds(end)
    for hour in range(span[0] // HOUR, -(-span[1] // HOUR)):
        stamped = stamp(instant_of(hour * HOUR))

        def key(charge: Charge, stamped: str = stamped) -> tuple[object, ...]:
            return tuple(stamped if name == "hour" else DIMENSIONS[name](charge.line) for name in group_by)

        part = max(span[0], hour * HOUR), min(span[1], (hour + 1) * HOUR)
        for charges in account.charges(part, FOREVER if final else as_of, team):
            wanted = [charge for charge in charges if charge.line.product in products]
            sums.add(key, wanted)
            total.add(lambda _: (), wanted)
            for charge in wanted if can_read else ():
                if can_read and not can_read(charge.line):
                    unreadable[key(charge)] = unreadable.get(key(charge), 0) + charge.cost
            for charge in wanted if with_idle else ():
                amounts = idle.setdefault(key(charge), [0, 0])
                amounts[0] += idle_part(account.world, charge.line, hour, charge.quantity)
                amounts[1] += idle_part(account.world, charge.line, hour, charge.cost)

    def row(group: tuple[object, ...], amounts: list[int]) -> Row:
        shown = dict(zip(group_by, group, strict=True)) | _amounts(amounts)
        if can_read:
            shown |= _unreadable(unreadable.get(group, 0))
        return shown | _idle(idle[group]) if with_idle else shown

    return {
        "account": team or account.world.teams[0],
        "start": stamp(start),
        "end": stamp(end),
        "as_of": None if final else stamp(instant_of(as_of)),
        "final": final,
        "currency": "USD",
        **_amounts(total.groups.get((), [0] * 5)),
        **(_unreadable(sum(unreadable.values())) if can_read else {}),
        **(_idle([sum(column) for column in zip(*idle.values(), strict=True)] or [0, 0]) if with_idle else {}),
        "charges": [row(group, amounts) for group, amounts in sums.groups.items()],
    }


def _reading(fal: Controlled, query: Query) -> Callable[[Line], bool] | None:
    """Return the test whether a key can read a line, None where the statement is for no key."""
    key_id = query.text("key_id")
    through = query.choices("through", tuple(_READ_THROUGH), _USUAL_READING)
    if key_id is None:
        return None
    key = next((key for key in fal.keys.values() if key.id == key_id), None)
    if key is None:
        raise ApiError(400, f"key_id: there is no key {key_id!r}.")
    root = fal.account.world.teams[0]
    seen: set[tuple[str, str]] = set()
    for source in through:
        of_organization = source == "organization"
        if (
            key.scope != "admin"
            or key.refusal(_READ_THROUGH[source])
            or (of_organization and key.team)
            or (source in {"organization", "focus"} and not fal.options.enterprise)
        ):
            continue
        own = key.own_only and source not in {"organization", "reporting"}
        seen |= {(product, key.team or (root if own else "")) for product in SOURCES[source]}
    return lambda line: bool(seen & {(line.product, ""), (line.product, line.team)})


def _unreadable(nanos: int) -> Row:
    return {"unreadable_cost": decimal_text(nanos), "unreadable_nano_usd": nanos}


def _idle(amounts: list[int]) -> Row:
    seconds, cost = amounts
    return {"idle_seconds": decimal_text(seconds), "idle_cost": decimal_text(cost), "idle_nano_usd": cost}


def _amounts(amounts: list[int]) -> Row:
    requests, quantity, gpu_seconds, subtotal, discount = amounts
    return {
        "requests": requests,
        "quantity": decimal_text(quantity),
        "gpu_seconds": decimal_text(gpu_seconds),
        "list_cost": decimal_text(subtotal),
        "discount": decimal_text(discount),
        "cost": decimal_text(subtotal - discount),
        "cost_nano_usd": subtotal - discount,
    }
