"""Faults on demand: their definition, and when a call is hit.

Faults are data. `app` applies those about refusals and delivery, `row_faults` those about rows and pages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from random import Random
from types import MappingProxyType

from starlette.datastructures import QueryParams

from exporter.simulator.world.account import Account
from exporter.simulator.world.injected_charges import Plant

ODDITIES = ("text", "currency", "unit", "quantity", "cost")
"""Forms of a row of `odd_rows`: numbers as text, currency `usd`, or unit, quantity or costs null."""

_MATCHED = ("product", "model", "app", "team")

PARAMETERS = MappingProxyType(
    {
        "rate_limited": ("retry_after", "seconds"),
        "server_error": ("status", "retry_after", "seconds"),
        "not_found": (),
        "refused": ("status", "message", "key_id"),
        "locked": ("reason", "readable"),
        "account_details": ("soft_budget", "hard_budget", "is_paying"),
        "key_alias": ("of_key", "alias"),
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
        "odd_rows": ("oddity", "every_row", *_MATCHED),
        "split_rows": ("rows", *_MATCHED),
        "duplicated_page": (),
        "repeated_cursor": (),
        "overlapping_pages": (),
        "skipping_pages": ("rows",),
        "endless_pages": (),
        "endless_rows": (),
        "giant_body": ("megabytes",),
        "gzip_bomb": ("megabytes",),
        "empty_answer": (),
        "clock_skew": ("seconds",),
        "cost_only": (),
        "single_dimension": (),
        "balance": ("amount",),
    }
)
"""Kinds of faults with their own parameters; all take path, query, times, after, probability, every and lasts too."""

_REFUSALS = MappingProxyType(
    {
        400: "The request is not valid.",
        403: "This endpoint requires an admin-scope API key.",
        404: "Not Found",
        422: "The request could not be processed.",
    }
)
_SERVER_ERROR, _FORBIDDEN = 500, 403
_NO_PARAMETERS = QueryParams()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: a key of PARAMETERS.
        path: shell pattern of the request paths, such as `/v1/*` or `/billing/usage`.
        query: the matching parameters as `name=pattern`, joined by `&`, such as `group_by=*,*`: shell patterns of the
            comma list of a parameter's values, empty for an absent one; empty for any call.
        times: number of matching calls to hit; None for all.
        after: number of matching calls that are answered normally before the first hit.
        probability: of a matching call to be hit, 0 to 1.
        every, lasts: with both above 0, hit only in the last `lasts` seconds of every `every` seconds since added.
        seconds: duration of a hang (None: until the caller gives up), pause between two pieces of a slow body,
            value of `Retry-After`, or offset of the clock.
        pieces: number of pieces of a slow body.
        megabytes: that a giant body or an unpacked gzip bomb is larger.
        retry_after: form of the header: `none`, `seconds` or `date`.
        status: of a server error (500 to 599, default 500) or a refusal (400 to 499, default 403).
        message: of a refusal; empty for a usual one of the status.
        reason: of the lock; key_id: of the affected key, empty for every key.
        fields: of the wrong type or missing; every_row: affect only every n-th row.
        oddity: one of ODDITIES; rows: number of rows that a row is split into, or that lie between two pages.
        product, model, app, team: of the affected rows; empty for all.
        amount: the credit balance in nano-USD.
        readable: a locked account's calls go on answering; else only those that report the lock do.
        soft_budget, hard_budget, is_paying: reported of the account, budgets in US dollars.
        of_key: id of a listed key; alias: its new alias.
    """

    kind: str
    path: str = "*"
    query: str = ""
    times: int | None = None
    after: int = 0
    probability: float = 1.0
    every: float = 0
    lasts: float = 0
    seconds: float | None = None
    pieces: int = 10
    megabytes: int = 1024
    retry_after: str = "none"
    status: int = 0
    message: str = ""
    reason: str = "Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
    key_id: str = ""
    fields: tuple[str, ...] = ("cost_total", "cost", "spend", "total")
    every_row: int = 1
    oddity: str = "text"
    rows: int = 500
    product: str = ""
    model: str = ""
    app: str = ""
    team: str = ""
    amount: int = 0
    readable: bool = False
    soft_budget: int | None = None
    hard_budget: int | None = None
    is_paying: bool = True
    of_key: str = ""
    alias: str = ""

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            raise ValueError(f"{self.kind!r} is not a fault: there are {', '.join(PARAMETERS)}")
        if self.retry_after not in {"none", "seconds", "date"}:
            raise ValueError(f"retry_after is none, seconds or date, not {self.retry_after!r}")
        self._settle_status()
        if any("=" not in part for part in self.query.split("&") if part):
            raise ValueError(f"query is name=pattern, joined by '&', not {self.query!r}")
        if self.oddity not in ODDITIES:
            raise ValueError(f"oddity is one of {', '.join(ODDITIES)}, not {self.oddity!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability lies between 0 and 1, not at {self.probability}")
        if min(self.pieces, self.every_row, self.rows, self.megabytes) < 1 or (
            self.times is not None and self.times < 1
        ):
            raise ValueError("times, pieces, every_row, rows and megabytes are at least 1 where they are given")
        if self.after < 0:
            raise ValueError("after is a number of calls, at least 0")
        if min(self.every, self.lasts) < 0 or self.lasts > self.every:
            raise ValueError("every and lasts are seconds, and lasts is at most every")

    def _settle_status(self) -> None:
        refused = self.kind == "refused"
        if not self.status:
            object.__setattr__(self, "status", _FORBIDDEN if refused else _SERVER_ERROR)
        elif refused and not 400 <= self.status <= 499:  # noqa: PLR2004  the client errors of HTTP
            raise ValueError(f"status of a refusal is 400 to 499, not {self.status}")
        elif not refused and not 500 <= self.status <= 599:  # noqa: PLR2004  the server errors of HTTP
            raise ValueError(f"status is that of a server error, 500 to 599, not {self.status}")

    def matches(self, path: str, query: QueryParams, key_id: str) -> bool:
        """Return True if a call is of the fault's path, query and key."""
        wanted = (part.partition("=") for part in self.query.split("&") if part)
        return (
            fnmatchcase(path, self.path)
            and self.key_id in {"", key_id}
            and all(fnmatchcase(",".join(query.getlist(name)), pattern) for name, _, pattern in wanted)
        )

    @property
    def sentence(self) -> str:
        """Message of a refusal."""
        return self.message or refusal_sentence(self.status)


def refusal_sentence(status: int) -> str:
    """Return a usual message of a refusal."""
    return _REFUSALS.get(status, "The request is refused.")


@dataclass(slots=True)
class Planted:
    """An active fault with the number of its hits, and of the calls that it let pass (`after`)."""

    fault: Fault
    since: datetime
    hits: int = 0
    passed: int = 0

    def hit(self, now: datetime, chance: Random) -> bool:
        """Return True and count a hit if a matching call is hit."""
        fault = self.fault
        if self.passed < fault.after:
            self.passed += 1
            return False
        if fault.times is not None and self.hits >= fault.times:
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

    def hits(self, path: str, query: QueryParams = _NO_PARAMETERS, key_id: str = "") -> dict[str, Fault]:
        """Return the faults that hit a call, the first of each kind, and count their hits."""
        self._calls += 1
        chance = Random(f"{self.account.world.seed}:{self._calls}")  # noqa: S311  reproducible, no secrets
        found: dict[str, Fault] = {}
        for planted in self.planted:
            fault = planted.fault
            if fault.kind not in found and fault.matches(path, query, key_id) and planted.hit(self.clock(), chance):
                found[fault.kind] = fault
        return found


def demo_faults() -> tuple[Fault, ...]:
    """Return the scheduled faults of the demo: now and then polls fail for a while, and then recover."""
    return (
        Fault("server_error", path="/v1/serverless/usage", status=503, every=1_200, lasts=25),
        Fault("rate_limited", path="/v1/models/usage", every=310, lasts=3, retry_after="seconds", seconds=2),
    )
