"""Sums of an hour's requests, kept beside the requests: what metrics, pages and the comparison with the ledger need.

They are small (some hundred bytes for a model), so that none of these has to read the requests themselves. Costs are
counted into the buckets of a classic histogram, and into those of a native one: bucket `i` of schema 3 holds costs
above 2 ** ((i - 1) / 8) and up to 2 ** (i / 8) US dollars.
"""

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, NotRequired, TypedDict

from exporter.charges import HOUR, NANO, Window

BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 100.0)
"""Upper bounds in US dollars; one without a bound follows."""

SCHEMA = 3
"""Of the native histogram: eight buckets for each doubling."""

DEAREST = 10
"""Requests kept of every hour, the dearest first."""

OTHER = "__other__"

_NANO_BOUNDS = tuple(round(bound * NANO) for bound in BUCKETS)


def bucket_of(cost: int) -> int:
    """Return the index of the classic bucket that holds a cost in nano-USD."""
    return bisect_left(_NANO_BOUNDS, cost)


class DearRequest(NamedTuple):
    """A request among the dearest, or one that stands for its bucket; cost in nano-USD."""

    cost: int
    request_id: str
    model: str
    at: datetime


@dataclass(slots=True)
class ModelCosts:
    """Costs of a model's requests.

    Both histograms are made from the same cells, so that they always have the same count, also where several readings
    of an hour have been laid over each other.

    Attributes:
        cost: nano-USD.
        cells: requests by classic bucket and index of the native one, which is None for those that cost nothing.
    """

    cost: int = 0
    cells: Counter[tuple[int, int | None]] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(self.cells.values())

    @property
    def buckets(self) -> Counter[int]:
        """Requests by classic bucket, not cumulative."""
        found: Counter[int] = Counter()
        for (bucket, _), count in self.cells.items():
            found[bucket] += count
        return found

    @property
    def native(self) -> Counter[int]:
        """Requests by index of the native bucket; those that cost nothing are in none."""
        found: Counter[int] = Counter()
        for (_, index), count in self.cells.items():
            if index is not None:
                found[index] += count
        return found

    @property
    def free(self) -> int:
        """Requests that cost nothing."""
        return sum(count for (_, index), count in self.cells.items() if index is None)

    def add(self, other: "ModelCosts") -> None:
        """Add those of another span."""
        self.cost += other.cost
        self.cells.update(other.cells)

    def raise_to(self, other: "ModelCosts") -> None:
        """Take the larger of each count."""
        self.cost = max(self.cost, other.cost)
        self.cells |= other.cells

    def copy(self) -> "ModelCosts":
        """Return the same, to be changed."""
        return ModelCosts(self.cost, Counter(self.cells))


def quantile(costs: ModelCosts, share: float) -> float | None:
    """Return the cost in US dollars that a share of the requests does not exceed; None without requests.

    It is interpolated in a native bucket, whose width is 9 %: so it is within 4.5 % of the true one.
    """
    requests, native, seen = costs.requests, costs.native, costs.free
    if not requests:
        return None
    rank = share * requests
    if rank <= seen:
        return 0.0
    for index in sorted(native):
        count = native[index]
        if rank <= seen + count:
            return float(2 ** ((index - 1 + (rank - seen) / count) / 2**SCHEMA))
        seen += count
    return float(2 ** (max(native) / 2**SCHEMA))


@dataclass(frozen=True, slots=True)
class HourSummary:
    """Sums of an hour that has been read to its end.

    Attributes:
        read_at: when that reading began.
        models: by endpoint.
        dearest: at most DEAREST, the dearest first.
        samples: the dearest of each model and bucket; not kept with the summary.
        rejected: rows of the reading that could not be read, so that their requests are missing.
    """

    hour: datetime
    read_at: datetime
    models: Mapping[str, ModelCosts]
    dearest: tuple[DearRequest, ...] = ()
    samples: tuple[DearRequest, ...] = field(default=(), compare=False)
    rejected: int = 0

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(costs.requests for costs in self.models.values())


class _Hour(TypedDict):
    """Part of an hour's sums that says that it has been read."""

    hour: str
    rejected: NotRequired[int]


class SummaryError(ValueError):
    """A document is not one of summaries; it is then made anew."""


def written(summaries: Iterable[HourSummary]) -> bytes:
    """Return summaries as a JSON document."""
    return json.dumps(
        [
            {
                "hour": summary.hour.isoformat(),
                "read_at": summary.read_at.isoformat(),
                "models": {
                    model: [costs.cost, [[*cell, count] for cell, count in costs.cells.items()]]
                    for model, costs in summary.models.items()
                },
                "dearest": [[dear.cost, dear.request_id, dear.model, dear.at.isoformat()] for dear in summary.dearest],
                "rejected": summary.rejected,
            }
            for summary in summaries
        ],
        separators=(",", ":"),
    ).encode()


def read(document: bytes) -> tuple[HourSummary, ...]:
    """Read a document that `written` has made.

    Raises:
        SummaryError: the document is not valid.
    """
    try:
        entries = json.loads(document)
        entries.sort(key=lambda entry: str(entry["hour"]))
        return tuple(
            HourSummary(
                hour=_instant(entry["hour"]),
                read_at=_instant(entry["read_at"]),
                models={
                    model: ModelCosts(cost, Counter({(bucket, native): count for bucket, native, count in cells}))
                    for model, (cost, cells) in entry["models"].items()
                },
                dearest=tuple(
                    DearRequest(cost, request_id, model, _instant(at))
                    for cost, request_id, model, at in entry["dearest"]
                ),
                rejected=int(entry.get("rejected", 0)),
            )
            for entry in entries
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SummaryError(str(error)) from None


def with_summary(document: bytes | None, summary: HourSummary) -> bytes:
    """Return a document with a summary in place of what it has of the hour; an invalid one is begun anew.

    The other hours stay as they are written: a day's document is added to 24 times, and read whole it takes longer
    than keeping a thousand requests.
    """
    # It comes with the extra `events`, without which there is no store.
    import msgspec

    entries: list[bytes] = []
    if document is not None:
        try:
            entries += [
                bytes(entry)
                for entry in msgspec.json.decode(document, type=list[msgspec.Raw])
                if _instant(msgspec.json.decode(entry, type=_Hour)["hour"]) != summary.hour
            ]
        except (msgspec.MsgspecError, ValueError):
            entries.clear()
    return b"[" + b",".join([*entries, written([summary])[1:-1]]) + b"]"


def read_hours(document: bytes) -> dict[datetime, int]:
    """Return the hours of a document that `written` has made, each with the number of its rejected rows.

    Nothing else of the document is made objects, so that a question about a month can look into its 30 documents.

    Raises:
        SummaryError: the document is not valid.
    """
    # It comes with the extra `events`, without which there is no store.
    import msgspec

    try:
        found = msgspec.json.decode(document, type=list[_Hour])
        return {_instant(one["hour"]): one.get("rejected", 0) for one in found}
    except (msgspec.MsgspecError, ValueError) as error:
        raise SummaryError(str(error)) from None


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Difference(NamedTuple):
    """An hour and model whose requests do not add up to what the ledger charges; nano-USD."""

    hour: datetime
    model: str
    requests: int
    events: int
    ledger: int

    @property
    def amount(self) -> int:
        """By how much the requests exceed the ledger."""
        return self.events - self.ledger


@dataclass(frozen=True, slots=True)
class Compared:
    """Requests beside the ledger, over hours that both have.

    Attributes:
        window: from the first hour compared to the end of the last; None where there is none.
        hours: how many have been compared.
        events: what their requests cost in nano-USD.
        by_model: requests less ledger in nano-USD, of every model that either has.
        differences: what differs, oldest first.
    """

    window: Window | None
    hours: int
    events: int
    by_model: Mapping[str, int]
    differences: tuple[Difference, ...]


def compare(summaries: Iterable[HourSummary], charged: Mapping[tuple[datetime, str], int]) -> Compared:
    """Compare requests with the ledger, hour by hour and model by model.

    Args:
        summaries: of the hours to compare.
        charged: what the ledger charges for model endpoints in these hours, by hour and model; no charge is 0.
    """
    by_model: defaultdict[str, int] = defaultdict(int)
    charged_models: defaultdict[datetime, set[str]] = defaultdict(set)
    for hour, model in charged:
        charged_models[hour].add(model)
    differences, hours, events = [], [], 0
    for summary in sorted(summaries, key=lambda summary: summary.hour):
        hours.append(summary.hour)
        for model in sorted(charged_models[summary.hour] | summary.models.keys()):
            costs = summary.models.get(model, ModelCosts())
            ledger = charged.get((summary.hour, model), 0)
            events += costs.cost
            by_model[model] += costs.cost - ledger
            if costs.cost != ledger:
                differences.append(Difference(summary.hour, model, costs.requests, costs.cost, ledger))
    window = Window(hours[0], hours[-1] + HOUR) if hours else None
    return Compared(window, len(hours), events, dict(by_model), tuple(differences))


def totals(summaries: Iterable[HourSummary]) -> dict[str, ModelCosts]:
    """Return the costs by model over several hours."""
    found: dict[str, ModelCosts] = {}
    for summary in summaries:
        for model, costs in summary.models.items():
            found.setdefault(model, ModelCosts()).add(costs)
    return found


def dearest(summaries: Iterable[HourSummary]) -> tuple[DearRequest, ...]:
    """Return the dearest requests of several hours, the dearest first."""
    found = [dear for summary in summaries for dear in summary.dearest]
    return tuple(sorted(found, key=lambda dear: (-dear.cost, dear.request_id))[:DEAREST])
