"""What a user decides about the ledger's figures."""

from dataclasses import dataclass, field
from datetime import timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Rules:
    """How the ledger is to publish.

    Attributes:
        labels: the labels of charge-derived families.
        max_series: how many label sets are admitted before new ones are folded.
        birth_hold: how long a new counter is held at zero, at the least.
        settle_delay: after this time an hour counts as settled.
        zone: whose days and months "today" and "month" are.
    """

    labels: tuple[str, ...] = ("account", "team", "product", "model", "app", "gpu_class")
    max_series: int = 10_000
    birth_hold: timedelta = timedelta(minutes=2)
    settle_delay: timedelta = timedelta(hours=48)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
