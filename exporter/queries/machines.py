"""Machines: what the runners of apps cost by state in a window, idle money first, and what their requests cost."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.calendar import periods_at
from exporter.charges import HOUR, Window, dollar_text, hour_of
from exporter.forecasting.what_if import WEEK, AppWeek, WhatIf, what_if
from exporter.machines import SERVERLESS, AppSettings, Efficiency, Parts, StateSum
from exporter.queries import parameters
from exporter.queries.coverage import Coverage, coverage, parts_of, wanted_sources
from exporter.queries.parameters import Parameter
from exporter.queries.usage import TIMEZONE, whole_hours

if TYPE_CHECKING:
    from exporter.ledger.accounting.coverage import ScopeState
    from exporter.ledger.reader import LedgerSnapshot

START = parameters.instant(
    "start",
    "Start, ISO 8601; in `timezone` if it has no offset. Rounded down to the whole UTC hour. Default: start of the "
    "month of `end`.",
    "2026-11-01",
)
END = parameters.instant(
    "end", "End, exclusive, in the format of `start`. Rounded up to the whole UTC hour. Default: now.", "2026-11-08"
)
ACCOUNT = parameters.values("account", "Only these accounts, comma-separated. Default: all.", "default")
APP = parameters.values("app", "Only these apps, comma-separated. Default: all.", "my-app")
PARAMETERS: tuple[Parameter[object], ...] = (START, END, TIMEZONE, ACCOUNT, APP)


@dataclass(frozen=True, slots=True)
class MachinesQuestion:
    """A question about runners.

    Attributes:
        window: whole UTC hours.
        notes: how the window came to be another than was asked for.
        zone: of times without an offset.
        accounts, apps: those that are wanted; empty for all.
    """

    window: Window
    notes: tuple[str, ...]
    zone: ZoneInfo
    accounts: frozenset[str] = frozenset()
    apps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AppMachines:
    """Runners of an app in an environment on machines of one GPU class; amounts in nano-units.

    Attributes:
        app: empty for charges that fal states for no app.
        spend, gpu_seconds: by state.
        settings: as fal lists them now; None where it lists none.
    """

    account: str
    app: str
    environment: str
    gpu_class: str
    spend: Parts
    gpu_seconds: Parts
    settings: AppSettings | None = None


@dataclass(frozen=True, slots=True)
class MachinesAnswer:
    """Runners of a window, by app.

    Attributes:
        apps: those with the most idle money first.
        spend, gpu_seconds: of all apps, by state.
        requests: what the requests of apps and models cost.
        what_if: what lower settings would have saved in the last week of the window, the likeliest savings first.
        notes: what the figures lack, and how the window came to be another than was asked for.
    """

    start: datetime
    end: datetime
    timezone: str
    apps: tuple[AppMachines, ...]
    spend: Parts
    gpu_seconds: Parts
    requests: tuple[Efficiency, ...]
    coverage: Coverage
    what_if: tuple[WhatIf, ...] = ()
    notes: tuple[str, ...] = ()
    currency: str = "USD"

    @property
    def idle_share(self) -> float | None:
        """Share of the spend that was idle, 0 to 1; see `idle_share`."""
        return idle_share(self.spend)


def idle_share(spend: Parts) -> float | None:
    """Return the share of a spend that is known to have been idle, 0 to 1.

    None where nothing was spent, and where it is not known of any of it.
    """
    return spend.idle / spend.total if spend.total > max(spend.unknown, 0) else None


def parse_machines_question(given: Mapping[str, str], *, now: datetime, zone: ZoneInfo) -> MachinesQuestion:
    """Read a question from the texts of its parameters.

    Args:
        given: by the names of PARAMETERS.
        now: an aware instant.
        zone: where the question names none.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
    """
    texts = parameters.Given(given, PARAMETERS)
    zone = texts.get(TIMEZONE) or zone
    start, end = texts.get(START), texts.get(END)
    if start is None:
        last = hour_of(now) if end is None else hour_of(parameters.aware(end, zone)) - HOUR
        start = periods_at(last, zone).month.start
    window, notes = whole_hours(start, end, now=now, zone=zone)
    return MachinesQuestion(window, notes, zone, texts.get(ACCOUNT) or frozenset(), texts.get(APP) or frozenset())


def answer_machines(ledger: "LedgerSnapshot", question: MachinesQuestion) -> MachinesAnswer:
    """Answer a question from one state of the ledger.

    Raises:
        QuestionError: the ledger does not count an account.
        NoDataYetError: nothing has been read from fal yet.
        LedgerError: the ledger cannot be read.
    """
    window, accounts = question.window, question.accounts
    sources = wanted_sources(ledger.scopes(), accounts)
    parts = parts_of(window, sources, {})
    known = coverage(sources, parts, {part: ledger.rejected_rows(part) for part in parts}, ledger.kept_from())
    names = {scope.account for scope in sources}
    settings = {
        (item.account, item.app, item.environment): item for item in ledger.app_settings() if item.account in names
    }
    states = [item for item in ledger.state_sums(window) if item.account in names]
    wanted = [item for item in states if not question.apps or item.app in question.apps]
    apps = tuple(_app(item, settings) for item in wanted if item.cost.total or item.gpu_seconds.total)
    found = [item for item in ledger.efficiency(window) if item.account in names]
    undivided = _undivided(ledger, question, names)
    return MachinesAnswer(
        start=window.start,
        end=window.end,
        timezone=question.zone.key,
        apps=tuple(sorted(apps, key=lambda app: (-app.spend.idle, -app.spend.total, app.account, app.app))),
        spend=_sum(app.spend for app in apps),
        gpu_seconds=_sum(app.gpu_seconds for app in apps),
        requests=tuple(item for item in found if not question.apps or item.name in question.apps),
        coverage=replace(known, complete=known.complete and not any(undivided.values())),
        what_if=what_if(_weeks(ledger, question, names)),
        notes=(
            *question.notes,
            *known.notes,
            *_not_included(undivided),
            *_unknown(apps),
            *_unasked(ledger, sources, window),
        ),
    )


def _weeks(ledger: "LedgerSnapshot", question: MachinesQuestion, accounts: Collection[str]) -> Iterator[AppWeek]:
    window = Window(max(question.window.start, question.window.end - WEEK * HOUR), question.window.end)
    for week in ledger.app_weeks(window):
        if week.account in accounts and (not question.apps or week.app in question.apps):
            yield week


def _app(item: StateSum, settings: Mapping[tuple[str, str, str], AppSettings]) -> AppMachines:
    its = settings.get((item.account, item.app, item.environment))
    return AppMachines(item.account, item.app, item.environment, item.gpu_class, item.cost, item.gpu_seconds, its)


def _sum(amounts: Iterable[Parts]) -> Parts:
    return reduce(Parts.plus, amounts, Parts())


def _undivided(ledger: "LedgerSnapshot", question: MachinesQuestion, accounts: Iterable[str]) -> Mapping[str, int]:
    """Return what apps cost in nano-USD that are in no figure, by account: its apps have not been listed."""
    lacking = {*accounts} - ledger.machine_accounts.keys()
    where: dict[str, Collection[str]] = {"account": lacking, "product": {SERVERLESS}}
    where |= {"app": question.apps} if question.apps else {}
    sums = ledger.usage(question.window, ("account",), where=where) if lacking else ()
    costs = {found.group[0]: found.amounts.cost for found in sums}
    return {account: costs.get(account, 0) for account in sorted(lacking)}


def _not_included(undivided: Mapping[str, int]) -> Iterator[str]:
    if undivided:
        named = (f"{account}{f' ({dollar_text(cost)})' if cost else ''}" for account, cost in undivided.items())
        yield (
            f"Not included, because the apps of the account have not been listed: {', '.join(named)}. That takes a "
            "key that may read them, and the setting FAL_EXPORTER_MACHINES."
        )


def _unasked(ledger: "LedgerSnapshot", sources: "Iterable[ScopeState]", window: Window) -> Iterator[str]:
    """Yield a sentence for each account of which requests are known of fewer hours than charges."""
    through: dict[str, list[datetime]] = {}
    for scope in sources:
        if scope.data_through is not None:
            through.setdefault(scope.account, []).append(scope.data_through)
    known = ledger.hours_with_requests
    for account, ends in sorted(through.items()):
        span, end = known.get(account), min(window.end, *ends)
        if account not in known or window.start >= end:
            continue
        if span is None or span.end <= window.start or end <= span.start:
            yield f"The requests of {account} are not known in this window, and so neither is what they cost."
        elif window.start < span.start or span.end < end:
            part = Window(max(window.start, span.start), min(end, span.end))
            yield f"What the requests of {account} cost is of {part} only: their number is not known beyond it."


def _unknown(apps: Iterable[AppMachines]) -> Iterator[str]:
    unknown = sum(app.spend.unknown for app in apps)
    if unknown:
        yield (
            f"{dollar_text(unknown)} of the spend is in hours for which fal has stated no runners; they are unknown, "
            "not idle."
        )
