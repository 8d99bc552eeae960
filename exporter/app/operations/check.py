"""`fal-exporter check`: tries every account's key on every interface once, and reports what will work.

First it looks at what this machine has to do with it: the ledger, the addresses to listen on, and the clock.
"""

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import click

from exporter.app.access import Access
from exporter.app.operations.terminal import fitted, window
from exporter.app.wiring import client_of
from exporter.charges import HOUR, Window, hour_of, utc_now
from exporter.errors import ConfigurationError
from exporter.fal import (
    ApiError,
    Client,
    Probe,
    Silent,
    automatic_sources,
    probe,
    read_username,
    unpolled_sources,
    usage_source,
)
from exporter.ledger import (
    Reconciliation,
    RejectedRows,
    recorded_reconciliations,
    recorded_rejected_rows,
)
from exporter.ledger.maintenance.inspection import Inspection, inspect_ledger
from exporter.ledger.tables.database import recorded_owners, recorded_sources
from exporter.ledger.tables.schema import SCHEMA_VERSION
from exporter.polling.key_owners import other_account, shared_username
from exporter.polling.poll_runner import unreadable_sentence
from exporter.polling.reconciler import months
from exporter.polling.source_choice import gaps_of, limits_of, offer_of, shortfalls_of
from exporter.settings import Account, Listen, Settings
from exporter.settings.parsing import environment_name
from exporter.web.server import listen

_NO_ROWS: Mapping[str, RejectedRows] = MappingProxyType({})
_BALANCES = ("account_billing", "user_balance")
_CALL = 1
_COLUMNS = ("interface", "call", "reachable", "key", "scope", "polled", "remark")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of `check` on one account.

    Attributes:
        origin: how the sources came to be what they are, in words.
        sources: what will be polled; none while nothing can be.
        problems: sentences that say what does not work and what to do.
        reporting_url: where the reporting interface was asked last.
        remarks: sentences on what the figures will not include, though everything works.
        rows: how many rows of each source could be read, in words.
    """

    account: str
    origin: str
    sources: tuple[str, ...]
    probes: tuple[Probe, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    reporting_url: str = ""
    rows: tuple[str, ...] = ()


@dataclass(slots=True)
class _Heard(Silent):
    """Findings about an account, as its calls have shown them.

    Attributes:
        ahead: seconds by which this system's clock is ahead of fal's; None where no answer has a date.
    """

    ahead: float | None = None

    def clock_compared(self, ahead: float) -> None:
        """Keep it."""
        self.ahead = ahead


@dataclass(frozen=True, slots=True)
class _Found:
    """Findings about an account at fal.

    Attributes:
        username: of whoever the key belongs to; empty where it was not asked.
        rows: how many rows of each source could be read, in words.
        unreadable: sentences on answers that could not be read, or only in part.
        ahead: seconds by which this system's clock is ahead of fal's; None where not known.
    """

    username: str
    probes: tuple[Probe, ...]
    reporting_url: str
    rows: tuple[str, ...]
    unreadable: tuple[str, ...]
    ahead: float | None


def run_check(settings: Settings) -> int:
    """Print what was found of the machine, and a table for every account; return 0, or 1 if something does not work.

    Raises:
        ConfigurationError: the ledger's address is wrong.
    """
    address = settings.ledger_url.get_secret_value()
    ledger = inspect_ledger(address)
    recorded: Mapping[str, tuple[str, ...]] = {}
    unreadable: Mapping[tuple[str, str], RejectedRows] = {}
    owners: Mapping[str, str] = {}
    reconciled: dict[str, tuple[Reconciliation, ...]] = {account.name: () for account in settings.accounts}
    if ledger.version is not None and not ledger.problem:
        recorded = recorded_sources(address)
        unreadable = recorded_rejected_rows(address)
        reconciled |= {name: recorded_reconciliations(address, name) for name in reconciled if name in recorded}
        owners = recorded_owners(address)
    found, verdicts = asyncio.run(_verdicts(settings, recorded, reconciled, unreadable, owners))
    machine = this_machine(settings, ledger, [account.ahead for account in found if account.ahead is not None])
    size = window()
    not_checked = NOT_CHECKED if size is None else " ".join(NOT_CHECKED.split()) + "\n"
    for text in (machine.text, *(_text(verdict, size.columns if size else None) for verdict in verdicts), not_checked):
        click.echo("\n".join(fitted(text.split("\n"), size)))
    return 1 if machine.problems or any(verdict.problems for verdict in verdicts) else 0


async def _verdicts(
    settings: Settings,
    recorded: Mapping[str, tuple[str, ...]],
    reconciled: Mapping[str, tuple[Reconciliation, ...]],
    unreadable: Mapping[tuple[str, str], RejectedRows],
    owners: Mapping[str, str],
) -> tuple[list[_Found], list[Verdict]]:
    found = await asyncio.gather(
        *(_asked(account, settings, recorded.get(account.name, ())) for account in settings.accounts)
    )
    names: dict[str, str] = {}
    kept = {account.name: owners[account.name] for account in settings.accounts if account.name in owners}
    verdicts = []
    for account, one in zip(settings.accounts, found, strict=True):
        shared_with = names.setdefault(one.username, account.name) if one.username else account.name
        verdict = verdict_on(
            account.name,
            account.sources,
            recorded.get(account.name, ()),
            one.probes,
            reconciled=reconciled[account.name],
            reporting_url=one.reporting_url,
            unreadable={source: rows for (name, source), rows in unreadable.items() if name == account.name},
            owner=other_account(account.name, one.username, kept)
            if shared_with == account.name
            else shared_username(shared_with, account.name, one.username),
        )
        verdicts.append(replace(verdict, problems=(*verdict.problems, *one.unreadable), rows=one.rows))
    return found, verdicts


async def _asked(account: Account, settings: Settings, recorded: tuple[str, ...]) -> _Found:
    """Ask fal about an account: each interface once, and the last day of what will be polled."""
    heard = _Heard()
    client = client_of(account, settings, heard)
    try:
        probes = await probe(client)
        try:
            username = await read_username(client)
        except ApiError:
            username = ""
        rows, unreadable = await _parsed(client, settings, _polled(account.sources, recorded, probes))
        return _Found(username, probes, client.reporting_url, rows, unreadable, heard.ahead)
    finally:
        await client.aclose()


def _polled(wanted: tuple[str, ...] | None, recorded: tuple[str, ...], probes: tuple[Probe, ...]) -> tuple[str, ...]:
    """Return the sources that will be polled and can be read; a FOCUS report takes too long to make for a check."""
    sources = wanted if wanted is not None else recorded
    if not sources:
        try:
            sources = automatic_sources(probes)
        except ApiError:
            return ()
    works = {found.name for found in probes if found.ok} - {"focus"}
    return tuple(name for name in sources if name in works)


async def _parsed(
    client: Client, settings: Settings, sources: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the last day of some sources as serve does; return how much there was, and what cannot be read."""
    end = hour_of(client.now())
    window = Window(end - 24 * HOUR, end)
    rows, unreadable = [], []
    for name in sources:
        try:
            reading = await usage_source(name, client).read(window, with_api_key="api_key" in settings.labels)
        except ApiError as error:
            unreadable.append(str(error))
            continue
        rows.append(f"{name} {reading.rows}")
        if reading.rejected:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(reading.rejected.items()))
            unreadable.append(
                f"Rows that {name} reports for the last day cannot be read, or only in part ({reasons}); fal's API may "
                "have changed: look for a newer version of the exporter."
            )
    return tuple(rows), tuple(unreadable)


def verdict_on(
    account: str,
    wanted: tuple[str, ...] | None,
    recorded: tuple[str, ...],
    probes: tuple[Probe, ...],
    *,
    reconciled: tuple[Reconciliation, ...] = (),
    unreadable: Mapping[str, RejectedRows] = _NO_ROWS,
    owner: str = "",
    reporting_url: str = "",
) -> Verdict:
    """Judge what an account's key can do against what is to be polled.

    Args:
        account: its name.
        wanted: the sources the user has set, or None for what the key may read.
        recorded: the sources that the ledger already counts for the account.
        probes: how each interface answered.
        reconciled: how the ledger compared with what fal bills.
        reporting_url: where the reporting interface was asked last.
        unreadable: the rows that the exporter could not read last, by source.
        owner: a sentence if another account is the same fal account, or the ledger has another fal account under this
            name; empty otherwise.
    """
    answers = {item.name: item for item in probes}
    problems = [owner] if owner else []
    if wanted is not None:
        sources, origin = wanted, "set by SOURCES"
    elif recorded:
        sources, origin = recorded, "chosen earlier, recorded in the ledger"
    else:
        try:
            sources, origin = automatic_sources(probes), "chosen by what the key can read"
        except ApiError as error:
            sources, origin = (), "not chosen yet"
            problems.append(f"the sources to poll cannot be chosen: {error}")
    problems += [answers[name].problem for name in sources if not answers[name].ok]
    balance_works = any(answers[name].ok for name in _BALANCES)
    if not sources and not problems:
        problems += _no_usage(answers, balance_works=balance_works)
    if not balance_works:
        problems.append(answers["user_balance"].problem)
    if sources and not answers["invoices"].ok:
        problems.append(answers["invoices"].problem)
    remarks = (
        *(
            f"The source {name} is partial: {unreadable_sentence(unreadable[name])}"
            for name in sources
            if name in unreadable
        ),
        *_remarks(sources, answers, reconciled),
    )
    return Verdict(account, origin, sources, probes, tuple(dict.fromkeys(problems)), remarks, reporting_url)


def _remarks(
    sources: tuple[str, ...], answers: Mapping[str, Probe], reconciled: tuple[Reconciliation, ...]
) -> tuple[str, ...]:
    readable = {name for name, found in answers.items() if found.ok}
    offer = offer_of(unpolled_sources(sources, readable), sources, teams=answers["organization"].teams)
    reasons = {name: found.error.reason for name, found in answers.items() if found.error is not None}
    gaps = (*filter(None, (offer,)), *gaps_of(sources, reasons))
    shortfalls = shortfalls_of(reconciled, [month.start for month in months(utc_now())])
    return (*gaps, *(shortfalls if gaps else ()), *limits_of(sources))


def _no_usage(answers: Mapping[str, Probe], *, balance_works: bool) -> list[str]:
    asked = [answers[name] for name in ("models", "serverless", "reporting")]
    if any(item.scope for item in asked):
        works = "; the credit balance works" if balance_works else ""
        return [f"this key has API scope; usage needs a key with admin scope{works}"]
    return [item.problem for item in asked]


def _text(verdict: Verdict, width: int | None) -> str:
    polled = {*verdict.sources, "invoices", "keys"}
    polled.update(next(([item.name] for item in verdict.probes if item.name in _BALANCES and item.ok), []))
    rows = [_row(item, polled=item.name in polled) for item in verdict.probes]
    what = ", ".join(verdict.sources) or "no usage"
    lines = [f"account {verdict.account}: polls {what} ({verdict.origin})", "", *_table(_COLUMNS, rows, width), ""]
    lines += [f"  Reporting API: {verdict.reporting_url}", ""] if verdict.reporting_url else []
    lines += [f"  Rows of the last day that could be read: {', '.join(verdict.rows)}", ""] if verdict.rows else []
    lines += [click.style(f"  ! {problem}", fg="red") for problem in verdict.problems]
    lines += [] if verdict.problems else [click.style("  All configured sources work.", fg="green")]
    lines += [click.style(f"  * {remark}", fg="yellow") for remark in verdict.remarks]
    lines += ["", f"  {_verdict_sentence(verdict)}"]
    return "\n".join([*lines, ""])


def _verdict_sentence(verdict: Verdict) -> str:
    """Return whether an account can be polled, in one sentence."""
    count = len(verdict.problems)
    if not count:
        what = ", ".join(verdict.sources)
        return click.style(f"Verdict: {verdict.account} is ready; serve will poll {what}.", fg="green", bold=True)
    problems = "the problem" if count == 1 else f"the {count} problems"
    text = f"Verdict: {verdict.account} is not ready; solve {problems} marked with ! above."
    return click.style(text, fg="red", bold=True)


def _row(found: Probe, *, polled: bool) -> tuple[str, ...]:
    return (
        found.name,
        found.call,
        "yes" if found.reachable else "no",
        "accepted" if found.accepted else ("rejected" if found.reachable else "-"),
        found.scope or "-",
        ("yes" if found.ok else "fails") if polled else "no",
        "" if found.ok else found.advice,
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], width: int | None) -> list[str]:
    """Return the lines of a table, whose last column are remarks: below its row where the window lacks room for it."""
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if width is None or sum(widths) + 2 * len(widths) <= width:
        return [_line(row, widths) for row in cells]
    # A call is named by its interface, too: its column is the first to go.
    places = [place for place in range(len(head) - 1) if place != _CALL or sum(widths[:-1]) + 2 * len(widths) <= width]
    lines = []
    for row in cells:
        lines.append(_line([row[place] for place in places], [widths[place] for place in places]))
        if row[-1] and row is not head:
            lines.append(f"    {row[-1]}")
    return lines


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  " + "  ".join(_coloured(cell, cell.ljust(width)) for cell, width in cells).rstrip()


_COLOURS = MappingProxyType({"accepted": "green", "rejected": "red", "fails": "red"})


def _coloured(cell: str, padded: str) -> str:
    return click.style(padded, fg=_COLOURS[cell]) if cell in _COLOURS else padded


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
        skews: seconds by which the clock is ahead of fal's, by the dates of the accounts' answers.
    """
    facts = {"ledger": f"{ledger.name}: {_ledger_fact(ledger)}"}
    problems = [ledger.problem] if ledger.problem else []
    remarks = []
    for field, address in (("listen", settings.listen), ("mcp_listen", settings.mcp_listen)):
        if address is None:
            continue
        facts[environment_name(field)], problem = _address_fact(field, address, ledger.collector)
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
        facts["clock"] = _clock_fact(ahead)
        if abs(ahead) > _TOLERANCE_SECONDS:
            problems.append("The clock is wrong: synchronise it (NTP), as the hours that are read are told by it.")
    width = max(map(len, facts))
    lines = ["this machine", "", *(f"  {name.ljust(width)}  {fact}" for name, fact in facts.items()), ""]
    lines += [f"  ! {problem}" for problem in problems]
    lines += [f"  * {remark}" for remark in remarks]
    return Machine("\n".join([*lines, ""] if problems or remarks else lines), tuple(problems))


def _ledger_fact(ledger: Inspection) -> str:
    used = f"in use by {ledger.collector}" if ledger.collector else "no exporter uses it"
    if ledger.version is None:
        return "cannot be used" if ledger.problem else "there is none yet; serve creates it"
    since = f", counts since {ledger.born_at:%Y-%m-%d %H:%M} UTC" if ledger.born_at else ""
    older = f"; serve migrates it to {SCHEMA_VERSION}, back it up first" if ledger.version < SCHEMA_VERSION else ""
    return f"schema {ledger.version}{older}{since}; {used}"


def _address_fact(field: str, address: Listen, collector: str) -> tuple[str, str]:
    """Return whether an address can be listened on, in words, and the problem with it; empty where there is none."""
    try:
        listen(address.host, address.port, setting=environment_name(field)).close()
    except ConfigurationError as error:
        is_taken = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE
        if is_taken and collector:
            return f"{address} is taken, it seems by the exporter that uses the ledger", ""
        return f"{address} is taken" if is_taken else f"{address} cannot be used", f"{error}."
    return f"{address} is free", ""


def _clock_fact(ahead: float) -> str:
    if not ahead:
        return "agrees with fal's"
    return f"is {abs(ahead):,.0f} seconds {'ahead of' if ahead > 0 else 'behind'} fal's"
