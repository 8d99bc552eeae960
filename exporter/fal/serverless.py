"""`/serverless/usage`: machine time of the account's own apps.

Fal bills several GPUs as their count times the duration: a GPU machine's quantity is GPU-seconds already.
"""

from collections.abc import Sequence

from exporter.charges import Dimensions, gpu_machine
from exporter.fal.calls import Call, Host
from exporter.fal.client import Client
from exporter.fal.machines import gpu_time
from exporter.fal.platform_usage import Interface, Item, PlatformUsage


def describe(account: str, names: Sequence[str]) -> Item:
    """Tell what rows of an app, environment, machine and unit are for."""
    app, environment, machine, unit = names
    gpu = gpu_time(gpu_machine(machine), unit, each=False)
    dimensions = Dimensions(
        account, product="serverless", app=app, environment=environment, gpu_class=gpu.gpu_class, unit=unit
    )
    return Item(dimensions, gpu)


INTERFACE = Interface(
    source="serverless",
    call=Call(Host.PLATFORM, "/serverless/usage"),
    names=("app", "environment", "machine_type", "unit"),
    nullable=frozenset({"app", "environment"}),
    describe=describe,
    tells_key=False,
    tells_surge=True,
)


def serverless(client: Client) -> PlatformUsage:
    """Return the source of an account's machine time."""
    return PlatformUsage(INTERFACE, client)
