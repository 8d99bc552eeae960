"""Damaged answers of every interface: a reader returns what can be read, or says by an ApiError what is wrong."""

import copy
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from fal.test_against_simulator import NOW, WINDOWS, client_of
from profiles import examples

from exporter.fal.account import read_balance, read_invoices, read_standing, read_username
from exporter.fal.billing_events import MODELS_EVENTS, ORGANIZATION_EVENTS, read_event_page
from exporter.fal.client import Client
from exporter.fal.errors import ApiError
from exporter.fal.listings import read_api_keys, read_list_prices, read_teams
from exporter.fal.machines import APP, MODEL, read_apps, read_idle_runners, read_queue, read_requests, read_runners
from exporter.fal.platform_usage import organization_totals
from exporter.fal.sources import SOURCES, probe, usage_source
from exporter.simulator import Simulator, World, WorldSize, serving

HOURS = WINDOWS[0]
ODD: list[object] = [
    *(None, True, False, 0, -1, 2**63, 10**40, -0.0, 1e308, "", " ", "-1", "1e999", "NaN", "Infinity", "0x10", "½"),
    *("2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-21T11:00:00", "\ud800", "\0"),
    *("x" * 5000, "🦊", '"\n', [], [[]], {}, {"a": {}}, [None], {"": None}),
]
"""Values that nobody promised."""


Place = tuple[dict[str, object], str] | tuple[list[object], int]
"""A value of a tree, as what holds it, and under which name or number."""


def places(value: object) -> list[Place]:
    """Return everything in a tree."""
    found: list[Place] = []
    if isinstance(value, dict):
        for name, part in value.items():
            found.append((value, name))
            found += places(part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            found.append((value, index))
            found += places(part)
    return found


def damaged(body: bytes, chance: random.Random) -> bytes:
    """Return an answer with some of it replaced, left out, repeated or cut off."""
    if chance.random() < 0.1:
        cut = chance.randrange(len(body) + 1)
        return chance.choice([body[:cut], body[:cut] + chance.randbytes(3) + body[cut:], b"", b"null", b"[" * 5000])
    root: list[object] = [json.loads(body)]
    for _ in range(chance.choice((1, 1, 2, 5))):
        holder, at = chance.choice(places(root))
        kind, odd = chance.randrange(4), copy.deepcopy(chance.choice(ODD))
        if isinstance(holder, dict):
            if kind:
                holder[str(at)] = odd
            else:
                del holder[str(at)]
        elif kind or holder is root:
            holder[int(at)] = odd
        else:
            holder.append(copy.deepcopy(holder[int(at)]))
    return json.dumps(root[0]).encode()


Reader = Callable[[Client], Awaitable[object]]


def of_source(name: str) -> Reader:
    return lambda client: usage_source(name, client).read(HOURS, with_api_key=True)


def of_events(*, organization: bool) -> Reader:
    call = ORGANIZATION_EVENTS if organization else MODELS_EVENTS
    return lambda client: read_event_page(client, call, (HOURS.start, HOURS.end), client.deadline(), tagged=False)


READERS: dict[str, Reader] = {
    # The report has campaigns of its own.
    **{name: of_source(name) for name in SOURCES if name != "focus"},
    "balance": read_balance,
    "standing": read_standing,
    "username": read_username,
    "invoices": read_invoices,
    "keys": read_api_keys,
    "teams": read_teams,
    "prices": lambda client: read_list_prices(client, ["fal-ai/flux/dev", "fal-ai/veo3"]),
    "apps": read_apps,
    "runners": lambda client: read_runners(client, "acme", "avatar-studio", HOURS),
    "idle runners": lambda client: read_idle_runners(client, "acme", "avatar-studio"),
    "queue": lambda client: read_queue(client, "acme", "avatar-studio"),
    "requests of apps": lambda client: read_requests(client, APP, {"acme/avatar-studio": "avatar-studio"}, HOURS),
    "requests of models": lambda client: read_requests(client, MODEL, {"fal-ai/flux/dev": "fal-ai/flux/dev"}, HOURS),
    "organization totals": lambda client: organization_totals(client, HOURS, client.deadline()),
    "events": of_events(organization=False),
    "events of the organization": of_events(organization=True),
    "probe": probe,
}


@pytest.fixture(scope="module")
def account() -> Simulator:
    size = WorldSize(models=3, apps=2, compute=1, teams=2, api_keys=2)
    return Simulator(World(7, size, invoiced_months=1), lambda: NOW)


@pytest.fixture
async def client(account: Simulator, tls: ssl.SSLContext) -> AsyncIterator[Client]:
    async with serving(account) as running:
        made = client_of(running, tls)
        yield made
        await made.aclose()


@pytest.mark.hypothesis  # in the run with more examples, too
@pytest.mark.parametrize("name", READERS)
async def test_a_damaged_answer_is_read_or_refused(client: Client, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    read, body = READERS[name], client._exchange._body
    seed = 17 if examples(1, long=2) == 1 else random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)  # noqa: S311  reproducible, no secrets
    bodies = 0

    async def damaging(*arguments: object) -> bytearray:
        nonlocal bodies
        whole = await body(*arguments)  # type: ignore[arg-type]
        bodies += 1
        return bytearray(damaged(bytes(whole), chance))

    monkeypatch.setattr(client._exchange, "_body", damaging)
    for number in range(examples(4, long=40)):
        try:
            with suppress(ApiError):
                await read(client)
        except Exception as error:
            raise AssertionError(f"seed {seed}, answer {number}: {error!r}") from error
    assert bodies
