"""Catalogue and bill lines: what can be bought, and every combination of team, product, price and key charged.

List prices are those that fal publishes (2026-09), in nano-USD a unit.
"""

from binascii import crc32
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import NamedTuple

from exporter.simulator.world.exact import HOUR, NANO, SECOND


class Model(NamedTuple):
    """A model endpoint: `size` of a usual request in nano-units of `unit`, `step` between sizes."""

    endpoint_id: str
    unit: str
    price: int
    size: int
    step: int


class Machine(NamedTuple):
    """A machine of serverless or compute: `price` of a (GPU-)second, `gpus` 0 for a CPU machine."""

    name: str
    gpu_class: str
    gpus: int
    price: int


_ONE = 10**9
_IMAGE = (_ONE, _ONE)
_CLIP = (5 * _ONE, 5 * _ONE)
_MEGAPIXEL = (1_048_576_000, 262_144_000)
_TEXT = (742_000_000, 113_000_000)
_COMPUTE = (2_300_000_000, 417_125_000)

MODELS = (
    Model("fal-ai/flux/dev", "image", 25_000_000, *_IMAGE),
    Model("fal-ai/flux/schnell", "megapixel", 3_000_000, *_MEGAPIXEL),
    Model("fal-ai/nano-banana", "image", 39_800_000, *_IMAGE),
    Model("fal-ai/bytedance/seedream/v4/text-to-image", "image", 30_000_000, *_IMAGE),
    Model("fal-ai/kling-video/v2.5-turbo/pro/image-to-video", "second", 70_000_000, *_CLIP),
    Model("fal-ai/veo3", "second", 400_000_000, *_CLIP),
    Model("fal-ai/wan-25-preview/text-to-video", "second", 50_000_000, *_CLIP),
    Model("fal-ai/elevenlabs/tts/turbo-v2.5", "1k_characters", 50_000_000, *_TEXT),
    Model("fal-ai/minimax/hailuo-02/standard/image-to-video", "second", 45_000_000, *_CLIP),
    Model("fal-ai/flux-pro/kontext", "image", 40_000_000, *_IMAGE),
    Model("fal-ai/flux-lora", "megapixel", 35_000_000, *_MEGAPIXEL),
    Model("fal-ai/recraft/v3/text-to-image", "image", 40_000_000, *_IMAGE),
    Model("fal-ai/ideogram/v3", "image", 60_000_000, *_IMAGE),
    Model("fal-ai/qwen-image", "megapixel", 20_000_000, *_MEGAPIXEL),
    Model("fal-ai/imagen4/preview", "image", 50_000_000, *_IMAGE),
    Model("fal-ai/stable-diffusion-v35-large", "megapixel", 65_000_000, *_MEGAPIXEL),
    Model("fal-ai/minimax/video-01", "video", 500_000_000, *_IMAGE),
    Model("fal-ai/hunyuan-video", "video", 400_000_000, *_IMAGE),
    Model("fal-ai/ltx-video", "video", 20_000_000, *_IMAGE),
    Model("fal-ai/mmaudio-v2", "second", 1_000_000, *_CLIP),
    Model("fal-ai/minimax/speech-02-hd", "1k_characters", 100_000_000, *_TEXT),
    Model("fal-ai/kokoro/american-english", "1k_characters", 20_000_000, *_TEXT),
    Model("fal-ai/whisper", "compute_second", 111_000, *_COMPUTE),
    Model("fal-ai/clarity-upscaler", "megapixel", 30_000_000, *_MEGAPIXEL),
    Model("fal-ai/topaz/upscale/image", "image", 80_000_000, *_IMAGE),
    Model("fal-ai/birefnet/v2", "compute_second", 575_000, *_COMPUTE),
    Model("fal-ai/bria/background/remove", "image", 18_000_000, *_IMAGE),
    Model("fal-ai/trellis", "image", 20_000_000, *_IMAGE),
    Model("fal-ai/pixverse/v5/image-to-video", "second", 60_000_000, *_CLIP),
    Model("fal-ai/sync-lipsync/v2", "second", 50_000_000, *_CLIP),
)

SERVERLESS_MACHINES = (
    Machine("GPU-H100", "H100", 1, 1_250_000),
    Machine("GPU-A100", "A100", 1, 277_778),
    Machine("GPU-H200", "H200", 1, 1_250_000),
    Machine("GPU-B200", "B200", 1, 1_736_111),
    Machine("GPU-A6000", "A6000", 1, 166_667),
    Machine("GPU-B300", "B300", 1, 2_361_111),
    Machine("L", "", 0, 44_445),
    Machine("M", "", 0, 22_223),
    Machine("S", "", 0, 11_112),
    Machine("XS", "", 0, 5_556),
)

COMPUTE_MACHINES = (
    Machine("gpu_8x_h100_sxm5", "H100", 8, 10_000_000),
    Machine("gpu_1x_h100_sxm5", "H100", 1, 1_250_000),
    Machine("gpu_8x_b200", "B200", 8, 13_888_888),
)

APPS = (
    "avatar-studio",
    "raw-to-jpg",
    "video-captions",
    "product-shots",
    "voice-clone",
    "room-designer",
    "lora-trainer",
    "face-restore",
    "story-board",
    "doc-vision",
    "music-bed",
    "batch-upscale",
)

TEAMS = ("acme", "acme-research", "acme-studio", "acme-mobile", "acme-labs")
"""Team usernames; the first is the organization's root."""

LOGINS = ("alice", "bob", "carol", "dave", "erin")
DISCOUNTS = (None, None, 10, None, 15, None, 5, 20)
"""Discounts in percent that lines get in turn."""


MODEL_APIS, SERVERLESS, COMPUTE = "model_apis", "serverless", "compute"
PRODUCTS = (MODEL_APIS, SERVERLESS, COMPUTE)
SERVICE_NAMES = {MODEL_APIS: "fal Model APIs", SERVERLESS: "fal Serverless", COMPUTE: "fal Compute"}
"""Names of the products in FOCUS."""

PHASES = (0, 0, 3, 7)
"""Hours by which a line's day may be shifted: users live in several time zones."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A caller's key: public id, name, owning team and creator."""

    id: str
    detail: str
    team: str
    login: str


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line of the bill, compared by identity.

    Attributes:
        model: the endpoint of a model API line, else empty.
        app, environment: of serverless and compute lines; null where fal leaves them out.
        machine: name of the billed machine, empty for model APIs.
        gpus: GPU-seconds in a unit: 0 without a GPU; a serverless quantity counts GPU-seconds already.
        price: nano-USD a unit, before discount.
        percent: discount on the list price, None without.
        rate: usual requests an hour; size and step: nano-units of a usual request, and difference between hours.
        phase: hours by which the line's day is shifted.
        lag: microseconds from a request to its charge; spread: length of the part of an hour with requests.
        born, dies: first hour (since 1970) in which the line is used, and the first in which no longer.
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
        """Name of the line in the organization's usage: the endpoint, or the machine with its app."""
        if self.model:
            return self.model
        place = ", ".join(part for part in (self.app, self.environment) if part)
        return f"type: {self.machine} ({place})" if place else f"type: {self.machine}"


def tags_of(line: Line) -> dict[str, str]:
    """Return the tags that a line's requests carry; none where its key sends none or is not activated for tags."""
    key = line.key
    if key is None or key.detail.startswith("staging"):
        return {}
    tags = {"cost_center": key.detail[:256], "env": key.detail.partition(" ")[0]}
    return tags | {"feature": "search"} if crc32(line.model.encode()) % 3 else tags


class IdleSpan(NamedTuple):
    """Hours (since 1970) in which the runners of an app are idle for a share of their time, in permille.

    Attributes:
        app: its name.
        share: of the time in which they are idle, up to 940 permille.
        first, end: the hours, `end` exclusive.
        hours: first hour of the day (UTC) and the one after the last, across midnight too; all day by default.
    """

    app: str
    share: int
    first: int
    end: int
    hours: tuple[int, int] = (0, 24)

    def covers(self, app: str, hour: int) -> bool:
        """Return whether the runners of an app are idle so in an hour."""
        since, until = self.hours
        time = hour % 24
        by_day = since <= time < until if since < until else time >= since or time < until
        return self.app == app and self.first <= hour < self.end and by_day


@dataclass(frozen=True, slots=True)
class WorldSize:
    """Size of the account; the default is a busy company with tens of thousands of requests a day.

    Attributes:
        models: model endpoints; those beyond the thirty with real names are numbered.
        callers: keys that use one model, each a line of its own.
        apps: serverless apps, each on one or two machines; compute: compute lines.
        odd_names: models, apps, keys and teams but the root have names with ideographic and no-break spaces, zero-width
            characters or 300 letters.
    """

    models: int = 30
    callers: int = 2
    apps: int = 12
    compute: int = 3
    teams: int = 5
    api_keys: int = 8
    odd_names: bool = False

    def __post_init__(self) -> None:
        if min(self.callers, self.teams, self.api_keys) < 1 or min(self.models, self.apps, self.compute) < 0:
            raise ValueError("a world has at least one caller, team and key, and no negative number of anything")


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of the account.

    Attributes:
        busy: factor of the requests of every line.
        lag: seconds from a request to its charge being visible.
        late, revised: lines of 65,536 that arrive late or are revised in an hour.
        revised_within: longest time from the end of an hour to its revision, in seconds.
        birth_hours: hours between two new preview models.
        life_hours: hours after which a preview model is retired.
    """

    busy: int = 1
    lag: int = 45
    late: int = 2_600
    revised: int = 650
    revised_within: int = 90 * 3600
    birth_hours: int = 168
    life_hours: int = 5 * 168


_Naming = Callable[[str], str]
_LONG = "a-name-of-an-endpoint-that-goes-on-" * 8
_ODD_NAMES: tuple[_Naming, ...] = (
    lambda name: f"{name}\u3000株式会社",
    lambda name: f"{name}\u00a0GmbH\u202f& Co",
    lambda name: f"{name}-👩\u200d💻",
    lambda name: f"{name}-\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    lambda name: f"{_LONG}{name}",
    lambda name: f"{_LONG}{name}-éé",
)


def _named(size: WorldSize, name: str, number: int) -> str:
    """Return a name as such, or in a world of odd names with special characters or very long."""
    return _ODD_NAMES[number % len(_ODD_NAMES)](name) if size.odd_names else name


def team_names(size: WorldSize) -> tuple[str, ...]:
    """Return the usernames of the teams, the organization's root first."""
    names = [TEAMS[at] if at < len(TEAMS) else f"{TEAMS[0]}-team-{at:03}" for at in range(size.teams)]
    return (names[0], *(_named(size, name, number) for number, name in enumerate(names[1:])))


def api_keys(seed: int, size: WorldSize) -> tuple[ApiKey, ...]:
    """Return the keys of the world's callers."""
    teams = team_names(size)
    chance = Random(f"{seed}:keys")  # noqa: S311  a reproducible world, no secrets
    return tuple(
        ApiKey(
            id=f"{chance.getrandbits(48):012x}",
            detail=_named(size, f"{('production', 'staging', 'batch')[at % 3]} key {at + 1}", at),
            team=teams[at % len(teams)],
            login=LOGINS[at % len(LOGINS)],
        )
        for at in range(size.api_keys)
    )


def lines_of(seed: int, size: WorldSize, pace: Pace) -> tuple[Line, ...]:
    """Return every permanent line of a world, a function of seed, size and pace."""
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
        model = model._replace(endpoint_id=_named(size, model.endpoint_id, at))
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


def _app_name(size: WorldSize, at: int) -> str:
    name = APPS[at % len(APPS)] + (f"-{at // len(APPS)}" if at >= len(APPS) else "")
    return _named(size, name, at)


def _serverless_lines(chance: Random, size: WorldSize, pace: Pace) -> Iterator[Line]:
    teams = team_names(size)
    for at in range(size.apps):
        app = _app_name(size, at)
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
            app=_app_name(size, at),
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
