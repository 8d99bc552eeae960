"""Charges that a test injects into the world: added spend, a restated hour, an hour that arrives late."""

from dataclasses import dataclass, field
from typing import ClassVar

from exporter.simulator.exact import NANO
from exporter.simulator.lines import MODEL_APIS, Line
from exporter.simulator.world import Phase, Record


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


Plant = PlantedSpend | PlantedRevision | PlantedLateness


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


def _is_about(plant: PlantedRevision | PlantedLateness, line: Line) -> bool:
    wanted = ((plant.product, line.product), (plant.model, line.model), (plant.app, line.app))
    return all(not wish or wish == actual for wish, actual in wanted)


def _switched(
    before: list[Phase] | tuple[Phase, ...], after: list[Phase] | tuple[Phase, ...], at: int
) -> tuple[Phase, ...]:
    """Return phases that follow `before` until an instant and `after` from it on."""
    current = [phase for phase in after if phase.start <= at][-1]
    earlier = [phase for phase in before if phase.start < at]
    later = [phase for phase in after if phase.start > at]
    return (*earlier, current._replace(start=at), *later)
