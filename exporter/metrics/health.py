"""The exporter's own counters: what is published about its polls and its calls to fal.

`Health` is an observer of the fal room (by its shape: `answered`, `retried`, `locked`, `unlocked`) and is told of polls
by whoever schedules them. Whatever is known at start exists at zero from then on, so that the first failure is an
increase and an alert that ends has a series to end on.

Two hundred accounts have more than a hundred thousand such series, of which a poll moves a dozen. They are therefore
kept as the ledger's figures are, in tables of pages: a page that nothing has moved is neither made nor encoded again.
"""

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from exporter.charges import NANO
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.encoding import Rendered, rendered
from exporter.metrics.snapshot import Table
from exporter.samples import Page, PagedTable, Pages, Sample

if TYPE_CHECKING:
    from exporter.overview import Bookings

_POLL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_NO_ANSWER = frozenset({"error", "407"})
"""Codes of requests that fal has not answered: none came, or it is the proxy's, which asks for a password."""


class Health:
    """Counts on a registry of its own; may be called from any thread.

    Args:
        registry: where further metrics live that are rendered beside these; private to this object's owner.
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
        unanswered_since: when the first of the requests began that have had no answer of fal's since its last one, in
            monotonic seconds; None while it answers. What a proxy says in its place, or that fal fails, is none.
        answered_at: when fal answered last; None before it has.
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
        turn = self._turn = threading.RLock()
        began = datetime.now(UTC)
        self._failure_reasons = tuple(failure_reasons)
        self._rejection_reasons = set(rejection_reasons)
        self._lock_reasons = set(lock_reasons)
        self._polls = _Numbers("fal_exporter_polls_total", began, turn)
        self._failures = _Numbers("fal_exporter_poll_failures_total", began, turn)
        self._durations = _Times("fal_exporter_poll_duration_seconds", _POLL_SECONDS, began, turn)
        self._attempts = _Numbers("fal_exporter_last_poll_attempt_timestamp_seconds", began, turn)
        self._successes = _Numbers("fal_exporter_last_poll_success_timestamp_seconds", began, turn)
        self._up = _Numbers("fal_source_up", began, turn)
        self._available = _Numbers("fal_source_available", began, turn)
        self._differences = _Numbers("fal_source_difference_usd", began, turn)
        self._differing: dict[str, set[str]] = {}
        self.hard_budgets: dict[str, int] = {}
        self._shown_budgets: set[tuple[str, str]] = set()
        self._requests = _Numbers("fal_exporter_api_requests_total", began, turn)
        self._retries = _Numbers("fal_exporter_api_retries_total", began, turn)
        self._request_durations = _Times("fal_exporter_api_request_duration_seconds", _CALL_SECONDS, began, turn)
        self._rejected_rows = _Numbers("fal_exporter_rejected_rows", began, turn)
        self._partial = _Numbers("fal_source_partial", began, turn)
        self._unreadable = _Numbers("fal_unreadable_usd", began, turn)
        self._missed = _Numbers("fal_exporter_missed_runs_total", began, turn)
        self._steps = _Numbers("fal_exporter_clock_steps_total", began, turn)
        self._skew = _Numbers("fal_exporter_clock_skew_seconds", began, turn)
        self.clock_ahead: float | None = None
        self.clock_steps = 0
        self.focus_push_problems: dict[str, str] = {}
        self.bookings: Bookings | None = None
        self.remote_write_problem = ""
        self.unanswered_since: float | None = None
        self.answered_at: float | None = None
        self._locked = _Numbers("fal_account_locked", began, turn)
        self._floors = _Numbers("fal_credit_floor_usd", began, turn)
        self._provider_budgets = _Numbers("fal_provider_budget_usd", began, turn)
        self._queue_sizes = _Numbers("fal_serverless_queue_size", began, turn)
        self._queue_idle = _Numbers("fal_serverless_queue_idle_runners", began, turn)
        self._shown_queues: dict[str, tuple[set[str], set[str]]] = {}
        self._ledger = _Numbers("fal_exporter_ledger_up", began, turn)
        self._part_failures = _Numbers("fal_exporter_publication_failures_total", began, turn)
        self._part_times = _Numbers("fal_exporter_publication_part_timestamp_seconds", began, turn)
        self._families = tuple(item for item in vars(self).values() if isinstance(item, _Numbers | _Times))
        self._steps.add((), 0)
        self._ledger.set((), 0)
        for job in jobs:
            self._missed.add((job,), 0)

    def expect_account(self, account: str) -> None:
        """Show an account as not locked from the start."""
        for reason in self._lock_reasons:
            self._locked.set((account, reason), 0)

    def expect_source(self, account: str, source: str) -> None:
        """Show a source's counters at zero from the start; whether it is up is known after its first poll."""
        self._polls.add((account, source), 0)
        self._durations.expect((account, source))
        for reason in self._failure_reasons:
            self._failures.add((account, source, reason), 0)

    def poll_began(self, account: str, source: str, at: datetime) -> None:
        """Note that a poll begins."""
        self._attempts.set((account, source), at.timestamp())

    def poll_succeeded(self, account: str, source: str, *, began_at: datetime, seconds: float) -> None:
        """Note that a poll has ended well."""
        self._ended(account, source, seconds)
        self._up.set((account, source), 1)
        self._successes.set((account, source), began_at.timestamp())

    def rows_rejected(self, account: str, source: str, by_reason: Mapping[str, int], *, cost: int) -> None:
        """Show the rows of a source that cannot be read now, by reason, and what they cost in nano-USD."""
        self._rejection_reasons |= by_reason.keys()
        for reason in self._rejection_reasons:
            self._rejected_rows.set((account, source, reason), by_reason.get(reason, 0))
        self._partial.set((account, source), bool(by_reason))
        self._unreadable.set((account, source), cost)

    def poll_failed(self, account: str, source: str, *, reason: str, seconds: float) -> None:
        """Note that a poll has failed; no stamp of success moves."""
        self._ended(account, source, seconds)
        self._up.set((account, source), 0)
        self._failures.add((account, source, reason), 1)

    def ledger_seen(self, *, up: bool) -> None:
        """Note whether the ledger can be read and written."""
        self._ledger.set((), up)

    def expect_part(self, part: str) -> None:
        """Show a part of publications at zero failures from the start."""
        self._part_failures.add((part,), 0)

    def part_made(self, part: str, at: datetime) -> None:
        """Note when a part of a publication was made last."""
        self._part_times.set((part,), at.timestamp())

    def part_failed(self, part: str) -> None:
        """Note that a part of a publication could not be made and stays as it was."""
        self._part_failures.add((part,), 1)

    def source_available(self, account: str, source: str, *, is_available: bool) -> None:
        """Show whether a source could be polled beside those that are."""
        self._available.set((account, source), is_available)

    def source_differences(self, account: str, differences: Mapping[str, int]) -> None:
        """Show by how much the sums of an account differ from fal's, in nano-USD by product; none where not known."""
        for product in self._differing.get(account, set()) - differences.keys():
            self._differences.remove((account, product))
        self._differing[account] = set(differences)
        for product, amount in differences.items():
            self._differences.set((account, product), amount)

    def provider_budgets(self, account: str, budgets: Mapping[str, int]) -> None:
        """Show the budgets that an account has set at fal, in nano-USD by kind (soft or hard); none where not set."""
        self.hard_budgets.pop(account, None)
        if "hard" in budgets:
            self.hard_budgets[account] = budgets["hard"]
        for kind in ("soft", "hard"):
            if kind in budgets:
                self._provider_budgets.set((account, kind), budgets[kind])
            elif (account, kind) in self._shown_budgets:
                self._provider_budgets.remove((account, kind))
        self._shown_budgets = {budget for budget in self._shown_budgets if budget[0] != account} | {
            (account, budget) for budget in budgets
        }

    def queues(self, account: str, sizes: Mapping[str, int], idle: Mapping[str, int]) -> None:
        """Show the requests that wait for each app of an account, and idle nano-runners of apps with a queue."""
        before = self._shown_queues.get(account, (set(), set()))
        shown = ((self._queue_sizes, sizes, 1), (self._queue_idle, idle, NANO))
        for (gauge, values, scale), known in zip(shown, before, strict=True):
            for app in known - values.keys():
                gauge.remove((account, app))
            for app, value in values.items():
                gauge.set((account, app), value / scale)
        self._shown_queues[account] = (set(sizes), set(idle))

    def credit_floor(self, account: str, floor: int) -> None:
        """Show the balance at which fal locks an account, in nano-USD."""
        self._floors.set((account,), floor)

    def run_missed(self, job: str, *, runs: int = 1) -> None:
        """Note that scheduled runs did not start in time."""
        self._missed.add((job,), runs)

    def clock_stepped(self) -> None:
        """Note that the system's clock has been set."""
        self._steps.add((), 1)
        self.clock_steps += 1

    def clock_compared(self, ahead: float) -> None:
        """Note by how many seconds the system's clock is ahead of fal's; negative where it is behind."""
        self._skew.set((), ahead)
        self.clock_ahead = ahead

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """Note fal's answer to one attempt of a call; `code` is "error" when none came."""
        now = time.monotonic()
        if code in _NO_ANSWER or code.startswith("5"):
            if self.unanswered_since is None:
                self.unanswered_since = max(now - seconds, self.answered_at or 0.0)
        else:
            self.unanswered_since, self.answered_at = None, now
        self._requests.add((account, call, code), 1)
        self._request_durations.observe((account, call), seconds)
        self._retries.add((account, call), 0)

    def retried(self, account: str, call: str) -> None:
        """Note that a call is tried again."""
        self._retries.add((account, call), 1)

    def locked(self, account: str, reason: str) -> None:
        """Note why fal has locked an account; a reason noted before holds until it is unlocked."""
        self._lock_reasons.add(reason)
        self._locked.set((account, reason), 1)

    def unlocked(self, account: str) -> None:
        """Note that fal answers for the account again."""
        for reason in self._lock_reasons:
            self._locked.set((account, reason), 0)

    def tables(self) -> tuple[Table, ...]:
        """Return the families as they stand; those without samples have no pages."""
        with self._turn:
            return tuple(Table(item.family, item.family.labels, item.pages()) for item in self._families)

    def rendered(self) -> Rendered:
        """Return the families of the registry as they stand, in every format."""
        return rendered(self._registry)

    def _ended(self, account: str, source: str, seconds: float) -> None:
        self._polls.add((account, source), 1)
        self._durations.observe((account, source), seconds)


class _Numbers:
    """Numbers of a counter or a gauge by the values of its labels."""

    def __init__(self, name: str, began: datetime, turn: threading.RLock) -> None:
        self.family = CATALOGUE[name]
        self._turn = turn
        self._table: PagedTable[tuple[str, ...]] = PagedTable(began if self.family.kind == "counter" else None)

    def set(self, labels: tuple[str, ...], value: float) -> None:
        """Set a number."""
        with self._turn:
            self._table.put(labels, Sample(labels, value))

    def add(self, labels: tuple[str, ...], by: float) -> None:
        """Add to a number, which begins at 0."""
        with self._turn:
            before = self._table.get(labels)
            self._table.put(labels, Sample(labels, by if before is None else before.value + by))

    def remove(self, labels: tuple[str, ...]) -> None:
        """Show a number no more."""
        with self._turn:
            self._table.remove(labels)

    def pages(self) -> Pages:
        """Return the numbers as they stand."""
        return self._table.pages()


_TIMES_OF_PAGE = 16
"""Histograms on a page: each of them is a dozen lines."""


class _Times:
    """Seconds that things took, counted in buckets by the values of its labels."""

    def __init__(self, name: str, bounds: tuple[float, ...], began: datetime, turn: threading.RLock) -> None:
        self.family = CATALOGUE[name]
        self._turn = turn
        self._bounds = (*bounds, math.inf)
        self._began = began
        self._places: dict[tuple[str, ...], int] = {}
        self._counts: list[list[int]] = []
        self._sums: list[float] = []
        self._pages: list[Page] = []
        self._stale: set[int] = set()

    def expect(self, labels: tuple[str, ...]) -> int:
        """Begin a histogram, empty, unless there is one; return its place."""
        with self._turn:
            place = self._places.setdefault(labels, len(self._places))
            if place == len(self._sums):
                self._counts.append([0] * len(self._bounds))
                self._sums.append(0.0)
                self._stale.add(place // _TIMES_OF_PAGE)
            return place

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """Count something that took so long."""
        with self._turn:
            place = self.expect(labels)
            counts = self._counts[place]
            for bucket in range(bisect_left(self._bounds, seconds), len(counts)):
                counts[bucket] += 1
            self._sums[place] += seconds
            self._stale.add(place // _TIMES_OF_PAGE)

    def pages(self) -> Pages:
        """Return the histograms as they stand."""
        labels = list(self._places) if self._stale else []
        for number in sorted(self._stale):
            first, end = number * _TIMES_OF_PAGE, min((number + 1) * _TIMES_OF_PAGE, len(labels))
            page = Page(
                tuple(Sample(labels[place], self._sums[place]) for place in range(first, end)),
                self._bounds,
                tuple(tuple(self._counts[place]) for place in range(first, end)),
                self._began,
            )
            self._pages[number : number + 1] = [page]
        self._stale.clear()
        return tuple(self._pages)
