"""Recent requests: what those of the last day cost by model, and the dearest of them, for the landing page.

They are made from the sums that are kept of every hour, so that neither a page nor a publication reads the requests.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from exporter.charges import HOUR
from exporter.events.summaries import DEAREST, HourSummary, ModelCosts, quantile, totals
from exporter.publication import DearestRequest, RecentRequests, RequestsOfModel

_SPAN = timedelta(hours=24)
_MOST_MODELS = 8

Read = tuple[tuple[str, HourSummary], ...]
"""Hours that have been read to their end, with their accounts."""


class ReadsRequests(Protocol):
    """Reads the requests of an account, as `exporter.polling.requests.RequestsPoller` does."""

    name: str

    @property
    def hours(self) -> Sequence[HourSummary]:
        """The sums of the hours that have been read to their end."""


class RecentRequestsMaker:
    """Sums up the hours of the last day, of all accounts together; anew only where another hour has been read.

    Args:
        pollers: read the requests of each account; may be filled later.
    """

    def __init__(self, pollers: Sequence[ReadsRequests]) -> None:
        self._pollers = pollers
        self._key: tuple[tuple[str, datetime, datetime], ...] = ()
        self._made: RecentRequests | None = None

    def __call__(self) -> RecentRequests | None:
        """Return the sums; None before an hour has been read."""
        hours = [(poller.name, summary) for poller in self._pollers for summary in poller.hours]
        newest = max((summary.hour for _, summary in hours), default=None)
        if newest is None:
            return None
        recent = tuple((name, summary) for name, summary in hours if summary.hour > newest - _SPAN)
        key = tuple((name, summary.hour, summary.read_at) for name, summary in recent)
        if key != self._key:
            self._key, self._made = key, recent_requests(recent, [poller.name for poller in self._pollers])
        return self._made


def recent_requests(hours: Read, accounts: Sequence[str] = ()) -> RecentRequests:
    """Return what the requests of some hours cost by model, the most expensive models and requests first.

    Args:
        hours: of all accounts.
        accounts: all accounts whose requests are read; their hours that are missing are named.
    """
    by_model = sorted(totals(summary for _, summary in hours).items(), key=lambda item: (-item[1].cost, item[0]))
    rest = ModelCosts()
    for _, costs in by_model[_MOST_MODELS:]:
        rest.add(costs)
    dearest = sorted(
        (
            DearestRequest(name, dear.request_id, dear.model, dear.at, dear.cost)
            for name, summary in hours
            for dear in summary.dearest
        ),
        key=lambda dear: (-dear.cost, dear.request_id),
    )
    since = min(summary.hour for _, summary in hours)
    through = max(summary.hour for _, summary in hours) + HOUR
    return RecentRequests(
        since=since,
        through=through,
        models=tuple(_of_model(model, costs) for model, costs in by_model[:_MOST_MODELS]),
        others=len(by_model[_MOST_MODELS:]),
        rest=_of_model("", rest) if rest.requests else None,
        dearest=tuple(dearest[:DEAREST]),
        notes=tuple(_notes(hours, accounts, (through - since) // HOUR)),
    )


def _notes(hours: Read, accounts: Sequence[str], expected: int) -> Iterator[str]:
    """Yield what is missing of a number of hours of each account."""
    for account in accounts:
        read = [summary for name, summary in hours if name == account]
        if len(read) < expected:
            missing = "1 hour" if expected - len(read) == 1 else f"{expected - len(read)} hours"
            yield f"{missing} of account {account} not read yet, and not in these figures."
        rejected = sum(summary.rejected for summary in read)
        if rejected:
            rows = "1 row" if rejected == 1 else f"{rejected} rows"
            yield f"{rows} of account {account} cannot be read, and not in these figures."


def _of_model(model: str, costs: ModelCosts) -> RequestsOfModel:
    return RequestsOfModel(
        model, costs.requests, costs.cost, *(quantile(costs, share) or 0.0 for share in (0.5, 0.95, 0.99))
    )
