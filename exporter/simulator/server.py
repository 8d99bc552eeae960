"""HTTP server of the simulated fal, for tests, the demo and the `simulate` command."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn

from exporter.simulator.app import Clock, Simulator, simulator_app, system_clock
from exporter.simulator.faults.faults import Fault, demo_faults
from exporter.simulator.interfaces.calls import DEFAULT_KEYS, Key, Options
from exporter.simulator.world.company import company, company_events
from exporter.simulator.world.injected_charges import Plant
from exporter.simulator.world.world import World

_PATIENCE = 0.5
"""Seconds granted to unfinished answers to notice the disconnection of their callers."""


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that listens at `url`, such as `http://127.0.0.1:41234`."""

    simulator: Simulator
    url: str

    @property
    def platform_url(self) -> str:
        """Value for PLATFORM_URL."""
        return f"{self.url}/v1"

    @property
    def reporting_url(self) -> str:
        """Value for REPORTING_URL."""
        return self.url


class _Server(uvicorn.Server):
    """Server that leaves the signals of the process alone and signals when it listens."""

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
        """Close every connection at once instead of waiting for its answer."""
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
    # The event loop disables Nagle's algorithm only for sockets declared as TCP; with the algorithm, every answer of
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
    """Serve a simulator in the running event loop; on exit, stop within a second, even with hanging answers.

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
        busy: serve the account of the demo, whose numbers move within seconds and whose calls fail at times.
        keys: accepted keys.
        options: behaviour of fal.
        clock: returns the current instant.
        announce: called once the server listens.

    Raises:
        OSError: the address cannot be listened on.
    """
    world = company(seed, clock()) if busy else World(seed)
    faults = (*demo_faults(), *company_events(clock())) if busy else ()
    async with running_simulator(
        world, clock, keys=keys, options=options, faults=faults, host=host, port=port
    ) as running:
        announce(running)
        await asyncio.Event().wait()
