"""What one source said of one window."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from exporter.charges import Charge, UnitPrice, Window


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything one source said of one window; it replaces whatever the source said of it before.

    Attributes:
        charges: summed, one for every hour and combination of dimensions.
        prices: one for every product, model, app, GPU class and unit.
        rejected: how many rows were not understood, by reason (one of `exporter.fal.rejections.REJECTIONS`).
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
            CallError: every kind of failure; see `exporter.fal.errors`.
        """
