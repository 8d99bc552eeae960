"""The truth to compare with: what is charged, by any dimensions, now or once everything has arrived."""

from collections.abc import Callable, Mapping

from exporter.simulator.account import Account
from exporter.simulator.calls import Row, Sums
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import FOREVER, HOUR, decimal_text, instant_of, microseconds, stamp
from exporter.simulator.lines import COMPUTE, MODEL_APIS, PRODUCTS, SERVERLESS, Line
from exporter.simulator.queries import Query
from exporter.simulator.world import Charge

SOURCES: Mapping[str, tuple[str, ...]] = {
    "models": (MODEL_APIS,),
    "serverless": (SERVERLESS,),
    "compute": (COMPUTE,),
    "organization": PRODUCTS,
    "reporting": PRODUCTS,
    "focus": PRODUCTS,
    "": (MODEL_APIS, SERVERLESS, COMPUTE),
}
"""Which products each of fal's interfaces tells of."""

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
