"""Faults in the body of an answer that is otherwise right: wrong types, fields missing or unknown, odd pages."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from exporter.simulator.calls import Answer
from exporter.simulator.exact import Exact
from exporter.simulator.faults import Fault

_ROW_LISTS = ("results", "summary", "billing_events", "prices", "teams", "usage", "credits")
_WRONG: tuple[object, ...] = ("a lot", None, [], {"amount": "1"}, True)


def mutated(answer: Answer, hits: Mapping[str, Fault]) -> object:
    """Return the body to send: the answer's own with its cursors, changed as the faults say.

    The answer's own tree is changed in place: it was made for this call alone.
    """
    body = answer.body
    if answer.cursor is not None and isinstance(body, dict):
        following = _following(answer, hits)
        body["next_cursor"] = following
        body["has_more"] = following is not None
    if "empty_answer" in hits:
        body = _emptied(body)
    for kind in ("missing_fields", "wrong_types", "unknown_fields"):
        fault = hits.get(kind)
        if fault:
            body = _changed(body, fault)
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
    if following is None and "endless_pages" in hits:
        return again
    return following.text() if following else None


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
    """Yield the rows of any answer: those of lists, of buckets, and the credits."""
    if isinstance(body, list):
        yield from (row for row in body if isinstance(row, dict))
    elif isinstance(body, dict):
        for bucket in body.get("time_series", ()):
            yield from _rows(bucket)
        for name in _ROW_LISTS:
            rows = body.get(name, ())
            yield from _rows(rows) if isinstance(rows, list) else [rows] if isinstance(rows, dict) else ()
