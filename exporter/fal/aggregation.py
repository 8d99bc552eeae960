"""Aggregation of rows: what one source reports of one window.

What one source said of one window.

Adding up the rows of one reading.

Fal splits what one combination of dimensions cost in an hour over several rows: by price, discount, key, surge. The
tally sums them and knows which hours were asked for: fal may widen a window, and what lies outside belongs to another
poll.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from exporter.charges import Amounts, Charge, Dimensions, UnitPrice, Window, hour_of
from exporter.fal.rows import RejectedError, Rejection, Rejections, instant


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything one source said of one window; it replaces whatever the source said of it before.

    Attributes:
        charges: summed, one for every hour and combination of dimensions.
        prices: one for every product, model, app, GPU class and unit.
        rejected: how many rows were not understood, by reason (one of `exporter.fal.rows.REJECTIONS`).
    """

    account: str
    source: str
    window: Window
    charges: tuple[Charge, ...]
    prices: tuple[UnitPrice, ...]
    rejected: Mapping[str, int]


class UsageSource(Protocol):
    """One of fal's interfaces that yields charges; lives as long as its client."""

    name: str

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:
        """Read a window to its end, or fail without a result.

        Args:
            window: whole UTC hours; the last may still be running.
            with_api_key: whether to ask for charges by key, where the interface can tell.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`.
        """


_LARGEST = 2**63 - 1


class Tally:
    """The sums of one reading while its rows come in."""

    def __init__(self, account: str, source: str, window: Window, rejections: Rejections) -> None:
        self._account = account
        self._source = source
        self._window = window
        self._rejections = rejections
        self._rejected: Counter[str] = Counter()
        self._hours: dict[datetime, dict[Dimensions, Amounts]] = {}
        self._stamps: dict[object, datetime | Rejection] = {}

    def reject(self, reason: Rejection, row: object) -> None:
        """Count a row that is not understood."""
        self._rejections.reject(self._rejected, self._source, reason, row)

    def hour(self, stamp: object) -> datetime | Rejection:
        """Return the hour that a bucket's stamp names, or why its rows cannot be taken."""
        if not isinstance(stamp, str):
            return Rejection.BUCKET
        known = self._stamps.get(stamp)
        if known is None:
            known = self._stamps[stamp] = self._hour(stamp)
        return known

    def _hour(self, stamp: str) -> datetime | Rejection:
        try:
            hour = instant(stamp)
        except RejectedError as error:
            return error.reason
        if hour != hour_of(hour) or "T" not in stamp.upper().replace(" ", "T"):
            return Rejection.BUCKET
        return hour if hour in self._window else Rejection.OUTSIDE_WINDOW

    def add(self, hour: datetime, dimensions: Dimensions, amounts: Amounts) -> None:
        """Add one row to its charge.

        Raises:
            RejectedError: the sum is too large for a ledger.
        """
        charges = self._hours.get(hour)
        if charges is None:
            charges = self._hours[hour] = {}
        known = charges.get(dimensions)
        total = amounts if known is None else known.plus(amounts)
        # None is negative, so that the union of their bits passes the limit if one of them does.
        if total.quantity | total.gpu_seconds | total.list_cost > _LARGEST:
            raise RejectedError(Rejection.OUT_OF_RANGE)
        charges[dimensions] = total

    def reading(self, prices: tuple[UnitPrice, ...] = ()) -> Reading:
        """Return the sums, with the prices that were seen."""
        return Reading(
            account=self._account,
            source=self._source,
            window=self._window,
            charges=tuple(
                Charge(hour, dimensions, amounts)
                for hour, charges in self._hours.items()
                for dimensions, amounts in charges.items()
            ),
            prices=prices,
            rejected=dict(self._rejected),
        )
