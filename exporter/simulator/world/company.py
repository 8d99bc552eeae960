"""The company of the demo: a shop-imaging business of believable size, with one thing of every kind worth seeing.

It spends about seven thousand dollars a month. Since a day ago it tries a new model, a model's price rose four days
ago, one app stands idle most of the time, and soon after the start an hour gets late charges, another a correction, and
the first charges at a new price of another model are seen.
All of it is a function of the seed and of the hour in which the demo starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from random import Random
from typing import NamedTuple

from exporter.simulator.world.exact import HOUR, NANO, SECOND, microseconds
from exporter.simulator.world.injected_charges import Plant, PlantedLateness, PlantedRevision
from exporter.simulator.world.lines import (
    COMPUTE,
    COMPUTE_MACHINES,
    LOGINS,
    MODEL_APIS,
    MODELS,
    PHASES,
    SERVERLESS,
    SERVERLESS_MACHINES,
    TEAMS,
    ApiKey,
    Line,
    Machine,
    Model,
    Pace,
    WorldSize,
)
from exporter.simulator.world.world import Record, World

_PACE = Pace(lag=1, late=2_000, revised=700, revised_within=5_400)
_KEYS = (
    ("production web", 0),
    ("production mobile", 0),
    ("batch catalogue", 2),
    ("staging", 0),
    ("research notebooks", 1),
)
"""Name and number of the team of each key."""

_SIZE = WorldSize(models=12, callers=2, apps=6, compute=1, teams=3, api_keys=len(_KEYS))
_WEB, _MOBILE, _CATALOGUE, _STAGING, _NOTEBOOKS = range(len(_KEYS))


class _Use(NamedTuple):
    """Use of a model by a key: usual requests an hour, and the discount in percent."""

    model: str
    key: int
    rate: int
    percent: int | None = None


_USES = (
    _Use("fal-ai/flux/schnell", _WEB, 420, 10),
    _Use("fal-ai/flux/schnell", _MOBILE, 160, 10),
    _Use("fal-ai/flux/dev", _WEB, 40, 10),
    _Use("fal-ai/nano-banana", _MOBILE, 24),
    _Use("fal-ai/kling-video/v2.5-turbo/pro/image-to-video", _CATALOGUE, 2),
    _Use("fal-ai/minimax/hailuo-02/standard/image-to-video", _CATALOGUE, 1),
    _Use("fal-ai/clarity-upscaler", _CATALOGUE, 11),
    _Use("fal-ai/birefnet/v2", _CATALOGUE, 300),
    _Use("fal-ai/birefnet/v2", _WEB, 120),
    _Use("fal-ai/elevenlabs/tts/turbo-v2.5", _WEB, 8),
    _Use("fal-ai/whisper", _MOBILE, 900),
    _Use("fal-ai/qwen-image", _NOTEBOOKS, 4),
    _Use("fal-ai/flux/dev", _STAGING, 2),
)


class _App(NamedTuple):
    """A serverless app on a machine: usual requests an hour, and those on surge capacity; seconds of a request."""

    name: str
    team: int
    environment: str | None
    machine: str
    rate: int
    surge: int = 0
    size: int = 17_250_000_000
    step: int = 1_371_000_000


_APPS = (
    _App("virtual-tryon", 0, "prod", "GPU-H100", 38, 3),
    _App("relight", 2, "prod", "GPU-A100", 55),
    _App("lora-trainer", 1, None, "GPU-H100", 14),
    _App("search-embeddings", 0, "prod", "XS", 6_600),
    _App("virtual-tryon", 0, "staging", "GPU-A6000", 6),
    # Few requests, after each of which its runner waits for most of its keep-alive of a minute.
    _App("upscale-preview", 2, "staging", "GPU-A100", 10, size=66 * NANO, step=2 * NANO),
)
IDLE_APP = "upscale-preview"
"""The app whose runners wait most of the time."""

DEARER_MODEL, OLD_PRICE, _DEARER_SINCE = "fal-ai/flux-pro/kontext", 36_000_000, 4 * 24
"""The model whose price rose days before the start, and its price until then."""

REPRICED_MODEL = "fal-ai/birefnet/v2"
"""The model whose price rises with the hour of the start; its first charges of that hour are seen minutes later."""

_PRICE_BEFORE = 500_000
_NEW_MODEL = Model("fal-ai/veo3.1/fast/image-to-video", "second", 150_000_000, 4 * NANO, 2 * NANO)
_NEW_SINCE = 26
_QUIET = 24
_LATE_FOR, _CORRECTED_AFTER, _REPRICED_AFTER = 150 * SECOND, 240 * SECOND, 180 * SECOND
_KEPT, _SEEN_BEFORE = 40, 20
"""Percent of the corrected model's requests that stay, and of the late app's requests that are seen at once."""


@dataclass(frozen=True)
class Company(World):
    """The world of the demo.

    Attributes:
        start: hour (since 1970) in which the demo starts.
    """

    size: WorldSize = _SIZE
    pace: Pace = _PACE
    top_up: int = 1_500 * NANO
    start: int = field(default=0, kw_only=True)

    @cached_property
    def keys(self) -> tuple[ApiKey, ...]:
        """Keys of the callers."""
        chance = Random(f"{self.seed}:keys")  # noqa: S311  a reproducible world, no secrets
        return tuple(
            ApiKey(f"{chance.getrandbits(48):012x}", name, TEAMS[team], LOGINS[number])
            for number, (name, team) in enumerate(_KEYS)
        )

    @property
    def past_the_gateway(self) -> ApiKey:
        """The key that is used without the gateway that books what requests cost."""
        return self.keys[_STAGING]

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Lines that are used the whole time, at the prices of the start."""
        chance = Random(f"{self.seed}:lines")  # noqa: S311  a reproducible world, no secrets
        prices = {model.endpoint_id: model for model in MODELS}
        return (
            *(self._of_model(prices[use.model], use.key, use.rate, chance, use.percent) for use in _USES),
            *(line for app in _APPS for line in _of_app(app, chance)),
            _of_machine(COMPUTE_MACHINES[1]),
        )

    @cached_property
    def changes(self) -> tuple[Line, ...]:
        """Lines that begin or end around the start: the model whose price rises, before and after, and the new one."""
        chance = Random(f"{self.seed}:changes")  # noqa: S311  a reproducible world, no secrets
        dearer = next(model for model in MODELS if model.endpoint_id == DEARER_MODEL)
        after = self._of_model(dearer, _WEB, 14, chance)
        since = self.start - _DEARER_SINCE
        return (
            replace(after, price=OLD_PRICE, dies=since),
            replace(after, born=since),
            replace(self._of_model(_NEW_MODEL, _CATALOGUE, 2, chance), born=self.start - _NEW_SINCE),
        )

    @cached_property
    def _before(self) -> dict[Line, Line]:
        """The lines of the repriced model at its earlier price."""
        return {line: replace(line, price=_PRICE_BEFORE) for line in self.lines if line.model == REPRICED_MODEL}

    def records(self, hour: int) -> list[Record]:
        """Return the final records of every line in an hour, at the prices of that hour."""
        found = super().records(hour)
        if hour >= self.start:
            return found
        return [record._replace(line=self._before.get(record.line, record.line)) for record in found]

    def previews(self, hour: int) -> Iterator[Line]:
        """Yield the lines of `changes` that are in use in an hour (hours since 1970)."""
        return (line for line in self.changes if line.born <= hour < line.dies)

    def incident(self, hour: int) -> int:
        """Return the delay of an hour's charges in microseconds; there is none from the day before the start on."""
        return super().incident(hour) if hour < self.start - _QUIET else 0

    def _of_model(self, model: Model, key: int, rate: int, chance: Random, percent: int | None = None) -> Line:
        return Line(
            team=self.keys[key].team,
            product=MODEL_APIS,
            model=model.endpoint_id,
            unit=model.unit,
            price=model.price,
            percent=percent,
            key=self.keys[key],
            rate=rate,
            size=model.size,
            step=model.step,
            phase=PHASES[chance.randrange(len(PHASES))],
            lag=_PACE.lag * SECOND,
        )


def company(seed: int, now: datetime) -> Company:
    """Return the company of a demo that starts at an instant."""
    return Company(seed, start=microseconds(now) // HOUR)


def company_events(now: datetime) -> tuple[Plant, ...]:
    """Return the late charges and the correction that arrive minutes after an instant.

    Both are of the hour before it, which is never one of a month whose invoice has been issued. In the hour of the
    instant a model has a new price, which shows after those of the hours before.
    """
    at = microseconds(now)
    hour = at // HOUR - 1
    return (
        PlantedLateness(hour + 1, at + _REPRICED_AFTER, product=MODEL_APIS, model=REPRICED_MODEL),
        PlantedLateness(hour, at + _LATE_FOR, _SEEN_BEFORE, product=SERVERLESS, app="virtual-tryon"),
        PlantedRevision(hour, _KEPT, at + _CORRECTED_AFTER, product=MODEL_APIS, model="fal-ai/nano-banana"),
    )


def _of_app(app: _App, chance: Random) -> Iterator[Line]:
    machine = next(machine for machine in SERVERLESS_MACHINES if machine.name == app.machine)
    usual = Line(
        team=TEAMS[app.team],
        product=SERVERLESS,
        app=app.name,
        environment=app.environment,
        machine=machine.name,
        gpu_class=machine.gpu_class,
        gpus=machine.gpus,
        unit="second",
        price=machine.price,
        rate=app.rate,
        size=app.size,
        step=app.step,
        phase=PHASES[chance.randrange(len(PHASES))],
        lag=_PACE.lag * SECOND,
    )
    yield usual
    if app.surge:
        yield replace(usual, price=machine.price * 3 // 2, surge=True, rate=app.surge)


def _of_machine(machine: Machine) -> Line:
    return Line(
        team=TEAMS[1],
        product=COMPUTE,
        app="fine-tuning",
        environment="prod",
        machine=machine.name,
        gpu_class=machine.gpu_class,
        gpus=machine.gpus,
        unit="second",
        price=machine.price,
        rate=18,
        size=60 * NANO,
        step=0,
        lag=_PACE.lag * SECOND,
    )
