"""Charges that a test injects into the world: added spend, a restated, a late and a relabelled hour."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

from exporter.simulator.world.exact import NANO
from exporter.simulator.world.lines import LOGINS, MODEL_APIS, ApiKey, Line
from exporter.simulator.world.world import Phase, Record

LABELS = ("team", "model", "app", "environment", "api_key")
"""Labels that a relabelling may change; `api_key` is the id of a key."""


@dataclass(frozen=True, slots=True)
class PlantedSpend:
    """A charge added to the world, such as the glitched job of 40,500 USD.

    Attributes:
        hour: the hour (since 1970) at whose start the request was made.
        line: the charged line; `GlitchedJob.line` makes one.
        visible_from: the instant (microseconds) from which the charge is visible; 0 for at once.
    """

    name: ClassVar[str] = "planted_spend"
    hour: int
    line: Line
    visible_from: int = 0

    def apply(self, records: list[Record]) -> list[Record]:
        """Return the hour's records with the charge added."""
        line = self.line
        phases: tuple[Phase, ...] = (Phase(0, 1, line.percent),)
        if self.visible_from:
            phases = (Phase(0, 0, line.percent), Phase(self.visible_from, 1, line.percent))
        return [*records, Record(line, 1, line.size, phases)]


@dataclass(frozen=True, slots=True)
class PlantedRevision:
    """An hour restated from an instant on: to a percentage of its requests, above or below 100.

    Attributes:
        at: the instant (microseconds) of the restatement; 0 for always.
        product, model, app: the affected lines; empty for all.
    """

    name: ClassVar[str] = "planted_revision"
    hour: int
    percent: int
    at: int = 0
    product: str = ""
    model: str = ""
    app: str = ""

    def apply(self, records: list[Record]) -> list[Record]:
        """Return the hour's records with the matching ones restated."""
        return [self._restated(record) if _is_about(self, record.line) else record for record in records]

    def _restated(self, record: Record) -> Record:
        count = max(record.requests, record.requests * self.percent // 100)
        after = [phase._replace(cap=phase.cap * self.percent // 100) for phase in record.phases]
        return record._replace(requests=count, phases=_switched(record.phases, after, self.at))


@dataclass(frozen=True, slots=True)
class PlantedLateness:
    """An hour of which only a percentage of the requests is visible before an instant (microseconds)."""

    name: ClassVar[str] = "planted_lateness"
    hour: int
    until: int
    percent_before: int = 0
    product: str = ""
    model: str = ""
    app: str = ""

    def apply(self, records: list[Record]) -> list[Record]:
        """Return the hour's records with the matching ones late."""
        return [self._late(record) if _is_about(self, record.line) else record for record in records]

    def _late(self, record: Record) -> Record:
        before = [phase._replace(cap=phase.cap * self.percent_before // 100) for phase in record.phases]
        return record._replace(phases=_switched(before, record.phases, self.until))


@dataclass(frozen=True, slots=True)
class PlantedRelabelling:
    """An hour whose charges carry other labels from an instant on, while its sum stays.

    Attributes:
        at: the instant (microseconds) of the change; 0 for always.
        product, model, app, team: the affected lines; empty for all.
        labels: new values by label, of LABELS; an empty app, environment or api_key is null.
    """

    name: ClassVar[str] = "planted_relabelling"
    hour: int
    labels: tuple[tuple[str, str], ...]
    at: int = 0
    product: str = ""
    model: str = ""
    app: str = ""
    team: str = ""

    def __post_init__(self) -> None:
        for label, _ in self.labels:
            if label not in LABELS:
                raise ValueError(f"a relabelling gives new values of {', '.join(LABELS)}, not of {label!r}")

    def apply(self, records: list[Record]) -> list[Record]:
        """Return the hour's records, the matching ones also under their new labels."""
        return [part for record in records for part in (self._parts(record) if self._is_about(record) else [record])]

    def _is_about(self, record: Record) -> bool:
        return _is_about(self, record.line) and self.team in {"", record.line.team}

    def _parts(self, record: Record) -> list[Record]:
        moved = record._replace(line=_relabelled(record.line, self.labels))
        if not self.at:
            return [moved]
        none = [phase._replace(cap=0) for phase in record.phases]
        return [
            record._replace(phases=_switched(record.phases, none, self.at)),
            moved._replace(phases=_switched(none, record.phases, self.at)),
        ]


Plant = PlantedSpend | PlantedRevision | PlantedLateness | PlantedRelabelling


@dataclass(frozen=True, slots=True, kw_only=True)
class GlitchedJob:
    """Labels of an added charge, as fal would name them; serverless and compute lines have an app and a machine."""

    team: str = "acme"
    product: str = MODEL_APIS
    model: str = "fal-ai/glitched-job"
    app: str | None = None
    environment: str | None = None
    machine: str = ""
    gpu_class: str = ""
    gpus: int = 0
    unit: str = "video"
    quantity: int = field(default=NANO)

    def line(self, amount: int) -> Line:
        """Return the line whose quantity costs exactly `amount` nano-USD.

        Raises:
            ValueError: no price in whole nano-USD a unit times the quantity gives the amount.
        """
        price, rest = divmod(amount * NANO, self.quantity)
        if rest or amount < 0:
            raise ValueError("the planted amount must be positive and a whole number of nano-USD for each unit")
        return Line(
            team=self.team,
            product=self.product,
            unit=self.unit,
            price=price,
            rate=0,
            size=self.quantity,
            step=0,
            model=self.model,
            app=self.app,
            environment=self.environment,
            machine=self.machine,
            gpu_class=self.gpu_class,
            gpus=self.gpus,
            lag=0,
            spread=2,
        )


def _is_about(plant: PlantedRevision | PlantedLateness | PlantedRelabelling, line: Line) -> bool:
    wanted = ((plant.product, line.product), (plant.model, line.model), (plant.app, line.app))
    return all(not wish or wish == actual for wish, actual in wanted)


@lru_cache(maxsize=4096)
def _relabelled(line: Line, labels: tuple[tuple[str, str], ...]) -> Line:
    """Return a line under other labels: always the same object for the same line, as lines are compared by identity."""
    new = dict(labels)
    key = line.key
    if "api_key" in new:
        key = ApiKey(new["api_key"], f"key {new['api_key']}", line.team, LOGINS[0]) if new["api_key"] else None
    return replace(
        line,
        team=new.get("team", line.team),
        model=new.get("model", line.model),
        app=new["app"] or None if "app" in new else line.app,
        environment=new["environment"] or None if "environment" in new else line.environment,
        key=key,
    )


def _switched(
    before: list[Phase] | tuple[Phase, ...], after: list[Phase] | tuple[Phase, ...], at: int
) -> tuple[Phase, ...]:
    """Return phases that follow `before` until an instant and `after` from it on."""
    current = [phase for phase in after if phase.start <= at][-1]
    earlier = [phase for phase in before if phase.start < at]
    later = [phase for phase in after if phase.start > at]
    return (*earlier, current._replace(start=at), *later)
