"""GPUs in fal's names of units and billing lines.

The rule of the whole exporter: GPU-seconds and a GPU class go together. What names no GPU has neither.
"""

import re
from typing import NamedTuple

from exporter.charges import NO_GPU, GpuMachine, gpu_machine

_SECONDS = {"second": 1, "seconds": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
_GPU_UNIT = re.compile(
    r"(?P<machine>(?:multi-)?gpu|(?:(?:multi-)?gpu|nvidia|amd)[-_ ].+?|[abhlt]\d{1,4}s?|rtx[-_ ]?\w+?)"
    r"(?:[-_ ](?P<time>seconds?|minutes?|hours?))?",
    re.IGNORECASE,
)
_BILLING_LINE = re.compile(r"type:\s*(?P<machine>[^()]+?)\s*(?:\((?P<place>.*)\))?\s*", re.IGNORECASE)


class GpuTime(NamedTuple):
    """What one unit of a quantity is in GPU time: `seconds` GPU-seconds of `gpu_class`, or nothing."""

    gpu_class: str = ""
    seconds: int = 0


NO_GPU_TIME = GpuTime()


def gpu_time(machine: GpuMachine, unit: str, *, each: bool) -> GpuTime:
    """Tell what a unit of a machine's time is in GPU time.

    Args:
        machine: what is billed.
        unit: second, minute or hour; any other unit is no time.
        each: whether the quantity counts the machine's time, and not yet that of each of its GPUs.
    """
    gpu_class, gpus = machine
    if not gpus:
        return NO_GPU_TIME
    return GpuTime(gpu_class, _SECONDS.get(unit.lower(), 0) * (gpus if each else 1))


def gpu_time_of_unit(unit: str) -> GpuTime:
    """Tell what a unit of a model's price is in GPU time: `GPU-H100`, `gpu_second`, `H100 hour`.

    A GPU without a time is billed by the second. `compute_second` names no GPU, and `second` is one of video or sound.
    """
    named = _GPU_UNIT.fullmatch(unit.strip())
    if named is None:
        return NO_GPU_TIME
    return gpu_time(gpu_machine(named["machine"]), named["time"] or "second", each=True)


class BillingLine(NamedTuple):
    """What `type: gpu_8x_h100_sxm5 (my-app, prod)` says; all empty for a line that is not of this form."""

    machine: GpuMachine = NO_GPU
    app: str = ""
    environment: str = ""


def billing_line(text: str) -> BillingLine | None:
    """Read a machine's line of the organization's bill, or None if it is not of that form."""
    line = _BILLING_LINE.fullmatch(text.strip())
    if line is None:
        return None
    app, _, environment = (line["place"] or "").partition(",")
    return BillingLine(gpu_machine(line["machine"]), app.strip(), environment.strip())
