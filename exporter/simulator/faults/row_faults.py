"""Effect of faults on the rows and pages of an answer that is otherwise right, in JSON and in CSV."""

import csv
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from io import StringIO
from json import loads

from exporter.simulator.faults.faults import Fault
from exporter.simulator.interfaces.calls import Answer, Cursor, Row
from exporter.simulator.world.exact import NANO, Exact, FineNumber, decimal_text, microseconds, nanos_of
from exporter.simulator.world.lines import MODEL_APIS, SERVERLESS, SERVICE_NAMES

_ROW_LISTS = (
    "results",
    "summary",
    "billing_events",
    "prices",
    "teams",
    "usage",
    "credits",
    "keys",
    "apps",
    "history",
    "instances",
)
_WRONG: tuple[object, ...] = ("a lot", None, [], {"amount": "1"}, True)


def mutated(answer: Answer, hits: Mapping[str, Fault]) -> object:
    """Return the body to send: that of the answer with its cursors, altered by the faults.

    The tree of the answer is altered in place: no other call shares it.
    """
    body = answer.body
    if answer.cursor is not None and isinstance(body, dict):
        following = _following(answer, hits)
        body["next_cursor"] = following
        body["has_more"] = following is not None
    if "endless_rows" in hits and answer.cursor is not None and answer.cursor.again:
        _rename(body, answer.cursor.again)
    if "empty_answer" in hits:
        body = _emptied(body)
    for kind in ("missing_fields", "wrong_types", "unknown_fields"):
        fault = hits.get(kind)
        if fault:
            body = _changed(body, fault)
    if "split_rows" in hits:
        _split(body, hits["split_rows"])
    if "odd_rows" in hits:
        _make_odd(body, hits["odd_rows"])
    return body


def _following(answer: Answer, hits: Mapping[str, Fault]) -> str | None:
    own, following = answer.cursor, answer.following
    if own is None:
        return None
    if "repeated_cursor" in hits:
        return own.text()
    again = replace(own, again=own.again + 1).text()
    if "duplicated_page" in hits and own.again == 0:
        return again
    if following is None and not hits.keys().isdisjoint({"endless_pages", "endless_rows"}):
        return again
    if following and "overlapping_pages" in hits:
        following = _at_last_row(answer.body, own, following)
    if following and "skipping_pages" in hits:
        following = replace(following, row=following.row + hits["skipping_pages"].rows)
    return following.text() if following else None


def _at_last_row(body: object, own: Cursor, following: Cursor) -> Cursor:
    """Return the position of a page's last row, with which the next page is to begin."""
    if following.row:
        return replace(following, row=following.row - 1)
    # The page ends where a bucket does, which may have begun on the page before.
    series = list(body["time_series"]) if isinstance(body, dict) else []
    *others, last = series
    begun = 0 if others else own.row
    at = microseconds(datetime.fromisoformat(last["bucket"]))
    return replace(following, at=at, row=begun + len(last["results"]) - 1)


def _rename(body: object, number: int) -> None:
    """Give the rows of a repeated page names of their own, as if they were others."""
    for row in _rows(body):
        row |= {name: f"{row[name]}-{number}" for name in ("endpoint_id", "model", "app") if row.get(name)}


def _emptied(body: object) -> object:
    if isinstance(body, list):
        return []
    if isinstance(body, dict):
        for name in ("time_series", *_ROW_LISTS):
            if isinstance(body.get(name), list):
                body[name] = []
        if "next_cursor" in body:
            body |= {"next_cursor": None, "has_more": False}
    return body


def _changed(body: object, fault: Fault) -> object:
    if isinstance(body, Exact):
        return {"wrong_types": "seven", "unknown_fields": body}.get(fault.kind)
    for number, row in enumerate(_rows(body)):
        if (number + 1) % fault.every_row:
            continue
        if fault.kind == "unknown_fields":
            row["x_new_field"] = {"since": "2026-12", "values": [1, None, "two"]}
            continue
        for name in (*fault.fields, "current_balance"):
            if name in row and fault.kind == "missing_fields":
                del row[name]
            elif name in row:
                row[name] = _WRONG[number % len(_WRONG)]
    if fault.kind == "unknown_fields" and isinstance(body, dict):
        body["x_new_field"] = "unknown"
    return body


def _rows(body: object) -> Iterator[dict[str, object]]:
    """Yield the rows of any answer: of lists, of buckets, and the credits."""
    if isinstance(body, list):
        yield from (row for row in body if isinstance(row, dict))
    elif isinstance(body, dict):
        for bucket in body.get("time_series", ()):
            yield from _rows(bucket)
        for name in _ROW_LISTS:
            rows = body.get(name, ())
            yield from _rows(rows) if isinstance(rows, list) else [rows] if isinstance(rows, dict) else ()


_COSTS = ("cost_subtotal", "cost_discount", "cost_total", "cost", "spend")
_AMOUNTS = ("quantity", "gpu_seconds", *_COSTS)
_CSV_COSTS = (*("BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingCurrencyEffectiveCost"),)
_CSV_QUANTITIES = ("ConsumedQuantity", "PricingQuantity")
_CSV_UNITS = ("ConsumedUnit", "PricingUnit", "x_Unit")
_CSV_CURRENCIES = ("BillingCurrency", "PricingCurrency")


def _labels(row: Mapping[str, object]) -> dict[str, object]:
    """Return product, model, app and team of a row of any call, as far as the row tells."""
    model = row.get("endpoint_id") or row.get("model")
    own = SERVERLESS if "machine_type" in row or row.get("app") else MODEL_APIS if model else ""
    return {
        "product": row.get("product", own),
        "model": model,
        "app": row.get("app"),
        "team": row.get("username"),
    }


def _csv_labels(row: Mapping[str, str]) -> dict[str, object]:
    products = {name: product for product, name in SERVICE_NAMES.items()}
    tags = loads(row["Tags"] or "{}")
    return {
        "product": products.get(row["ServiceName"], ""),
        "model": row["SkuId"],
        "app": tags.get("app"),
        "team": row["SubAccountName"] or row["BillingAccountName"],
    }


def _is_matched(fault: Fault, labels: Mapping[str, object]) -> bool:
    return all(not getattr(fault, name) or getattr(fault, name) == value for name, value in labels.items())


def _make_odd(body: object, fault: Fault) -> None:
    matched = (row for row in _rows(body) if _is_matched(fault, _labels(row)))
    for number, row in enumerate(matched):
        if (number + 1) % fault.every_row:
            continue
        if fault.oddity == "text":
            row |= {name: decimal_text(value) for name, value in row.items() if isinstance(value, Exact)}
        elif fault.oddity == "currency":
            row["currency"] = "usd"
        elif fault.oddity == "cost":
            row |= {name: None for name in _COSTS if name in row}
        elif fault.oddity in row:
            row[fault.oddity] = None


def _split(body: object, fault: Fault) -> None:
    """Split every matching row of any list of rows; the parts of an amount add up to it exactly."""
    if not isinstance(body, dict):
        return
    for bucket in body.get("time_series", ()):
        _split(bucket, fault)
    for name in ("results", "summary", "usage"):
        rows = body.get(name)
        if isinstance(rows, list):
            body[name] = [
                part
                for row in rows
                for part in (_parts(row, fault.rows) if _is_matched(fault, _labels(row)) else [row])
            ]


def _parts(row: Row, count: int) -> list[Row]:
    """Return a row as `count` rows, told apart by their prices where they have one."""
    parts: list[Row] = [dict(row) for _ in range(count)]
    for name in _AMOUNTS:
        amount = row.get(name)
        if isinstance(amount, Exact):
            for part, text in zip(parts, _shares(amount, count), strict=True):
                part[name] = FineNumber(text)
    price = row.get("unit_price")
    for number, part in enumerate(parts):
        if isinstance(price, Exact):
            part["unit_price"] = Exact(price + number)
        if number and "requests" in row:
            part["requests"] = 0
    return parts


def _shares(amount: int, count: int) -> Iterator[str]:
    """Yield the decimal texts of `count` parts that add up to an amount of nano-units, to its 18th decimal place."""
    share, rest = divmod(amount * NANO, count)
    for number in range(count):
        yield _fine_text(share + (number < rest))


def _fine_text(count: int) -> str:
    digits = str(count)
    significant = digits.rstrip("0") or "0"
    return f"{significant}E{len(digits) - len(significant) - 18}" if count else "0"


async def altered_csv(chunks: AsyncIterator[str], hits: Mapping[str, Fault]) -> AsyncIterator[str]:
    """Yield a CSV download, of which the first chunk is the header, altered by the faults."""
    odd, split = hits.get("odd_rows"), hits.get("split_rows")
    columns: list[str] = []
    seen = 0
    async for chunk in chunks:
        if not columns or not (odd or split):
            columns = columns or chunk.strip().split(",")
            yield chunk
            continue
        rows: list[dict[str, str]] = []
        for values in csv.reader(StringIO(chunk)):
            row = dict(zip(columns, values, strict=True))
            labels = _csv_labels(row)
            if odd and _is_matched(odd, labels):
                seen += 1
                if not seen % odd.every_row:
                    row |= _odd_fields(row, odd)
            rows += _csv_parts(row, split.rows) if split and _is_matched(split, labels) else [row]
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(row.values() for row in rows)
        yield text.getvalue()


def _odd_fields(row: Mapping[str, str], fault: Fault) -> dict[str, str]:
    """Return the fields of a CSV row that a fault alters; a number is made text by a decimal comma."""
    if fault.oddity == "text":
        return {name: row[name].replace(".", ",") for name in (*_CSV_COSTS, *_CSV_QUANTITIES)}
    if fault.oddity == "currency":
        return dict.fromkeys(_CSV_CURRENCIES, "usd")
    return dict.fromkeys({"unit": _CSV_UNITS, "quantity": _CSV_QUANTITIES, "cost": _CSV_COSTS}[fault.oddity], "")


def _csv_parts(row: Mapping[str, str], count: int) -> list[dict[str, str]]:
    parts = [dict(row) for _ in range(count)]
    for name in (*_CSV_COSTS, *_CSV_QUANTITIES):
        for part, text in zip(parts, _shares(nanos_of(row[name]), count), strict=True):
            part[name] = text
    for number, part in enumerate(parts):
        part["SkuPriceId"] = f"{row['SkuPriceId']}/{number}"
    return parts
