"""`fal-exporter simulate`: the simulated fal alone."""

import asyncio
import logging
import signal
from contextlib import suppress

import click

from exporter.errors import ConfigurationError
from exporter.simulator import ADMIN_KEY, API_KEY, RunningSimulator, serve_simulator


def run_simulate(*, host: str, port: int, seed: int) -> int:
    """Serve a simulated fal until SIGTERM or SIGINT; return the exit code.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        asyncio.run(_simulate(host, port, seed))
    except OSError as error:
        raise ConfigurationError(
            f"--listen {host}:{port} cannot be listened on ({error.strerror}); choose an address of this machine and a "
            "free port"
        ) from None
    return 0


async def _simulate(host: str, port: int, seed: int) -> None:
    serving = asyncio.create_task(serve_simulator(host=host, port=port, seed=seed, announce=_announce))

    def stop() -> None:
        # The server would tell of every answer that it breaks off.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await serving


def _announce(running: RunningSimulator) -> None:
    click.echo(
        f"A simulated fal listens on {running.url}. To poll it:\n\n"
        f"  FAL_KEY={ADMIN_KEY} \\\n"
        f"  FAL_EXPORTER_PLATFORM_URL={running.platform_url} \\\n"
        f"  FAL_EXPORTER_REPORTING_URL={running.reporting_url} \\\n"
        "  fal-exporter serve\n\n"
        f"A key of API scope is {API_KEY}.\n"
        f"The truth: {running.url}/_simulator/statement   Faults: {running.url}/_simulator/faults"
    )
