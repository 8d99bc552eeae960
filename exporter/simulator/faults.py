"""Faults on demand: their definition, when a call is hit, and their effect on the body of an answer.

Faults are data. Those about refusals and delivery are applied by `app`, those about rows and pages here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from random import Random
from types import MappingProxyType

from exporter.simulator.account import Account
from exporter.simulator.calls import Answer
from exporter.simulator.exact import Exact
from exporter.simulator.injected_charges import Plant

PARAMETERS = MappingProxyType(
    {
        "rate_limited": ("retry_after", "seconds"),
        "server_error": ("status", "retry_after", "seconds"),
        "not_found": (),
        "locked": ("reason",),
        "key_revoked": ("key_id",),
        "scope_removed": ("key_id",),
        "feature_disabled": (),
        "hang": ("seconds",),
        "slow_body": ("seconds", "pieces"),
        "truncated_body": (),
        "not_json": (),
        "empty_body": (),
        "wrong_types": ("fields", "every_row"),
        "unknown_fields": ("every_row",),
        "missing_fields": ("fields", "every_row"),
        "duplicated_page": (),
        "repeated_cursor": (),
        "endless_pages": (),
        "empty_answer": (),
        "clock_skew": ("seconds",),
        "cost_only": (),
        "single_dimension": (),
        "balance": ("amount",),
    }
)
"""Kinds of faults with their own parameters; all take path, times, probability, every and lasts too."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: a key of PARAMETERS.
        path: shell pattern of the request paths, such as `/v1/*` or `/billing/usage`.
        times: number of matching calls to hit; None for all.
        probability: of a matching call to be hit, 0 to 1.
        every, lasts: with both above 0, hit only in the last `lasts` seconds of every `every` seconds since added.
        seconds: duration of a hang (None: until the caller gives up), pause between two pieces of a slow body,
            value of `Retry-After`, or offset of the clock.
        pieces: number of pieces of a slow body.
        retry_after: form of the header: `none`, `seconds` or `date`.
        status: of a server error, 500 to 599.
        reason: of the lock; key_id: of the affected key, empty for every key.
        fields: of the wrong type or missing; every_row: affect only every n-th row.
        amount: the credit balance in nano-USD.
    """

    kind: str
    path: str = "*"
    times: int | None = None
    probability: float = 1.0
    every: float = 0
    lasts: float = 0
    seconds: float | None = None
    pieces: int = 10
    retry_after: str = "none"
    status: int = 500
    reason: str = "Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
    key_id: str = ""
    fields: tuple[str, ...] = ("cost_total", "cost", "spend", "total")
    every_row: int = 1
    amount: int = 0

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            raise ValueError(f"{self.kind!r} is not a fault: there are {', '.join(PARAMETERS)}")
        if self.retry_after not in {"none", "seconds", "date"}:
            raise ValueError(f"retry_after is none, seconds or date, not {self.retry_after!r}")
        if not 500 <= self.status <= 599:  # noqa: PLR2004  the server errors of HTTP
            raise ValueError(f"status is that of a server error, 500 to 599, not {self.status}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability lies between 0 and 1, not at {self.probability}")
        if self.pieces < 1 or self.every_row < 1 or (self.times is not None and self.times < 1):
            raise ValueError("times, pieces and every_row are at least 1 where they are given")
        if min(self.every, self.lasts) < 0 or self.lasts > self.every:
            raise ValueError("every and lasts are seconds, and lasts is at most every")


@dataclass(slots=True)
class Planted:
    """An active fault with the number of its hits."""

    fault: Fault
    since: datetime
    hits: int = 0

    def hit(self, path: str, now: datetime, chance: Random) -> bool:
        """Return True and count a hit if a call is hit."""
        fault = self.fault
        if (fault.times is not None and self.hits >= fault.times) or not fnmatchcase(path, fault.path):
            return False
        if fault.every and (now - self.since) % timedelta(seconds=fault.every) < timedelta(
            seconds=fault.every - fault.lasts
        ):
            return False
        if fault.probability < 1 and chance.random() >= fault.probability:
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class Faults:
    """The active faults, and access to the injected charges of the account.

    Attributes:
        account: receives injected charges; clock: returns the instant from which a fault counts its `every`.
        planted: the faults in the order in which they were added.
    """

    account: Account
    clock: Callable[[], datetime]
    planted: list[Planted] = field(default_factory=list)
    _calls: int = 0

    def add(self, *faults: Fault | Plant) -> None:
        """Activate faults and inject charges, as of now."""
        now = self.clock()
        plants = [fault for fault in faults if not isinstance(fault, Fault)]
        self.account.plant([*self.account.plants, *plants])
        self.planted += [Planted(fault, now) for fault in faults if isinstance(fault, Fault)]

    def clear(self) -> None:
        """Deactivate all faults and remove all injected charges."""
        self.planted.clear()
        self.account.plant(())

    def remove(self, kind: str) -> None:
        """Deactivate the faults of one kind."""
        self.planted[:] = [planted for planted in self.planted if planted.fault.kind != kind]

    def hits(self, path: str) -> dict[str, Fault]:
        """Return the faults that hit a call, the first of each kind, and count their hits."""
        self._calls += 1
        chance = Random(f"{self.account.world.seed}:{self._calls}")  # noqa: S311  reproducible, no secrets
        found: dict[str, Fault] = {}
        for planted in self.planted:
            if planted.fault.kind not in found and planted.hit(path, self.clock(), chance):
                found[planted.fault.kind] = planted.fault
        return found


def demo_faults() -> tuple[Fault, ...]:
    """Return the scheduled faults of the demo: polls fail for a while every few minutes, and then recover."""
    return (
        Fault("server_error", path="/v1/serverless/usage", status=503, every=300, lasts=40),
        Fault("rate_limited", path="/v1/models/usage", every=130, lasts=3, retry_after="seconds", seconds=2),
    )


_ROW_LISTS = ("results", "summary", "billing_events", "prices", "teams", "usage", "credits")
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
    """Yield the rows of any answer: of lists, of buckets, and the credits."""
    if isinstance(body, list):
        yield from (row for row in body if isinstance(row, dict))
    elif isinstance(body, dict):
        for bucket in body.get("time_series", ()):
            yield from _rows(bucket)
        for name in _ROW_LISTS:
            rows = body.get(name, ())
            yield from _rows(rows) if isinstance(rows, list) else [rows] if isinstance(rows, dict) else ()
