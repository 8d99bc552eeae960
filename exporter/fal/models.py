"""`/models/usage`: spend on model endpoints."""

from collections.abc import Sequence

from exporter.charges import Dimensions
from exporter.fal.calls import Call, Host
from exporter.fal.client import Client
from exporter.fal.machines import gpu_time_of_unit
from exporter.fal.platform_usage import Interface, Item, PlatformUsage


def describe(account: str, names: Sequence[str]) -> Item:
    """Tell what rows of an endpoint and unit are for; a unit that names a GPU gives GPU time."""
    model, unit = names
    gpu = gpu_time_of_unit(unit)
    return Item(Dimensions(account, product="model_apis", model=model, gpu_class=gpu.gpu_class, unit=unit), gpu)


INTERFACE = Interface(
    source="models",
    call=Call(Host.PLATFORM, "/models/usage"),
    names=("endpoint_id", "unit"),
    nullable=frozenset(),
    describe=describe,
    tells_key=True,
)


def models(client: Client) -> PlatformUsage:
    """Return the source of an account's spend on model endpoints."""
    return PlatformUsage(INTERFACE, client)
