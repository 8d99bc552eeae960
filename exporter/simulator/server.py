"""Serving the simulated fal on a port, for tests, the demo and the `simulate` command."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from exporter.simulator.app import Clock, Simulator, simulator_app, system_clock
from exporter.simulator.calls import Options
from exporter.simulator.faults import Fault, demo_faults
from exporter.simulator.keys import DEFAULT_KEYS, Key
from exporter.simulator.plants import Plant
from exporter.simulator.world import World

_PATIENCE = 0.5
"""Seconds that answers under way get to notice that their callers have gone."""


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that answers at `url`, such as `http://127.0.0.1:41234`."""

    simulator: Simulator
    url: str

    @property
    def platform_url(self) -> str:
        """What PLATFORM_URL is set to."""
        return f"{self.url}/v1"

    @property
    def reporting_url(self) -> str:
        """What REPORTING_URL is set to."""
        return self.url


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything at once: nobody waits for what a simulator would still have said."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_PATIENCE)
            for task in late:
                task.cancel()


def _listener(host: str, port: int) -> socket.socket:
    # The event loop switches Nagle's algorithm off only for sockets that say they are TCP; with it, every answer of
    # two writes takes 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


@asynccontextmanager
async def serving(simulator: Simulator, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[RunningSimulator]:
    """Serve a simulator in the running event loop; on exit it stops within a second, hanging answers included.

    Args:
        simulator: what to serve.
        host: the address to listen on.
        port: the port to listen on; 0 for any that is free.

    Raises:
        OSError: the address cannot be listened on.
    """
    listener = _listener(host, port)
    config = uvicorn.Config(
        simulator_app(simulator),
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        server_header=False,
    )
    server = _Server(config)
    shown = f"[{host}]" if ":" in host else host
    running = asyncio.create_task(server.serve([listener]))
    try:
        await server.listening.wait()
        yield RunningSimulator(simulator, f"http://{shown}:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def running_simulator(
    world: World,
    clock: Clock = system_clock,
    *,
    keys: Iterable[Key] = DEFAULT_KEYS,
    options: Options | None = None,
    faults: Iterable[Fault | Plant] = (),
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[RunningSimulator]:
    """Serve a world; see `Simulator` and `serving` for the arguments."""
    simulator = Simulator(world, clock, keys=keys, options=options, faults=faults)
    async with serving(simulator, host=host, port=port) as running:
        yield running


async def serve_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 1,
    busy: bool = False,
    keys: Iterable[Key] = DEFAULT_KEYS,
    options: Options | None = None,
    clock: Clock = system_clock,
    announce: Callable[[RunningSimulator], None] = lambda _: None,
) -> None:
    """Serve a simulated fal until cancelled.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 for any that is free.
        seed: of the world.
        busy: the demo's account, whose numbers move within seconds and whose calls fail now and then.
        keys: what is accepted.
        options: how fal behaves.
        clock: tells now.
        announce: called once it listens.

    Raises:
        OSError: the address cannot be listened on.
    """
    world = World.demo(seed) if busy else World(seed)
    faults = demo_faults() if busy else ()
    async with running_simulator(
        world, clock, keys=keys, options=options, faults=faults, host=host, port=port
    ) as running:
        announce(running)
        await asyncio.Event().wait()
