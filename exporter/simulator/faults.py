"""Faults on demand: what goes wrong, on which calls, how often. They are data; the application acts on them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from random import Random
from types import MappingProxyType

from exporter.simulator.account import Account
from exporter.simulator.plants import Plant

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
"""Every kind of fault with the parameters it takes besides path, times, probability, every and lasts."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: a key of PARAMETERS.
        path: a shell pattern of the request paths concerned, such as `/v1/*` or `/billing/usage`.
        times: only the next so many calls concerned; None for all.
        probability: of a concerned call to be hit, 0 to 1.
        every, lasts: with both above 0, only in the last `lasts` seconds of every `every` seconds since it was added.
        seconds: how long a hang lasts (None: until the caller gives up), between two pieces of a slow body, of
            `Retry-After`, or by how much the clock is off.
        pieces: in how many pieces a slow body is sent.
        retry_after: `none`, `seconds` or `date`: the form of the header.
        status: of a server error, 500 to 599.
        reason: why the account is locked; key_id: of the key concerned, empty for every key.
        fields: concerned by wrong types or missing; every_row: only every so many-th row is.
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
    """A fault that is switched on, with how often it has been hit."""

    fault: Fault
    since: datetime
    hits: int = 0

    def hit(self, path: str, now: datetime, chance: Random) -> bool:
        """Tell whether a call is hit, and count it."""
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
    """The faults that are switched on, and the plants in the account's world.

    Attributes:
        account: whose world is planted in; clock: tells the instant from which a fault counts its `every`.
        planted: the faults in the order in which they were switched on.
    """

    account: Account
    clock: Callable[[], datetime]
    planted: list[Planted] = field(default_factory=list)
    _calls: int = 0

    def add(self, *faults: Fault | Plant) -> None:
        """Switch faults on and plant spend, revisions and lateness, as of now."""
        now = self.clock()
        plants = [fault for fault in faults if not isinstance(fault, Fault)]
        self.account.plant([*self.account.plants, *plants])
        self.planted += [Planted(fault, now) for fault in faults if isinstance(fault, Fault)]

    def clear(self) -> None:
        """Switch everything off and take every plant out."""
        self.planted.clear()
        self.account.plant(())

    def remove(self, kind: str) -> None:
        """Switch the faults of one kind off."""
        self.planted[:] = [planted for planted in self.planted if planted.fault.kind != kind]

    def hits(self, path: str) -> dict[str, Fault]:
        """Return the faults that hit a call, by kind, the first of each; counts them."""
        self._calls += 1
        chance = Random(f"{self.account.world.seed}:{self._calls}")  # noqa: S311  reproducible, no secrets
        found: dict[str, Fault] = {}
        for planted in self.planted:
            if planted.fault.kind not in found and planted.hit(path, self.clock(), chance):
                found[planted.fault.kind] = planted.fault
        return found


def demo_faults() -> tuple[Fault, ...]:
    """Return what goes wrong in a demo, on a schedule: polls fail for a while every few minutes, and then recover."""
    return (
        Fault("server_error", path="/v1/serverless/usage", status=503, every=300, lasts=40),
        Fault("rate_limited", path="/v1/models/usage", every=130, lasts=3, retry_after="seconds", seconds=2),
    )
