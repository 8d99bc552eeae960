"""Own apps and machines: apps, queues, runner history and analytics of serverless, and compute instances.

Runners are derived from the charges: the runners of an hour, in all states, times its seconds are the machine-seconds
billed for it. The idle share of every app and hour is a function of the seed, so that idle money is known exactly.
"""

from binascii import crc32
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import NamedTuple

from exporter.simulator.interfaces.activity import answer_analytics
from exporter.simulator.interfaces.calls import Answer, ApiError, Call, Row, need_admin, paged
from exporter.simulator.world.account import Account
from exporter.simulator.world.company import IDLE_APP
from exporter.simulator.world.exact import FOREVER, HOUR, NANO, SECOND, FineNumber, decimal_text, microseconds, stamp
from exporter.simulator.world.injected_charges import PlantedSpend
from exporter.simulator.world.lines import COMPUTE, LOGINS, SERVERLESS, Line
from exporter.simulator.world.world import World, visible_requests

_LONGEST = timedelta(days=90)
_STATES = ("running", "idle", "pending", "draining")
_PER_MILLE = 1000
_AT_PEAK = 4
"""Times the usual number of runners that an app may have: its busiest hours, and surge, take less."""
_FINE_PLACES = 15
_MAIN = "main"
_REGIONS = ("us-west", "us-central", "us-east", "eu-north", "eu-west")
_IDLE = {IDLE_APP: 780}
"""Usual idle time in permille of the apps for which it is not drawn from their names."""

_UPDATED = "2026-07-{:02}T12:00:00Z"


@dataclass(frozen=True, slots=True)
class _App:
    """A serverless app with its lines, of which the first is of its usual machine."""

    owner: str
    name: str
    environment: str
    lines: tuple[Line, ...]

    @property
    def endpoint_id(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def usual_runners(self) -> int:
        """Runners that its usual requests take, at least one."""
        nanoseconds = sum(line.rate * line.size for line in self.lines)
        return -(-nanoseconds // (3600 * NANO))


class Shares(NamedTuple):
    """Time of the runners of an app in each state, in permille of an hour's machine-seconds."""

    running: int
    idle: int
    pending: int
    draining: int


def shares_of(world: World, app: str, hour: int) -> Shares:
    """Return the states of the runners of an app in an hour (since 1970)."""
    usual = _IDLE.get(app, 80 + crc32(app.encode()) % 400)
    chance = Random(f"{world.seed}:runners:{app}:{hour}")  # noqa: S311  reproducible, no secrets
    idle, pending, draining = usual + chance.randrange(120), 5 + chance.randrange(40), 2 + chance.randrange(14)
    idle = next((span.share for span in world.idle if span.covers(app, hour)), idle)
    return Shares(_PER_MILLE - idle - pending - draining, idle, pending, draining)


def idle_part(world: World, line: Line, hour: int, amount: int) -> int:
    """Return the part of an amount of a line in an hour that its runners were idle for; 0 but for serverless apps."""
    if line.product != SERVERLESS or line.app is None:
        return 0
    return amount * shares_of(world, line.app, hour).idle // _PER_MILLE


def _apps(account: Account, team: str) -> list[_App]:
    """Return the apps of a team, or of all teams where it is empty, by owner and name."""
    injected = (plant.line for plant in account.plants if isinstance(plant, PlantedSpend))
    found: dict[tuple[str, str, str], list[Line]] = {}
    for line in (*account.world.lines, *injected):
        if line.product == SERVERLESS and line.app and team in {"", line.team}:
            found.setdefault((line.team, line.app, line.environment or _MAIN), []).append(line)
    return [_App(*place, tuple(lines)) for place, lines in sorted(found.items())]


async def apps(call: Call) -> Answer:
    """Answer `GET /serverless/apps`: the apps with their settings."""
    environment, search = call.query.text("environment"), (call.query.text("search") or "").lower()
    with_endpoints = "endpoints" in call.query.choices("expand", ("endpoints",), ())
    rows: list[Row] = []
    for app in _apps(call.account, call.own_team):
        if environment not in {None, app.environment} or search not in app.name.lower():
            continue
        drawn = crc32(app.endpoint_id.encode())
        row: Row = {
            "endpoint_id": app.endpoint_id,
            "name": app.name,
            "owner": app.owner,
            "environment": app.environment,
            "machine_type": app.lines[0].machine,
            "auth_mode": ("private", "public", "shared")[drawn % 3],
            "keep_alive": (10, 60, 300, 600)[drawn % 4],
            "min_concurrency": drawn % 5 % 2,
            "max_concurrency": max(2 + drawn % 9, _AT_PEAK * app.usual_runners),
            "request_timeout": 600,
            "startup_timeout": 300,
            "valid_regions": [_REGIONS[drawn % len(_REGIONS)]],
            "updated_at": _UPDATED.format(1 + drawn % 28),
        }
        if with_endpoints:
            row["endpoints"] = [app.endpoint_id]
        rows.append(row)
    return Answer({"apps": rows})


async def queue(call: Call) -> Answer:
    """Answer `GET /serverless/apps/{owner}/{name}/queue`: requests that wait, of most apps and minutes none."""
    app = _app(call)
    minute = microseconds(call.now) // (60 * SECOND)
    chance = Random(f"{call.account.world.seed}:queue:{app.endpoint_id}:{minute // 10}")  # noqa: S311  reproducible, no secrets
    peak = max(0, chance.randrange(40) - 25)
    return Answer({"queue_size": peak * (10 - minute % 10) // 10})


async def runners_history(call: Call) -> Answer:
    """Answer `GET /serverless/apps/{owner}/{name}/runners/history`: runners by state, mean or maximum of a bucket."""
    app = _app(call)
    aggregation = call.query.choice("aggregation", ("max", "avg"), "max")
    period = call.query.period(call.now)
    if period.end - period.start > _LONGEST + timedelta(days=31):
        raise ApiError(400, "start: at most 90 days can be asked for in one request.")
    history: list[Row] = []
    for stamped, (start, end) in period.buckets():
        end = min(end, microseconds(call.now))  # noqa: PLW2901  a running bucket is as long as it has lasted
        if start >= end:
            break
        nanoseconds = _state_nanoseconds(call.account, app, (start, end))
        states = zip(_STATES, nanoseconds, strict=True)
        row: Row = {name: _runners(count, end - start, aggregation) for name, count in states}
        history.append({"timestamp": stamp(stamped)} | row)
    body: Row = {"endpoint_id": app.endpoint_id, "timeframe": period.timeframe, "aggregation": aggregation}
    return Answer(body | {"history": history})


async def serverless_analytics(call: Call) -> Answer:
    """Answer `GET /serverless/analytics`: requests of the caller's own endpoints, `owner/name`."""
    known = {app.endpoint_id: app for app in _apps(call.account, call.own_team)}
    for endpoint in call.query.values("endpoint_id"):
        if endpoint not in known:
            raise ApiError(404, f"Endpoint {endpoint!r} was not found.")

    def endpoint_of(line: Line) -> str:
        return f"{line.team}/{line.app}" if line.product == SERVERLESS and line.app else ""

    def billable(endpoint: str, span: tuple[int, int]) -> int:
        # A runner of some apps serves two requests at a time, each of which counts.
        running = _state_nanoseconds(call.account, known[endpoint], span)[0]
        return running * (1 + crc32(endpoint.encode()) % 2)

    return await answer_analytics(call, endpoint_of, billable)


async def compute_instances(call: Call) -> Answer:
    """Answer `GET /compute/instances`: a machine for every compute line, ready in an hour in which it is charged."""
    need_admin(call.key)
    hour = microseconds(call.now) // HOUR
    used = {record.line for record in call.account.records(hour)}
    rows: list[Row] = []
    for line in call.account.world.lines:
        if line.product != COMPUTE or (call.own_team and line.team != call.own_team):
            continue
        drawn = crc32(line.billing_line.encode())
        rows.append(
            {
                "id": f"inst_{drawn:08x}",
                "instance_type": line.machine,
                "region": _REGIONS[drawn % len(_REGIONS)],
                "sector": f"sector_{1 + drawn % 3}",
                "ip": f"203.0.113.{drawn % 254 + 1}",
                "status": "ready" if line in used else "stopped",
                "creator_user_nickname": LOGINS[drawn % len(LOGINS)],
            }
        )
    return paged(call, "instances", rows)


def _app(call: Call) -> _App:
    wanted = f"{call.path['owner']}/{call.path['name']}"
    found = next((app for app in _apps(call.account, call.own_team) if app.endpoint_id == wanted), None)
    if found is None:
        raise ApiError(404, f"App {wanted!r} was not found.")
    return found


def _state_nanoseconds(account: Account, app: _App, span: tuple[int, int]) -> list[int]:
    """Return the machine-nanoseconds of a span (microseconds) in each state; the states add up to what is billed."""
    totals = [0] * len(_STATES)
    for hour in range(span[0] // HOUR, -(-span[1] // HOUR)):
        shares = shares_of(account.world, app.name, hour)
        for record in account.records(hour):
            line = record.line
            if line.product != SERVERLESS or (line.team, line.app) != (app.owner, app.name):
                continue
            first, last, _ = visible_requests(record, hour, span, FOREVER)
            billed = (last - first) * record.size
            parts = [billed * share // _PER_MILLE for share in shares]
            parts[0] += billed - sum(parts)
            totals = [total + part for total, part in zip(totals, parts, strict=True)]
    return totals


def _runners(nanoseconds: int, duration: int, aggregation: str) -> object:
    """Return the number of runners over a duration (microseconds): the mean, or for `max` a whole number above it."""
    if aggregation == "max":
        return -(-nanoseconds * SECOND // (duration * NANO))
    scaled = nanoseconds * SECOND * 10**_FINE_PLACES // (duration * NANO)
    return FineNumber(decimal_text(scaled, _FINE_PLACES))
