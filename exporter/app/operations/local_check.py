"""Local part of `fal-exporter check`: the ledger, the addresses to listen on, and the clock of this machine."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.app.access import Access
from exporter.errors import ConfigurationError
from exporter.ledger import Inspection
from exporter.ledger.tables.schema import SCHEMA_VERSION
from exporter.settings import Listen, Settings
from exporter.settings.fields import environment_name
from exporter.web.server import listen

_TOLERANCE_SECONDS = 60

NOT_CHECKED = """\
Not checked: whether Prometheus reaches these addresses and has the rules; hours before the last day, which serve reads
as history; the rows of FOCUS reports; the sums of the ledger (fal-exporter ledger verify); whether fal bills what it
reports (fal_reconciliation_difference_usd).
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Findings about this machine.

    Attributes:
        text: all of them, for people.
        problems: those that keep serve from working.
    """

    text: str
    problems: tuple[str, ...]


def this_machine(settings: Settings, ledger: Inspection, skews: Sequence[float]) -> Machine:
    """Look at what serve needs of this machine, and leave it as it was.

    Args:
        settings: those of serve.
        ledger: what was found of it.
        skews: seconds by which the clock is ahead of fal's, as the accounts' answers tell.
    """
    facts = {"ledger": f"{ledger.name}: {_of_ledger(ledger)}"}
    problems = [ledger.problem] if ledger.problem else []
    remarks = []
    for field, address in (("listen", settings.listen), ("mcp_listen", settings.mcp_listen)):
        if address is None:
            continue
        facts[environment_name(field)], problem = _of_address(field, address, ledger.collector)
        # Without its default address MCP is left out, and serve works.
        if problem and field == "mcp_listen" and field not in settings.model_fields_set:
            remarks.append(f"Serve will go on without MCP: {problem}")
        elif problem:
            problems.append(problem)
    try:
        Access.of(settings)
    except ConfigurationError as error:
        problems.append(str(error))
    if skews:
        ahead = max(skews, key=abs)
        facts["clock"] = _of_clock(ahead)
        if abs(ahead) > _TOLERANCE_SECONDS:
            problems.append("The clock is wrong: synchronise it (NTP), as the hours that are read are told by it.")
    width = max(map(len, facts))
    lines = ["this machine", "", *(f"  {name.ljust(width)}  {fact}" for name, fact in facts.items()), ""]
    lines += [f"  ! {problem}" for problem in problems]
    lines += [f"  * {remark}" for remark in remarks]
    return Machine("\n".join([*lines, ""] if problems or remarks else lines), tuple(problems))


def _of_ledger(ledger: Inspection) -> str:
    used = f"in use by {ledger.collector}" if ledger.collector else "no exporter uses it"
    if ledger.version is None:
        return "cannot be used" if ledger.problem else "there is none yet; serve creates it"
    since = f", counts since {ledger.born_at:%Y-%m-%d %H:%M} UTC" if ledger.born_at else ""
    older = f"; serve migrates it to {SCHEMA_VERSION}, back it up first" if ledger.version < SCHEMA_VERSION else ""
    return f"schema {ledger.version}{older}{since}; {used}"


def _of_address(field: str, address: Listen, collector: str) -> tuple[str, str]:
    """Return whether an address can be listened on, in words, and the problem with it; empty where there is none."""
    try:
        listen(address.host, address.port, setting=environment_name(field)).close()
    except ConfigurationError as error:
        is_taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
        if is_taken and collector:
            return f"{address} is taken, it seems by the exporter that uses the ledger", ""
        return f"{address} is taken" if is_taken else f"{address} cannot be used", f"{error}."
    return f"{address} is free", ""


def _of_clock(ahead: float) -> str:
    if not ahead:
        return "agrees with fal's"
    return f"is {abs(ahead):,.0f} seconds {'ahead of' if ahead > 0 else 'behind'} fal's"
