"""The exporter's own counters: what it tells about its polls and its calls to fal.

`Health` is an observer of the fal room (by its shape: `answered`, `retried`, `locked`, `unlocked`) and is told of polls
by whoever schedules them. Whatever is known at start exists at zero from then on, so that the first failure is an
increase and an alert that ends has a series to end on.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exporter.charges import NANO
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import Rendered, rendered

if TYPE_CHECKING:
    from exporter.publication import Bookings

_POLL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Health:
    """Counts on a registry of its own; may be told from any thread.

    Args:
        registry: where the metrics live; private to this object's owner.
        failure_reasons: every reason a poll may fail for.
        rejection_reasons: every reason a row may be rejected for.
        lock_reasons: every reason an account may be locked for.
        jobs: the scheduled jobs that can miss a run.

    Attributes:
        hard_budgets: hard monthly budgets set at fal, in nano-USD by account.
        clock_ahead: seconds by which the system clock is ahead of fal's; None before they have been compared.
        clock_steps: times that the system clock has been set.
        focus_push_problems: why FOCUS files cannot be pushed, by destination; empty while they can, or are not.
        bookings: how the newest comparison of bookings with requests went; None before the first.
        remote_write_problem: why hourly samples cannot be sent; empty while they can, or are not.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        failure_reasons: Iterable[str] = (),
        rejection_reasons: Iterable[str] = (),
        lock_reasons: Iterable[str] = (),
        jobs: Iterable[str] = (),
    ) -> None:
        self._registry = registry
        self._failure_reasons = tuple(failure_reasons)
        self._rejection_reasons = set(rejection_reasons)
        self._lock_reasons = set(lock_reasons)
        self._polls = _counter("fal_exporter_polls_total", registry)
        self._failures = _counter("fal_exporter_poll_failures_total", registry)
        self._durations = _histogram("fal_exporter_poll_duration_seconds", _POLL_SECONDS, registry)
        self._attempts = _gauge("fal_exporter_last_poll_attempt_timestamp_seconds", registry)
        self._successes = _gauge("fal_exporter_last_poll_success_timestamp_seconds", registry)
        self._up = _gauge("fal_source_up", registry)
        self._available = _gauge("fal_source_available", registry)
        self._differences = _gauge("fal_source_difference_usd", registry)
        self._differing: dict[str, set[str]] = {}
        self.hard_budgets: dict[str, int] = {}
        self._shown_budgets: set[tuple[str, str]] = set()
        self._requests = _counter("fal_exporter_api_requests_total", registry)
        self._retries = _counter("fal_exporter_api_retries_total", registry)
        self._request_durations = _histogram("fal_exporter_api_request_duration_seconds", _CALL_SECONDS, registry)
        self._rejected_rows = _gauge("fal_exporter_rejected_rows", registry)
        self._partial = _gauge("fal_source_partial", registry)
        self._unreadable = _gauge("fal_unreadable_usd", registry)
        self._missed = _counter("fal_exporter_missed_runs_total", registry)
        self._steps = _counter("fal_exporter_clock_steps_total", registry)
        self._skew: Gauge | None = None
        self.clock_ahead: float | None = None
        self.clock_steps = 0
        self.focus_push_problems: dict[str, str] = {}
        self.bookings: Bookings | None = None
        self.remote_write_problem = ""
        self._locked = _gauge("fal_account_locked", registry)
        self._floors = _gauge("fal_credit_floor_usd", registry)
        self._provider_budgets = _gauge("fal_provider_budget_usd", registry)
        self._queue_sizes = _gauge("fal_serverless_queue_size", registry)
        self._queue_idle = _gauge("fal_serverless_queue_idle_runners", registry)
        self._shown_queues: dict[str, tuple[set[str], set[str]]] = {}
        self._ledger = _gauge("fal_exporter_ledger_up", registry)
        self._part_failures = _counter("fal_exporter_publication_failures_total", registry)
        self._part_times = _gauge("fal_exporter_publication_part_timestamp_seconds", registry)
        for job in jobs:
            self._missed.labels(job)

    def expect_account(self, account: str) -> None:
        """Show an account as not locked from the start."""
        for reason in self._lock_reasons:
            self._locked.labels(account, reason)

    def expect_source(self, account: str, source: str) -> None:
        """Show a source's counters at zero from the start; whether it is up is known after its first poll."""
        self._polls.labels(account, source)
        self._durations.labels(account, source)
        for reason in self._failure_reasons:
            self._failures.labels(account, source, reason)

    def poll_began(self, account: str, source: str, at: datetime) -> None:
        """Note that a poll begins."""
        self._attempts.labels(account, source).set(at.timestamp())

    def poll_succeeded(self, account: str, source: str, *, began_at: datetime, seconds: float) -> None:
        """Note that a poll has ended well."""
        self._ended(account, source, seconds)
        self._up.labels(account, source).set(1)
        self._successes.labels(account, source).set(began_at.timestamp())

    def rows_rejected(self, account: str, source: str, by_reason: Mapping[str, int], *, cost: int) -> None:
        """Show the rows of a source that cannot be read now, by reason, and what they cost in nano-USD."""
        self._rejection_reasons |= by_reason.keys()
        for reason in self._rejection_reasons:
            self._rejected_rows.labels(account, source, reason).set(by_reason.get(reason, 0))
        self._partial.labels(account, source).set(bool(by_reason))
        self._unreadable.labels(account, source).set(cost / CATALOGUE["fal_unreadable_usd"].scale)

    def poll_failed(self, account: str, source: str, *, reason: str, seconds: float) -> None:
        """Note that a poll has failed; no stamp of success moves."""
        self._ended(account, source, seconds)
        self._up.labels(account, source).set(0)
        self._failures.labels(account, source, reason).inc()

    def ledger_seen(self, *, up: bool) -> None:
        """Note whether the ledger can be read and written."""
        self._ledger.set(up)

    def expect_part(self, part: str) -> None:
        """Show a part of publications at zero failures from the start."""
        self._part_failures.labels(part)

    def part_made(self, part: str, at: datetime) -> None:
        """Note when a part of a publication was made last."""
        self._part_times.labels(part).set(at.timestamp())

    def part_failed(self, part: str) -> None:
        """Note that a part of a publication could not be made and stays as it was."""
        self._part_failures.labels(part).inc()

    def source_available(self, account: str, source: str, *, is_available: bool) -> None:
        """Show whether a source could be polled beside those that are."""
        self._available.labels(account, source).set(is_available)

    def source_differences(self, account: str, differences: Mapping[str, int]) -> None:
        """Show by how much the sums of an account differ from fal's, in nano-USD by product; none where not known."""
        for product in self._differing.get(account, set()) - differences.keys():
            self._differences.remove(account, product)
        self._differing[account] = set(differences)
        for product, amount in differences.items():
            self._differences.labels(account, product).set(amount / CATALOGUE["fal_source_difference_usd"].scale)

    def provider_budgets(self, account: str, budgets: Mapping[str, int]) -> None:
        """Show the budgets that an account has set at fal, in nano-USD by kind (soft or hard); none where not set."""
        self.hard_budgets.pop(account, None)
        if "hard" in budgets:
            self.hard_budgets[account] = budgets["hard"]
        for kind in ("soft", "hard"):
            if kind in budgets:
                scale = CATALOGUE["fal_provider_budget_usd"].scale
                self._provider_budgets.labels(account, kind).set(budgets[kind] / scale)
            elif (account, kind) in self._shown_budgets:
                self._provider_budgets.remove(account, kind)
        self._shown_budgets = {budget for budget in self._shown_budgets if budget[0] != account} | {
            (account, budget) for budget in budgets
        }

    def queues(self, account: str, sizes: Mapping[str, int], idle: Mapping[str, int]) -> None:
        """Show the requests that wait for each app of an account, and idle nano-runners of apps with a queue."""
        before = self._shown_queues.get(account, (set(), set()))
        shown = ((self._queue_sizes, sizes, 1), (self._queue_idle, idle, NANO))
        for (gauge, values, scale), known in zip(shown, before, strict=True):
            for app in known - values.keys():
                gauge.remove(account, app)
            for app, value in values.items():
                gauge.labels(account, app).set(value / scale)
        self._shown_queues[account] = (set(sizes), set(idle))

    def credit_floor(self, account: str, floor: int) -> None:
        """Show the balance at which fal locks an account, in nano-USD."""
        self._floors.labels(account).set(floor / CATALOGUE["fal_credit_floor_usd"].scale)

    def run_missed(self, job: str, *, runs: int = 1) -> None:
        """Note that scheduled runs did not start in time."""
        self._missed.labels(job).inc(runs)

    def clock_stepped(self) -> None:
        """Note that the system's clock has been set."""
        self._steps.inc()
        self.clock_steps += 1

    def clock_compared(self, ahead: float) -> None:
        """Note by how many seconds the system's clock is ahead of fal's; negative where it is behind."""
        if self._skew is None:
            self._skew = _gauge("fal_exporter_clock_skew_seconds", self._registry)
        self._skew.set(ahead)
        self.clock_ahead = ahead

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """Note fal's answer to one attempt of a call; `code` is "error" when none came."""
        self._requests.labels(account, call, code).inc()
        self._request_durations.labels(account, call).observe(seconds)
        self._retries.labels(account, call)

    def retried(self, account: str, call: str) -> None:
        """Note that a call is tried again."""
        self._retries.labels(account, call).inc()

    def locked(self, account: str, reason: str) -> None:
        """Note why fal has locked an account; a reason noted before holds until it is unlocked."""
        self._lock_reasons.add(reason)
        self._locked.labels(account, reason).set(1)

    def unlocked(self, account: str) -> None:
        """Note that fal answers for the account again."""
        for reason in self._lock_reasons:
            self._locked.labels(account, reason).set(0)

    def rendered(self) -> Rendered:
        """Return the families as they stand, in both formats."""
        return rendered(self._registry)

    def _ended(self, account: str, source: str, seconds: float) -> None:
        self._polls.labels(account, source).inc()
        self._durations.labels(account, source).observe(seconds)


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    family = CATALOGUE[name]
    return Counter(name, family.help, family.labels, registry=registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    family = CATALOGUE[name]
    return Gauge(name, family.help, family.labels, registry=registry)


def _histogram(name: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    family = CATALOGUE[name]
    return Histogram(name, family.help, family.labels, registry=registry, buckets=buckets)
