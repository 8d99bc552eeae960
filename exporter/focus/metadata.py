"""The metadata that go with a written file, as a JSON document in the terms of the specification's metadata section."""

import json
import uuid
from datetime import datetime

from exporter.charges import Window, decimal_of
from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.layout import CUSTOM_COLUMNS, PROVIDER
from exporter.focus.values import instant_text, number_text
from exporter.focus.writer import Written

_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_TYPES = {
    Kind.NUMBER: "Decimal",
    Kind.PRICE: "Decimal",
    Kind.INSTANT: "Date/Time",
    Kind.KEY_VALUE: "JSON",
    Kind.OBJECT: "JSON",
}
_LEDGER_PLACES = 9
_PRICE_PLACES = 20
_DIGITS = 38


def metadata(
    written: Written,
    *,
    version: str,
    generator_version: str,
    created: datetime,
    window: Window,
    granularity: str,
    complete: bool,
) -> str:
    """Describe a file.

    Args:
        written: what it holds.
        version: of FOCUS.
        generator_version: of the exporter.
        created: when it was written.
        window: of its charges.
        granularity: of its charge periods: hour, day or month.
        complete: whether the ledger has read every hour of the window to its end.
    """
    schema = {
        "SchemaId": str(uuid.uuid5(_NAMESPACE, f"fal-exporter/focus/{version}/{','.join(written.columns)}")),
        "FocusVersion": version,
        "CreationDate": instant_text(created),
        "DataGeneratorVersion": generator_version,
        "ColumnDefinition": [_definition(name) for name in written.columns],
    }
    return json.dumps(
        {
            "DataGenerator": {"DataGenerator": f"fal-exporter, from the usage that {PROVIDER} reports"},
            "Schema": schema,
            "x_Content": {
                "Start": instant_text(window.start),
                "End": instant_text(window.end),
                "Granularity": granularity,
                "Complete": complete,
                "Rows": written.rows,
                "BilledCost": number_text(decimal_of(written.billed_cost)),
            },
        },
        indent=2,
    )


def _definition(name: str) -> dict[str, object]:
    kind = COLUMNS[name].kind if name in COLUMNS else CUSTOM_COLUMNS[name]
    found: dict[str, object] = {"ColumnName": name, "DataType": _TYPES.get(kind, "String")}
    if kind.is_number:
        places = _PRICE_PLACES if name.endswith("UnitPrice") or name == "x_ListCostDifference" else _LEDGER_PLACES
        found |= {"NumericPrecision": _DIGITS, "NumberScale": places}
    elif kind is not Kind.INSTANT:
        found["StringEncoding"] = "UTF-8"
    return found
