"""Faults and injected charges as JSON: parsing of what `/_simulator/faults` takes, and the list that it answers."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from types import MappingProxyType

from exporter.simulator.faults.faults import PARAMETERS, Fault, Faults
from exporter.simulator.interfaces.calls import Row
from exporter.simulator.world.exact import HOUR, decimal_text, instant_of, microseconds, nanos_of, stamp
from exporter.simulator.world.injected_charges import (
    LABELS,
    GlitchedJob,
    Plant,
    PlantedLateness,
    PlantedRelabelling,
    PlantedRevision,
    PlantedSpend,
)
from exporter.simulator.world.lines import COMPUTE_MACHINES, MODEL_APIS, PRODUCTS, SERVERLESS_MACHINES

_GENERAL = ("path", "query", "times", "after", "probability", "every", "lasts")
_ABOUT = ("product", "model", "app")
_PLANTS = {
    PlantedSpend.name: (
        *("hour", "amount_usd", "visible_from", "team", "product", "model", "app", "environment", "machine_type"),
        *("unit", "quantity"),
    ),
    PlantedRevision.name: ("hour", "hours", "percent", "at", *_ABOUT),
    PlantedLateness.name: ("hour", "hours", "until", "percent_before", *_ABOUT),
    PlantedRelabelling.name: ("hour", "hours", "at", "labels", "team", *_ABOUT),
}
_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    dict.fromkeys(
        ("path", "query", "retry_after", "reason", "message", "key_id", "oddity", *_ABOUT, "team", "of_key", "alias"),
        (str,),
    )
    | dict.fromkeys(
        ("times", "after", "pieces", "megabytes", "status", "every_row", "rows", "soft_budget", "hard_budget"), (int,)
    )
    | dict.fromkeys(("readable", "is_paying"), (bool,))
    | dict.fromkeys(("seconds", "probability", "every", "lasts"), (int, float))
)


def faults_of(document: object) -> list[Fault | Plant]:
    """Read one fault, a list of them, or an object with a list under `faults`.

    Raises:
        ValueError: the document is invalid; the message says why.
    """
    if isinstance(document, Mapping) and "faults" in document:
        document = document["faults"]
    items = document if isinstance(document, list) else [document]
    return [fault for item in items for fault in _requested(item)]


def listing(faults: Faults) -> Row:
    """Return the active faults with their hits, the injected charges, and all kinds with their parameters."""
    shown: list[Row] = []
    for planted in faults.planted:
        fault = planted.fault
        row: Row = {"fault": fault.kind}
        for name in (*_GENERAL, *PARAMETERS[fault.kind]):
            value = getattr(fault, name)
            row[_requested_as(name)] = (
                decimal_text(value) if name == "amount" else str(value) if isinstance(value, float) else value
            )
        shown.append(row | {"since": stamp(planted.since), "hits": planted.hits})
    plants: list[Row] = [{"fault": plant.name, "hour": _stamp(plant.hour * HOUR)} for plant in faults.account.plants]
    kinds = {kind: [_requested_as(name) for name in names] for kind, names in (*PARAMETERS.items(), *_PLANTS.items())}
    return {"faults": shown + plants, "kinds": kinds}


def _requested_as(name: str) -> str:
    """Return the name of a fault's parameter in JSON, where amounts are in US dollars."""
    return "amount_usd" if name == "amount" else name


def _requested(item: object) -> list[Fault] | list[Plant]:
    if not isinstance(item, Mapping) or not isinstance(item.get("fault"), str):
        raise ValueError('a fault is an object such as {"fault": "server_error", "path": "/v1/*", "times": 2}')  # noqa: TRY004  a wrong document, not a wrong call
    kind = str(item["fault"])
    allowed = _PLANTS[kind] if kind in _PLANTS else (*_GENERAL, *PARAMETERS.get(kind, ()), "amount_usd")
    for name in item:
        if name not in {"fault", *allowed}:
            raise ValueError(f"{kind}: {name!r} is not one of its parameters, which are {', '.join(allowed)}")
    if kind not in _PLANTS:
        return [_fault(kind, item)]
    first = _plant(kind, item)
    if kind == PlantedSpend.name:
        return [first]
    hours = _whole(item, "hours") if "hours" in item else 1
    return [replace(first, hour=first.hour + number) for number in range(hours)]


def _plant(kind: str, item: Mapping[str, object]) -> Plant:
    if kind == PlantedSpend.name:
        return _spend(item)
    if kind == PlantedRevision.name:
        return PlantedRevision(_hour(item), _whole(item, "percent"), _instant(item, "at"), *_about(item))
    if kind == PlantedRelabelling.name:
        return _relabelling(item)
    if "until" not in item:
        raise ValueError(f"{kind}: until is needed, the instant at which the rest arrives")
    before = _whole(item, "percent_before") if "percent_before" in item else 0
    return PlantedLateness(_hour(item), _instant(item, "until"), before, *_about(item))


def _relabelling(item: Mapping[str, object]) -> PlantedRelabelling:
    labels = item.get("labels")
    if not isinstance(labels, Mapping) or not labels or not all(isinstance(value, str) for value in labels.values()):
        raise ValueError(f"planted_relabelling: labels is an object with new texts of {', '.join(LABELS)}")
    team = str(item.get("team", ""))
    return PlantedRelabelling(_hour(item), tuple(labels.items()), _instant(item, "at"), *_about(item), team)


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
