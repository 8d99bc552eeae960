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


class RunnerHour(NamedTuple):
    """The runners of an app in an hour; complete once read after the hour's end."""

    account: str
    app: str
    hour: int
    runners: Runners
    complete: bool


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Settings of an app as fal lists them; None where it states none.

    Attributes:
        app: its name, as charges have it.
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
        return f"{self.owner}/{self.app}"


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
