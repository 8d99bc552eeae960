"""Outcome of a comparison as numbers alone, which cross from the process that compares to the collector."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """Sums of a comparison, in nano-USD.

    Attributes:
        end: of the window.
        differences: booked less charged, by model.
        findings: requests, and booked less charged, by the name of the finding.
    """

    end: datetime
    booked: int
    charged: int
    differences: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def off(self) -> int:
        """Sum of what is booked too high and of what is booked too low; what is not compared yet is neither."""
        return sum(abs(amount) for name, (_, amount) in self.findings.items() if name != "not_read")

    @property
    def written(self) -> bytes:
        """The outcome as JSON."""
        document = {
            "end": self.end.isoformat(),
            "booked": self.booked,
            "charged": self.charged,
            "differences": dict(self.differences),
            "findings": dict(self.findings),
        }
        return json.dumps(document).encode()

    @classmethod
    def read(cls, text: bytes) -> "Outcome":
        """Read what `written` has."""
        found = json.loads(text)
        return cls(
            datetime.fromisoformat(found["end"]),
            found["booked"],
            found["charged"],
            found["differences"],
            {name: (number, amount) for name, (number, amount) in found["findings"].items()},
        )
