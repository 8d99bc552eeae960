"""Control interface `/_simulator/...`: the statement (the truth) and the faults, over HTTP and without a key."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from json import JSONDecodeError
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.simulator.account import Account
from exporter.simulator.calls import JSON, ApiError, Query, Row, Sums
from exporter.simulator.exact import FOREVER, HOUR, decimal_text, instant_of, json_text, microseconds, nanos_of, stamp
from exporter.simulator.faults import PARAMETERS, Fault, Faults
from exporter.simulator.injected_charges import GlitchedJob, Plant, PlantedLateness, PlantedRevision, PlantedSpend
from exporter.simulator.lines import (
    COMPUTE,
    COMPUTE_MACHINES,
    MODEL_APIS,
    PRODUCTS,
    SERVERLESS,
    SERVERLESS_MACHINES,
    Line,
)
from exporter.simulator.world import Charge


def control_routes(account: Account, faults: Faults, clock: Callable[[], datetime]) -> list[Route]:
    """Return the routes of the statement and the faults; invalid input answers 400 with a sentence."""

    async def told(request: Request) -> Response:
        try:
            return _answer(statement(account, Query(request.query_params), microseconds(clock())))
        except ApiError as error:
            return _answer({"detail": error.message}, error.status)

    async def ordered(request: Request) -> Response:
        try:
            if request.method in {"PUT", "POST"}:
                orders = orders_of(await request.json())
                if request.method == "PUT":
                    faults.clear()
                faults.add(*orders)
            elif request.method == "DELETE":
                faults.clear()
        except (JSONDecodeError, UnicodeDecodeError):
            return _answer({"detail": "The body is not JSON."}, 400)
        except ValueError as error:
            return _answer({"detail": f"{error}."}, 400)
        return _answer(listing(faults))

    return [
        Route("/_simulator/statement", told),
        Route("/_simulator/faults", ordered, methods=["GET", "PUT", "POST", "DELETE"]),
    ]


def _answer(body: object, status: int = 200) -> Response:
    return Response(json_text(body), status, media_type=JSON)


_GENERAL = ("path", "times", "probability", "every", "lasts")
_ABOUT = ("product", "model", "app")
_PLANTS = {
    PlantedSpend.name: (
        *("hour", "amount_usd", "visible_from", "team", "product", "model", "app", "environment", "machine_type"),
        *("unit", "quantity"),
    ),
    PlantedRevision.name: ("hour", "percent", "at", *_ABOUT),
    PlantedLateness.name: ("hour", "until", "percent_before", *_ABOUT),
}
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    dict.fromkeys(("path", "retry_after", "reason", "key_id"), (str,))
    | dict.fromkeys(("times", "pieces", "status", "every_row"), (int,))
    | dict.fromkeys(("seconds", "probability", "every", "lasts"), (int, float))
)


def orders_of(document: object) -> list[Fault | Plant]:
    """Read one fault, a list of them, or an object with a list under `faults`.

    Raises:
        ValueError: the document is invalid; the message says why.
    """
    if isinstance(document, Mapping) and "faults" in document:
        document = document["faults"]
    items = document if isinstance(document, list) else [document]
    return [_order(item) for item in items]


def listing(faults: Faults) -> Row:
    """Return the active faults with their hits, the injected charges, and all kinds with their parameters."""
    shown: list[Row] = []
    for planted in faults.planted:
        fault = planted.fault
        row: Row = {"fault": fault.kind}
        for name in (*_GENERAL, *PARAMETERS[fault.kind]):
            value = getattr(fault, name)
            row["amount_usd" if name == "amount" else name] = (
                decimal_text(value) if name == "amount" else str(value) if isinstance(value, float) else value
            )
        shown.append(row | {"since": stamp(planted.since), "hits": planted.hits})
    plants: list[Row] = [{"fault": plant.name, "hour": _stamp(plant.hour * HOUR)} for plant in faults.account.plants]
    kinds = {kind: list(names) for kind, names in (*PARAMETERS.items(), *_PLANTS.items())}
    return {"faults": shown + plants, "kinds": kinds}


def _order(item: object) -> Fault | Plant:
    if not isinstance(item, Mapping) or not isinstance(item.get("fault"), str):
        raise ValueError('a fault is an object such as {"fault": "server_error", "path": "/v1/*", "times": 2}')  # noqa: TRY004  a wrong document, not a wrong call
    kind = str(item["fault"])
    allowed = _PLANTS[kind] if kind in _PLANTS else (*_GENERAL, *PARAMETERS.get(kind, ()), "amount_usd")
    for name in item:
        if name not in {"fault", *allowed}:
            raise ValueError(f"{kind}: {name!r} is not one of its parameters, which are {', '.join(allowed)}")
    if kind == PlantedSpend.name:
        return _spend(item)
    if kind == PlantedRevision.name:
        return PlantedRevision(_hour(item), _whole(item, "percent"), _instant(item, "at"), *_about(item))
    if kind == PlantedLateness.name:
        if "until" not in item:
            raise ValueError(f"{kind}: until is needed, the instant at which the rest arrives")
        before = _whole(item, "percent_before") if "percent_before" in item else 0
        return PlantedLateness(_hour(item), _instant(item, "until"), before, *_about(item))
    return _fault(kind, item)


def _fault(kind: str, item: Mapping[str, object]) -> Fault:
    fault = Fault(kind)
    values: dict[str, object] = {}
    for name, value in item.items():
        if name == "amount_usd":
            values["amount"] = nanos_of(str(value))
        elif name == "fields" and isinstance(value, list) and all(isinstance(field, str) for field in value):
            values[name] = tuple(value)
        elif type(value) in _TYPES.get(name, ()):
            values[name] = value
        elif name != "fault" and not (name in {"times", "seconds"} and value is None):
            raise ValueError(f"{kind}: {name} cannot be {value!r}")
    known = {field.name: getattr(fault, field.name) for field in fields(fault)}
    return Fault(**(known | values))


def _spend(item: Mapping[str, object]) -> PlantedSpend:
    text = {
        name: item[name]
        for name in ("team", "product", "model", "app", "environment", "machine_type", "unit")
        if name in item
    }
    for name, value in text.items():
        if not isinstance(value, str):
            raise ValueError(f"planted_spend: {name} is a text, not {value!r}")  # noqa: TRY004  a wrong document
    product = str(text.get("product", MODEL_APIS))
    if product not in PRODUCTS:
        raise ValueError(f"planted_spend: product is one of {', '.join(PRODUCTS)}, not {product!r}")
    own = product != MODEL_APIS
    machines = {machine.name: machine for machine in (*SERVERLESS_MACHINES, *COMPUTE_MACHINES)}
    machine = machines.get(str(text.get("machine_type", "GPU-H100")))
    if machine is None:
        raise ValueError(f"planted_spend: machine_type is one of {', '.join(machines)}")
    job = GlitchedJob(
        team=str(text.get("team", GlitchedJob().team)),
        product=product,
        model="" if own else str(text.get("model", GlitchedJob().model)),
        app=str(text["app"]) if own and "app" in text else None,
        environment=str(text["environment"]) if own and "environment" in text else None,
        machine=machine.name if own else "",
        gpu_class=machine.gpu_class if own else "",
        gpus=machine.gpus if own else 0,
        unit="second" if own else str(text.get("unit", "video")),
        quantity=nanos_of(str(item.get("quantity", 1))),
    )
    amount = nanos_of(str(item.get("amount_usd", "40500")))
    return PlantedSpend(_hour(item), job.line(amount), _instant(item, "visible_from"))


def _about(item: Mapping[str, object]) -> tuple[str, str, str]:
    product, model, app = (str(item.get(name, "")) for name in _ABOUT)
    return product, model, app


def _whole(item: Mapping[str, object], name: str) -> int:
    value = item.get(name)
    if type(value) is not int or value < 0:
        raise ValueError(f"{item['fault']}: {name} is a whole number of at least 0, not {value!r}")
    return value


def _instant(item: Mapping[str, object], name: str) -> int:
    text = item.get(name)
    if text is None:
        return 0
    try:
        instant = datetime.fromisoformat(str(text))
        return microseconds(instant)
    except (ValueError, TypeError):
        raise ValueError(f"{item['fault']}: {name} is an ISO 8601 instant with its offset, not {text!r}") from None


def _hour(item: Mapping[str, object]) -> int:
    if "hour" not in item:
        raise ValueError(f"{item['fault']}: hour is needed, an ISO 8601 instant in the hour that it is about")
    return _instant(item, "hour") // HOUR


def _stamp(micros: int) -> str:
    return stamp(instant_of(micros))


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


def statement(account: Account, query: Query, as_of: int) -> Row:
    """Return totals and series of a span as of an instant (microseconds), amounts as exact decimal strings.

    Raises:
        ApiError: 400: a parameter cannot be read.
    """
    start, end = query.instant("start"), query.instant("end")
    if start is None or end is None or start >= end:
        raise ApiError(400, "start, end: both are needed, ISO 8601, and the end is exclusive and after the start.")
    final = query.choice("final", ("true", "false"), "false") == "true"
    team = query.text("team") or ""
    products = SOURCES[query.choice("source", tuple(SOURCES), "")]
    group_by = query.choices("group_by", ("hour", *DIMENSIONS), _DEFAULT)
    sums, total = Sums(), Sums()
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
    return {
        "start": stamp(start),
        "end": stamp(end),
        "as_of": None if final else stamp(instant_of(as_of)),
        "final": final,
        "currency": "USD",
        **_amounts(total.groups.get((), [0] * 5)),
        "charges": [
            {**dict(zip(group_by, group, strict=True)), **_amounts(amounts)} for group, amounts in sums.groups.items()
        ],
    }


def _amounts(amounts: list[int]) -> Row:
    requests, quantity, gpu_seconds, subtotal, discount = amounts
    return {
        "requests": requests,
        "quantity": decimal_text(quantity),
        "gpu_seconds": decimal_text(gpu_seconds),
        "list_cost": decimal_text(subtotal),
        "discount": decimal_text(discount),
        "cost": decimal_text(subtotal - discount),
    }
