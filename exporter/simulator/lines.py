"""The lines of a bill: every combination of team, product, model or machine, price and key that can be charged."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from exporter.simulator.catalogue import (
    APPS,
    COMPUTE_MACHINES,
    DISCOUNTS,
    LOGINS,
    MODELS,
    SERVERLESS_MACHINES,
    TEAMS,
    Machine,
    Model,
)
from exporter.simulator.exact import HOUR, NANO, SECOND

MODEL_APIS, SERVERLESS, COMPUTE = "model_apis", "serverless", "compute"
PRODUCTS = (MODEL_APIS, SERVERLESS, COMPUTE)

PHASES = (0, 0, 3, 7)
"""Hours by which a line's day can be shifted: users live in several time zones."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that requests are made with: its public id, its name, the team that owns it and who made it."""

    id: str
    detail: str
    team: str
    login: str


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line of the bill; compared by identity.

    Attributes:
        model: the endpoint of a model API line, else empty.
        app, environment: of serverless and compute lines; null where fal leaves them out.
        machine: the machine's name as fal bills it, empty for model APIs.
        gpus: GPU-seconds in a unit: 0 without a GPU; a serverless quantity counts GPU-seconds already.
        price: nano-USD a unit, before discount.
        percent: discount on the list price, None without.
        rate: usual requests an hour; size and step: nano-units of a usual request, and what hours differ by.
        phase: hours by which the line's day is shifted.
        lag: microseconds from a request to its charge; spread: the span over which an hour's requests lie.
        born, dies: hours since 1970 from which and until which the line is used.
    """

    team: str
    product: str
    unit: str
    price: int
    rate: int
    size: int
    step: int
    model: str = ""
    app: str | None = None
    environment: str | None = None
    machine: str = ""
    gpu_class: str = ""
    gpus: int = 0
    surge: bool = False
    percent: int | None = None
    key: ApiKey | None = None
    phase: int = 0
    lag: int = 45 * SECOND
    spread: int = HOUR
    born: int = 0
    dies: int = 2**40

    @property
    def billing_line(self) -> str:
        """What the organization's usage calls the line: the endpoint, or the machine with its app."""
        if self.model:
            return self.model
        place = ", ".join(part for part in (self.app, self.environment) if part)
        return f"type: {self.machine} ({place})" if place else f"type: {self.machine}"


@dataclass(frozen=True, slots=True)
class WorldSize:
    """How large the account is; the default is a busy company, tens of thousands of requests a day.

    Attributes:
        models: model endpoints; beyond the thirty with real names they are numbered.
        callers: keys that use one model, each a line of its own.
        apps: serverless apps, each on one or two machines; compute: compute lines.
    """

    models: int = 30
    callers: int = 2
    apps: int = 12
    compute: int = 3
    teams: int = 5
    api_keys: int = 8

    def __post_init__(self) -> None:
        if min(self.callers, self.teams, self.api_keys) < 1 or min(self.models, self.apps, self.compute) < 0:
            raise ValueError("a world has at least one caller, team and key, and no negative number of anything")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the account lives.

    Attributes:
        busy: factor on the requests of every line.
        lag: seconds from a request to its charge being visible.
        late, revised: lines of 65,536 that, in an hour, arrive late or are revised.
        revised_within: the longest time from an hour's end to its revision, in seconds.
        birth_hours: a new preview model appears once in so many hours.
        life_hours: and is retired after so many.
    """

    busy: int = 1
    lag: int = 45
    late: int = 2_600
    revised: int = 650
    revised_within: int = 90 * 3600
    birth_hours: int = 168
    life_hours: int = 5 * 168


def team_names(size: WorldSize) -> tuple[str, ...]:
    """Return the usernames of the teams, the organization's root first."""
    return tuple(TEAMS[at] if at < len(TEAMS) else f"{TEAMS[0]}-team-{at:03}" for at in range(size.teams))


def api_keys(seed: int, size: WorldSize) -> tuple[ApiKey, ...]:
    """Return the keys that the world's requests are made with."""
    teams = team_names(size)
    chance = Random(f"{seed}:keys")  # noqa: S311  a reproducible world, no secrets
    return tuple(
        ApiKey(
            id=f"{chance.getrandbits(48):012x}",
            detail=f"{('production', 'staging', 'batch')[at % 3]} key {at + 1}",
            team=teams[at % len(teams)],
            login=LOGINS[at % len(LOGINS)],
        )
        for at in range(size.api_keys)
    )


def lines_of(seed: int, size: WorldSize, pace: Pace) -> tuple[Line, ...]:
    """Return every lasting line of a world, the same for the same seed, size and pace."""
    chance = Random(f"{seed}:lines")  # noqa: S311  a reproducible world, no secrets
    return (
        *_model_lines(chance, seed, size, pace),
        *_serverless_lines(chance, size, pace),
        *_compute_lines(size, pace),
    )


def preview_line(seed: int, number: int, keys: tuple[ApiKey, ...], pace: Pace) -> Line:
    """Return the number-th preview model: born in its own span of `birth_hours`, retired after `life_hours`."""
    chance = Random(f"{seed}:preview:{number}")  # noqa: S311  a reproducible world, no secrets
    born = number * pace.birth_hours + chance.randrange(pace.birth_hours)
    model = MODELS[chance.randrange(len(MODELS))]._replace(endpoint_id=f"fal-ai/preview/model-{number}")
    key = keys[chance.randrange(len(keys))]
    return _model_line(model, key, chance, pace, None, born=born, dies=born + pace.life_hours)


def _model_lines(chance: Random, seed: int, size: WorldSize, pace: Pace) -> Iterator[Line]:
    keys = api_keys(seed, size)
    for at in range(size.models):
        model = MODELS[at % len(MODELS)]
        if at >= len(MODELS):
            model = model._replace(endpoint_id=f"fal-ai/catalogue/model-{at:06}")
        first = chance.randrange(len(keys))
        for caller in range(min(size.callers, len(keys))):
            key = keys[(first + caller) % len(keys)]
            percent = DISCOUNTS[chance.randrange(len(DISCOUNTS))]
            yield _model_line(model, key, chance, pace, percent)


def _model_line(
    model: Model, key: ApiKey, chance: Random, pace: Pace, percent: int | None, *, born: int = 0, dies: int = 2**40
) -> Line:
    cheap = max(1, 400_000_000 // (model.price * model.size // NANO))
    return Line(
        team=key.team,
        product=MODEL_APIS,
        model=model.endpoint_id,
        unit=model.unit,
        price=model.price,
        percent=percent,
        key=key,
        rate=pace.busy * min(60, 2 + chance.randrange(4 * cheap + 4)),
        size=model.size,
        step=model.step,
        phase=PHASES[chance.randrange(len(PHASES))],
        lag=pace.lag * SECOND,
        born=born,
        dies=dies,
    )


def _serverless_lines(chance: Random, size: WorldSize, pace: Pace) -> Iterator[Line]:
    teams = team_names(size)
    for at in range(size.apps):
        app = APPS[at % len(APPS)] + (f"-{at // len(APPS)}" if at >= len(APPS) else "")
        machine = SERVERLESS_MACHINES[at % len(SERVERLESS_MACHINES)]
        usual = partial(
            _machine_line,
            team=teams[at % len(teams)],
            app=app,
            environment=(None, "prod", "prod", "staging")[at % 4],
            chance=chance,
            pace=pace,
        )
        percent = DISCOUNTS[(at + 3) % len(DISCOUNTS)]
        yield usual(machine, percent=percent)
        if machine.gpus:
            yield usual(machine, percent=percent, surge=True)
        if at % 3 == 0:
            yield usual(SERVERLESS_MACHINES[6 + at % 4], percent=None)
    if size.apps:
        yield _machine_line(
            SERVERLESS_MACHINES[0], team=teams[0], app=None, environment=None, chance=chance, pace=pace, percent=None
        )


def _machine_line(
    machine: Machine,
    *,
    team: str,
    app: str | None,
    environment: str | None,
    chance: Random,
    pace: Pace,
    percent: int | None,
    surge: bool = False,
) -> Line:
    return Line(
        team=team,
        product=SERVERLESS,
        app=app,
        environment=environment,
        machine=machine.name,
        gpu_class=machine.gpu_class,
        gpus=machine.gpus,
        unit="second",
        price=machine.price * 3 // 2 if surge else machine.price,
        surge=surge,
        percent=percent,
        rate=pace.busy * (4 + chance.randrange(12) if surge else 20 + chance.randrange(60)),
        size=17_250_000_000,
        step=1_371_000_000,
        phase=PHASES[chance.randrange(len(PHASES))],
        lag=pace.lag * SECOND,
    )


def _compute_lines(size: WorldSize, pace: Pace) -> Iterator[Line]:
    teams = team_names(size)
    for at in range(size.compute):
        machine = COMPUTE_MACHINES[at % len(COMPUTE_MACHINES)]
        yield Line(
            team=teams[at % len(teams)],
            product=COMPUTE,
            app=APPS[at % len(APPS)] if at < len(APPS) else f"{APPS[at % len(APPS)]}-{at // len(APPS)}",
            environment="prod",
            machine=machine.name,
            gpu_class=machine.gpu_class,
            gpus=machine.gpus,
            unit="second",
            price=machine.price,
            rate=24 * pace.busy,
            size=NANO * 60 // pace.busy,
            step=0,
            phase=0,
            lag=pace.lag * SECOND,
        )
