"""Answers as documents for programs: fields, schemas and exact JSON.

JSON whose numbers keep every digit.

The standard encoder writes decimals not at all, and as floats they would lose digits. What is written here is small and
of few types, so that a library of its own is not worth its installation.

Documents declared field by field: what a field holds, how it is told of, and its schema, in one place.

The answers as documents for programs, declared once: what is sent, and how it is described.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from json.encoder import encode_basestring
from typing import Generic, NamedTuple, TypeVar

from exporter.charges import Invoice, decimal_of
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast
from exporter.queries.forecasts import AccountsAnswer, BudgetsAnswer
from exporter.queries.usage import UsageAnswer, UsageRow

_WORDS = {None: "null", True: "true", False: "false"}


def decimal_text(value: Decimal) -> str:
    """Write a decimal with every digit, without exponent and without needless zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_json(value: object, *, quoted: bool = False) -> str:
    """Write a tree of mappings, sequences, texts, whole numbers, decimals, floats, booleans and None.

    Args:
        value: the tree.
        quoted: whether decimals stand in quotes, for readers that would make floats of them.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, Decimal):
        return f'"{decimal_text(value)}"' if quoted else decimal_text(value)
    if isinstance(value, Mapping):
        fields = [f"{encode_basestring(name)}:{exact_json(part, quoted=quoted)}" for name, part in value.items()]
        return "{" + ",".join(fields) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join([exact_json(part, quoted=quoted) for part in value]) + "]"
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def with_text_amounts(value: object) -> object:
    """Return the same tree with decimals as texts, for an encoder that does not know decimals."""
    match value:
        case Decimal():
            return decimal_text(value)
        case str():
            return value
        case Mapping():
            return {name: with_text_amounts(part) for name, part in value.items()}
        case Sequence():
            return [with_text_amounts(part) for part in value]
        case _:
            return value


Source = TypeVar("Source")
Schema = Mapping[str, object]
"""A JSON Schema, draft 2020-12."""

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
BOOLEAN: Schema = {"type": "boolean"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
INSTANT_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
AMOUNT: Schema = {"type": ["number", "string"]}
AMOUNT_OR_NULL: Schema = {"type": ["number", "string", "null"]}
RATIO: Schema = {"type": "number"}

LEFT_OUT = object()
"""The value of a field that is not there."""


@dataclass(frozen=True, slots=True)
class Field(Generic[Source]):
    """One field of a document.

    Attributes:
        meaning: a sentence or two for people.
        value: what stands in it: None, text, booleans, whole numbers, decimals, and lists and mappings of those;
            LEFT_OUT where the field is not to be there.
        always: whether it is there in every document.
    """

    name: str
    schema: Schema
    meaning: str
    value: Callable[[Source], object]
    always: bool = True


@dataclass(frozen=True, slots=True)
class Shape(Generic[Source]):
    """One kind of document.

    Attributes:
        name: in the interface's description.
    """

    name: str
    meaning: str
    fields: tuple[Field[Source], ...]

    def document(self, source: Source) -> dict[str, object]:
        """Return the document of something, in the order of the fields."""
        found = ((field.name, field.value(source)) for field in self.fields)
        return {name: value for name, value in found if value is not LEFT_OUT}

    @property
    def schema(self) -> Schema:
        """The documents' schema."""
        return {
            "type": "object",
            "description": self.meaning,
            "properties": {field.name: {**field.schema, "description": field.meaning} for field in self.fields},
            "required": [field.name for field in self.fields if field.always],
            "additionalProperties": False,
        }


def list_of(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": values}


def instant_text(instant: datetime | None) -> str | None:
    """Write an aware instant of UTC as ISO 8601."""
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def amount(nanos: int | None) -> object:
    """Return nano-units as the decimal they stand for; None is null."""
    return None if nanos is None else decimal_of(nanos)


Published = TypeVar("Published", AccountsAnswer, BudgetsAnswer)

_SUMS: tuple[Field[UsageRow], ...] = (
    Field(
        "gpu_seconds", AMOUNT, "GPU time in seconds: GPUs times duration.", lambda it: amount(it.amounts.gpu_seconds)
    ),
    Field("spend", AMOUNT, "What fal charged in USD, after discount.", lambda it: amount(it.amounts.cost)),
    Field("list_cost", AMOUNT, "The same before discount.", lambda it: amount(it.amounts.list_cost)),
    Field("discount", AMOUNT, "`list_cost` less `spend`.", lambda it: amount(it.amounts.discount)),
    Field(
        "quantities",
        map_of(AMOUNT),
        "How much was used, by fal's unit (image, second, megapixel, ...); time of machines is `machine_second`, as it "
        "and seconds of video have no sum.",
        lambda it: {unit: amount(quantity) for unit, quantity in it.quantities.items()},
    ),
)


def _cell(name: str, meaning: str, *, always: bool = False) -> Field[UsageRow]:
    """Declare a field of what a row is grouped by; the reporting interface's own are there in every row."""

    def value(row: UsageRow) -> object:
        if name in row.group:
            return row.group[name] or None
        return None if always else LEFT_OUT

    return Field(name, TEXT_OR_NULL, meaning, value, always=always)


USAGE_ROW = Shape(
    "UsageRow",
    "One group of charges. `model`, `app` and `gpu_class` are null where they are not grouped by, and where a charge "
    "has none (a model endpoint has no app).",
    (
        _cell("model", "Model endpoint, like `fal-ai/flux/dev`.", always=True),
        _cell("app", "Own serverless app.", always=True),
        _cell("gpu_class", "GPU class, like `H100`.", always=True),
        _cell("account", "Configured account."),
        _cell("team", "Team."),
        _cell("product", "Product line: `model_apis`, `serverless` or `compute`."),
        _cell("hour", "Start of the UTC hour."),
        _cell("day", "Day in `timezone`, like `2026-11-01`."),
        _cell("month", "Month in `timezone`, like `2026-11`."),
        *_SUMS,
    ),
)
USAGE_TOTAL = Shape("UsageTotal", "What the whole window adds up to, whatever page this is.", _SUMS)
USAGE: Shape[UsageAnswer] = Shape(
    "Usage",
    "Usage and spend of a window, in the shape of fal's reporting interface. The number of requests is not there: fal "
    "tells quantities, and those the ledger keeps.",
    (
        Field("start", INSTANT, "Start of the window: a whole UTC hour.", lambda it: instant_text(it.start)),
        Field("end", INSTANT, "End of the window, exclusive: a whole UTC hour.", lambda it: instant_text(it.end)),
        Field("group_by", list_of(TEXT), "What was grouped by.", lambda it: list(it.group_by)),
        Field("timezone", TEXT, "Time zone of days and months.", lambda it: it.timezone),
        Field("currency", TEXT, "Always USD.", lambda it: it.currency),
        Field(
            "usage",
            list_of(USAGE_ROW.schema),
            "The groups, in order of time, then the most expensive first.",
            lambda it: [USAGE_ROW.document(row) for row in it.rows],
        ),
        Field("total", USAGE_TOTAL.schema, USAGE_TOTAL.meaning, lambda it: USAGE_TOTAL.document(it.total)),
        Field(
            "complete",
            BOOLEAN,
            "Whether every hour of the window has been read from fal to its end. The running hour never has.",
            lambda it: it.coverage.complete,
        ),
        Field(
            "data_through",
            INSTANT_OR_NULL,
            "End of the last hour that has been read to its end; null while a source has not been read at all.",
            lambda it: instant_text(it.coverage.data_through),
        ),
        Field(
            "settled_through",
            INSTANT_OR_NULL,
            "End of the last hour that counts as settled; what comes after it is provisional, since fal adds late "
            "charges and corrects.",
            lambda it: instant_text(it.coverage.settled_through),
        ),
        Field(
            "available_from",
            INSTANT_OR_NULL,
            "Start of the first hour from which on the ledger knows every hour.",
            lambda it: instant_text(it.coverage.available_from),
        ),
        Field(
            "notes",
            list_of(TEXT),
            "What has to be known to read the figures: a widened window, hours that are missing.",
            lambda it: list(it.notes),
        ),
        Field("next_cursor", TEXT_OR_NULL, "`cursor` of the next page; null on the last.", lambda it: it.next_cursor),
    ),
)

INVOICE: Shape[Invoice] = Shape(
    "Invoice",
    "One invoice as fal states it; amounts in USD.",
    (
        Field("account", TEXT, "Configured account.", lambda it: it.account),
        Field("id", TEXT, "fal's identifier.", lambda it: it.id),
        Field("number", TEXT, "Number on the invoice.", lambda it: it.number),
        Field("status", TEXT, "`paid`, `open`, `draft` or `void`.", lambda it: it.status),
        Field("period_start", INSTANT, "Start of what is billed.", lambda it: instant_text(it.period_start)),
        Field("period_end", INSTANT, "End of what is billed, exclusive.", lambda it: instant_text(it.period_end)),
        Field("issued_at", INSTANT_OR_NULL, "When it was issued.", lambda it: instant_text(it.issued_at)),
        Field("due_at", INSTANT_OR_NULL, "When it is due.", lambda it: instant_text(it.due_at)),
        Field("currency", TEXT, "Always USD.", lambda it: it.currency),
        Field("subtotal", AMOUNT, "Usage.", lambda it: amount(it.subtotal)),
        Field("credits", AMOUNT, "Credits.", lambda it: amount(it.credits)),
        Field("tax", AMOUNT, "Tax.", lambda it: amount(it.tax)),
        Field("total", AMOUNT, "What is to be paid.", lambda it: amount(it.total)),
    ),
)


def _published(name: str, meaning: str, listed: Field[Published]) -> Shape[Published]:
    """Declare what is answered from a publication: a list, and as of when."""
    return Shape(
        name,
        meaning,
        (
            Field("as_of", INSTANT, "When this was known.", lambda it: instant_text(it.as_of)),
            Field("currency", TEXT, "Always USD.", lambda it: it.currency),
            listed,
        ),
    )


def _by_account(name: str, meaning: str, each: Shape[AccountOutlook]) -> Shape[AccountsAnswer]:
    return _published(
        name,
        meaning,
        Field("accounts", list_of(each.schema), "By account.", lambda it: [each.document(one) for one in it.accounts]),
    )


BALANCE: Shape[AccountOutlook] = Shape(
    "Balance",
    "The prepaid credit of one account.",
    (
        Field("account", TEXT, "Configured account.", lambda it: it.account),
        Field("balance", AMOUNT_OR_NULL, "Credit in USD; null while unknown.", lambda it: amount(it.balance)),
        Field("balance_at", INSTANT_OR_NULL, "When it was read.", lambda it: instant_text(it.balance_at)),
        Field(
            "runway_seconds",
            {"type": ["integer", "null"]},
            "How long the credit lasts at the recent burn; null where nothing burns or it is not known.",
            lambda it: _seconds(it.runway),
        ),
        Field(
            "locked", list_of(TEXT), "Why fal has locked the account; empty if it has not.", lambda it: list(it.locked)
        ),
    ),
)
BALANCES = _by_account("Balances", "The prepaid credit of the accounts.", BALANCE)

FORECAST: Shape[Forecast] = Shape(
    "Forecast",
    "What a period will have cost at its end, in USD.",
    (
        Field("expected", AMOUNT, "The median.", lambda it: amount(it.expected)),
        Field("low", AMOUNT, "The low edge of a band that holds it in 80 % of cases.", lambda it: amount(it.low)),
        Field("high", AMOUNT, "The high edge of that band.", lambda it: amount(it.high)),
    ),
)
_FORECAST_OR_NULL: Schema = {"oneOf": [FORECAST.schema, {"type": "null"}]}


class _Threshold(NamedTuple):
    """A share of a budget that the user wants to hear of."""

    share: Fraction
    budget: BudgetOutlook

    @property
    def nanos(self) -> int:
        return threshold_amount(self.budget.limit, self.share)


THRESHOLD: Shape[_Threshold] = Shape(
    "Threshold",
    "A share of the limit that is watched.",
    (
        Field("threshold", TEXT, "The share, like `80%`.", lambda it: percent(it.share)),
        Field("amount", AMOUNT, "The same in USD.", lambda it: amount(it.nanos)),
        Field(
            "reached",
            {"type": ["boolean", "null"]},
            "Whether the spend has reached it; null while the spend is unknown.",
            lambda it: None if it.budget.spend is None else it.budget.spend >= it.nanos,
        ),
    ),
)
BUDGET: Shape[BudgetOutlook] = Shape(
    "Budget",
    "One budget in its running period; amounts in USD.",
    (
        Field("budget", TEXT, "Its name.", lambda it: it.budget),
        Field("period", TEXT, "`day`, `week` or `month`.", lambda it: it.period),
        Field("start", INSTANT, "Start of the running period.", lambda it: instant_text(it.window.start)),
        Field("end", INSTANT, "End of the running period, exclusive.", lambda it: instant_text(it.window.end)),
        Field(
            "match",
            map_of(list_of(TEXT)),
            "What it covers: patterns by label; everything where there are none.",
            lambda it: {label: list(patterns) for label, patterns in it.match.items()},
        ),
        Field("limit", AMOUNT, "The budget.", lambda it: amount(it.limit)),
        Field(
            "spend",
            AMOUNT_OR_NULL,
            "What the period has cost so far; null until its hours have been loaded.",
            lambda it: amount(it.spend),
        ),
        Field(
            "remaining",
            AMOUNT_OR_NULL,
            "`limit` less `spend`; below zero when it is exceeded.",
            lambda it: None if it.spend is None else amount(it.limit - it.spend),
        ),
        Field(
            "forecast",
            _FORECAST_OR_NULL,
            "What the period will have cost; null while unknown.",
            lambda it: None if it.forecast is None else FORECAST.document(it.forecast),
        ),
        Field(
            "thresholds",
            list_of(THRESHOLD.schema),
            "Shares of the limit that are watched, ascending.",
            lambda it: [THRESHOLD.document(_Threshold(share, it)) for share in it.thresholds],
        ),
        Field(
            "burn",
            map_of(RATIO),
            "By window (1h, 6h, 1d, 3d): how many times faster than the budget allows money is spent.",
            lambda it: {window: burn for window, burn in (it.burn or {}).items() if math.isfinite(burn)},
        ),
    ),
)
BUDGETS: Shape[BudgetsAnswer] = _published(
    "Budgets",
    "The configured budgets; none where none is configured.",
    Field(
        "budgets", list_of(BUDGET.schema), "By budget.", lambda it: [BUDGET.document(budget) for budget in it.budgets]
    ),
)

MONTH_FORECAST: Shape[AccountOutlook] = Shape(
    "MonthForecast",
    "The running month of one account; amounts in USD.",
    (
        Field("account", TEXT, "Configured account.", lambda it: it.account),
        Field(
            "start",
            INSTANT,
            "Start of the month, in the configured time zone.",
            lambda it: instant_text(it.month.start),
        ),
        Field("end", INSTANT, "End of the month, exclusive.", lambda it: instant_text(it.month.end)),
        Field("spend", AMOUNT_OR_NULL, "What it has cost so far; null while unknown.", lambda it: amount(it.spend)),
        Field(
            "forecast",
            _FORECAST_OR_NULL,
            "What it will have cost; null until the month so far has been loaded.",
            lambda it: None if it.forecast is None else FORECAST.document(it.forecast),
        ),
    ),
)
FORECASTS = _by_account("Forecasts", "What the running month will have cost, by account.", MONTH_FORECAST)


def invoices_document(invoices: Sequence[Invoice]) -> list[dict[str, object]]:
    """Return invoices as the array that the reporting interface answers."""
    return [INVOICE.document(invoice) for invoice in invoices]


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(seconds=1)
