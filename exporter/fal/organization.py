"""`/organization/usage`: the spend of all teams, for the root team of an enterprise.

It contains what `models` and `serverless` report. What a row is for stands in `endpoint_id` whatever the product: an
endpoint, an app, or a machine's line such as `type: gpu_8x_h100_sxm5 (my-app, prod)`.
"""

from collections.abc import Sequence

from exporter.charges import Dimensions
from exporter.fal.calls import Call, Host
from exporter.fal.client import Client
from exporter.fal.machines import billing_line, gpu_time, gpu_time_of_unit
from exporter.fal.platform_usage import Interface, Item, PlatformUsage

_MODEL_APIS = "model_apis"
_SERVERLESS = "serverless"


def describe(account: str, names: Sequence[str]) -> Item:
    """Tell what rows of a team, product, endpoint and unit are for.

    A compute machine's quantity is its own time, so that eight GPUs make eight GPU-seconds of a second; a serverless
    quantity counts every GPU already.
    """
    team, product, endpoint, unit = names
    common = Dimensions(account, team=team, product=product, unit=unit)
    line = None if product == _MODEL_APIS else billing_line(endpoint)
    if line is not None:
        gpu = gpu_time(line.machine, unit, each=product != _SERVERLESS)
        return Item(common._replace(app=line.app, environment=line.environment, gpu_class=gpu.gpu_class), gpu)
    if product == _SERVERLESS:
        return Item(common._replace(app=endpoint))
    gpu = gpu_time_of_unit(unit)
    return Item(common._replace(model=endpoint, gpu_class=gpu.gpu_class), gpu)


INTERFACE = Interface(
    source="organization",
    call=Call(Host.PLATFORM, "/organization/usage"),
    names=("username", "product", "endpoint_id", "unit"),
    nullable=frozenset(),
    describe=describe,
    tells_key=True,
    # Its rows tell no discount: teams with different discounts would make one price jump to and fro.
    tells_list_price=False,
)


def organization(client: Client) -> PlatformUsage:
    """Return the source of the spend of all teams."""
    return PlatformUsage(INTERFACE, client)
