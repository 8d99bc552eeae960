"""The domain of machines: runners of own apps by state, settings of apps, requests by hour. Imports nothing.

Numbers of runners are integer counts of nano-runners, so that means are exact; durations of requests are nano-seconds;
hours are hours since 1970 (`exporter.charges.hour_number`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Runners(NamedTuple):
    """Mean number of runners of an app in an hour by state, in nano-runners."""

    running: int = 0
    idle: int = 0
    pending: int = 0
    draining: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    def plus(self, other: "Runners") -> "Runners":
        """Return the sum, state by state."""
        return Runners(*(one + more for one, more in zip(self, other, strict=True)))


STATES = ("running", "idle", "pending", "draining", "unknown")
"""The states that money is divided by; the last is that of hours without history."""

SERVERLESS, MODEL_APIS = "serverless", "model_apis"
"""The products whose charges are those of runners, and of models."""


class Parts(NamedTuple):
    """An amount divided by state, in nano-units, in the order of STATES."""

    running: int = 0
    idle: int = 0
    pending: int = 0
    draining: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """The amount."""
        return sum(self)

    def plus(self, other: "Parts") -> "Parts":
        """Return the sum, state by state."""
        return Parts(*(one + more for one, more in zip(self, other, strict=True)))

    def minus(self, other: "Parts") -> "Parts":
        """Return the difference, state by state."""
        return Parts(*(one - less for one, less in zip(self, other, strict=True)))


class RunnerHour(NamedTuple):
    """The runners of an app in an hour; complete once read after the hour's end."""

    account: str
    app: str
    hour: int
    runners: Runners
    complete: bool


def app_name(app: str) -> str:
    """Return an app's name alone: charges may write it with its owner, as `owner/name`."""
    return app.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings of an app as fal lists them; None where it states none.

    Attributes:
        app: its name; where charges name its owner too, as they have it.
        machine: its machine type, in fal's words.
        keep_alive: seconds for which a runner without requests stays.
        min_concurrency, max_concurrency: fewest and most runners.
    """

    account: str
    owner: str
    app: str
    environment: str
    machine: str = ""
    keep_alive: int | None = None
    min_concurrency: int | None = None
    max_concurrency: int | None = None
    updated_at: datetime | None = None

    @property
    def endpoint(self) -> str:
        """Owner and name, as fal's calls take them."""
        return f"{self.owner}/{app_name(self.app)}"


class RequestHour(NamedTuple):
    """Requests of an app (product `serverless`) or model (`model_apis`) in an hour.

    Attributes:
        user_errors: that failed for what was asked; errors: for any other reason.
        cold_starts: that waited for a runner to start.
        billable: execution time summed over requests, in nano-seconds.
    """

    account: str
    product: str
    name: str
    hour: int
    requests: int
    succeeded: int
    user_errors: int
    errors: int
    cold_starts: int
    billable: int


@dataclass(frozen=True, slots=True)
class StateSum:
    """Cost and GPU time of an app by state, in nano-units."""

    account: str
    app: str
    environment: str
    gpu_class: str
    cost: Parts
    gpu_seconds: Parts


@dataclass(frozen=True, slots=True)
class RequestSum:
    """Requests of an app or a model; see `RequestHour`."""

    account: str
    product: str
    name: str
    requests: int = 0
    succeeded: int = 0
    user_errors: int = 0
    errors: int = 0
    cold_starts: int = 0
    billable: int = 0


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Requests of an app or a model beside what they cost, in nano-USD.

    Attributes:
        product: `serverless` for an app, `model_apis` for a model.
        cost: all that was charged, idle time included.
        cost_per_success: None where no request succeeded.
        failed_cost: what failed requests cost; an estimate for apps, an upper bound for models.
        start_cost: what runners cost while they started; 0 for models.
        start_seconds: GPU time of starting runners in nano-seconds; 0 for models, and for machines without a GPU.
    """

    account: str
    product: str
    name: str
    requests: int
    succeeded: int
    failed: int
    cold_starts: int
    cost: int
    cost_per_success: int | None
    failed_cost: int
    start_cost: int = 0
    start_seconds: int = 0

    @property
    def failed_share(self) -> float | None:
        """Share of the cost that failed requests have, 0 to 1; None where nothing was charged."""
        return self.failed_cost / self.cost if self.cost > 0 else None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Amount that an app can burn in an hour with all the runners it may have, in nano-USD at its present price."""

    account: str
    app: str
    environment: str
    gpu_class: str
    amount: int
