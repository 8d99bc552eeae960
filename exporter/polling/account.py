"""Account poller: one account's polls, from fal into the ledger."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog

from exporter.charges import HOUR, Clock, Window, dollar_text, hour_of
from exporter.errors import ConfigurationError, LedgerError, UpstreamError
from exporter.fal import (
    LOCK_ADVICE,
    TELL_LIST_PRICES,
    Allowance,
    Buckets,
    Client,
    Deadline,
    FeatureError,
    Reading,
    ScopeError,
    read_balance,
    read_invoices,
    read_list_prices,
    read_standing,
    source_of_product,
    usage_source,
)
from exporter.forecasting.state import Lock
from exporter.ledger import Reconciliation, ScopeState
from exporter.metrics.health import Health
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.extras import AccountNames, TagPoller
from exporter.polling.key_owners import KeyOwners
from exporter.polling.machines import MachinePolls, Mode
from exporter.polling.poll_runner import Polled, PollRunner, Work
from exporter.polling.reconciler import ProductComparison, Reconciler, months
from exporter.polling.scheduler import (
    PIECE_HOURS,
    Reach,
    current_window,
    history_pieces,
    history_start,
    months_window,
    trailing_window,
)
from exporter.polling.source_choice import SourceChoice, limits_of, shortfalls_of
from exporter.polling.usage_reader import UsageReader
from exporter.tags import TagValues

_log = structlog.get_logger(__name__)

_LOCKS = {
    "exhausted_balance": "the balance is exhausted",
    "top_up": "fal asks for a top-up",
    "admin_lock": "locked by fal's administrators",
    "budget_exceeded": "the account's own monthly budget is exceeded",
    "payment_method": "a payment method is missing",
    "archived": "the account has been archived",
    "unknown": "fal gives no reason that is known here",
}

_FOR_CREDIT = frozenset({"exhausted_balance", "top_up", "unknown"})
"""Reasons of a lock that the balance may be the cause of."""


class AccountPoller:
    """An account, its client, and what is polled for it.

    Args:
        client: the account's own.
        sources: what the user has set, or None for what the key may read.
        ledger: where readings are kept.
        runner: carries the polls out.
        health: shows what else could be polled, and how sums by product differ.
        reach: how far back the jobs read.
        with_api_key: whether charges are wanted by API key.
        price_models: the endpoints whose list prices are polled while no source tells them.
        clock: the time.
        credit_floor: the balance at which fal locks the account, in nano-USD.
        tags: keys of the tags that spend is polled by.
        machines: whether runners of own apps, their settings and requests are polled.
        owners: knows whom the keys of all accounts belong to; None where there is but one account.

    Attributes:
        credit_floor: the balance at which fal locks the account, in nano-USD.
        is_automatic: whether the exporter chooses the sources.
        balance: the polls of the credit balance.
        tags: polls spend by tags; None where no tags are configured.
    """

    def __init__(
        self,
        *,
        client: Client,
        sources: tuple[str, ...] | None,
        ledger: AsyncLedger,
        runner: PollRunner,
        health: Health,
        reach: Reach,
        with_api_key: bool,
        clock: Clock,
        price_models: tuple[str, ...] = (),
        owners: KeyOwners | None = None,
        credit_floor: int = 0,
        tags: TagValues = (),
        machines: Mode = "false",
    ) -> None:
        self.name = client.account
        self.is_automatic = sources is None
        self._told_no_invoices = False
        self._told_no_standing = False
        self._told_locks: tuple[str, ...] = ()
        self.credit_floor = credit_floor
        self._seen_balance: int | None = None
        self._balance_before_lock: int | None = None
        self._is_paying = False
        self._is_stated_unlocked = False
        self._client = client
        self._ledger = ledger
        self._runner = runner
        self._health = health
        self._reach = reach
        self._with_api_key = with_api_key
        self._clock = clock
        self._sources: dict[str, tuple[UsageReader, Polled]] = {}
        self.balance = runner.expect(self.name, "balance")
        self._invoices = runner.expect(self.name, "invoices")
        self._reconciliation = runner.expect(self.name, "reconciliation")
        self._price_models = price_models
        self._prices = runner.expect(self.name, "prices") if price_models else None
        self._reconciler = Reconciler(client, ledger)
        self._comparison = ProductComparison(client, ledger)
        self._choice = SourceChoice(client=client, ledger=ledger, health=health, clock=clock)
        self._owners = owners
        self._names = AccountNames(
            client=client,
            ledger=ledger,
            runner=runner,
            clock=clock,
            confirmed=self._confirmed,
            with_callers=with_api_key,
        )
        self.tags = (
            TagPoller(
                client=client,
                keys=tags,
                ledger=ledger,
                runner=runner,
                reach=reach,
                clock=clock,
                confirmed=self._confirmed,
            )
            if tags
            else None
        )
        self._machines = MachinePolls(
            client=client,
            ledger=ledger,
            runner=runner,
            health=health,
            reach=reach,
            clock=clock,
            confirmed=self._confirmed,
            mode=machines,
        )
        self._take_up(sources or ())

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that are polled; none while the choice is open."""
        return tuple(self._sources)

    @property
    def problem(self) -> str:
        """Why there are no sources yet, in a sentence; empty otherwise."""
        return self._choice.problem

    @property
    def polled(self) -> tuple[Polled, ...]:
        """Every thing that is polled, the sources first."""
        others = (
            self.balance,
            self._invoices,
            self._reconciliation,
            self._prices,
            *self._names.polled,
            None if self.tags is None else self.tags.polled,
            *self._machines.polled,
        )
        return (*(polled for _, polled in self._sources.values()), *(other for other in others if other is not None))

    @property
    def lock_reasons(self) -> tuple[str, ...]:
        """Why fal has locked the account; none if it has not."""
        return tuple(sorted(self._client.locks.reasons))

    @property
    def locks(self) -> tuple[Lock, ...]:
        """Why fal has locked the account, each with what to do about it; a hint at the floor stands with the last."""
        advice = [f"{_LOCKS[reason]}; {LOCK_ADVICE[reason]}." for reason in self.lock_reasons]
        if advice and self.floor_hint:
            advice[-1] += f" {self.floor_hint}"
        return tuple(map(Lock, self.lock_reasons, advice))

    @property
    def floor_hint(self) -> str:
        """Sentence on the floor that a lock for want of credit suggests; empty where there is nothing to suggest."""
        balance = self._balance_before_lock
        if balance is None or balance <= self.credit_floor or not _FOR_CREDIT.intersection(self.lock_reasons):
            return ""
        return (
            f"The last balance before the lock was {dollar_text(balance)}: if fal locks the account there, set its "
            "credit_floor to that."
        )

    def pays_by_invoice(self, balance: int) -> bool:
        """Return whether the account is billed by invoice: fal states that it pays and is not locked, without credit.

        fal names no such field. A prepaid account without credit is locked; `is_paying` alone is true of it, too.
        """
        return balance <= self.credit_floor and self._is_paying and self._is_stated_unlocked and not self.lock_reasons

    async def recall_sources(self) -> None:
        """Take up what the ledger counts for the account: what has been chosen, or set, before."""
        if self.is_automatic:
            self._take_up(await self._ledger.counted_sources(self.name))
        await self._choice.recall(self.sources)

    async def choose_sources(self) -> bool:
        """Find out what to poll where the user has left that open; return whether there is something new to poll.

        A choice is made once: the ledger keeps it from when it is activated. As long as fal gives no clear answer there
        is none, and it is asked again the next time.
        """
        if self._sources or not self.is_automatic:
            return False
        chosen = await self._choice.choose()
        self._take_up(chosen)
        return bool(chosen)

    async def probe_sources(self) -> None:
        """Ask what else the key can read, and for refused detail, where the last answer is old or of another version.

        Raises:
            ConfigurationError: the key cannot be used.
            LedgerError: the answers cannot be kept.
        """
        if await self._choice.probe_if_due(self.sources):
            self._runner.publish_soon()
        for reader, polled in self._sources.values():
            # Not during a poll: what it reads is of one detail.
            async with polled.turn:
                await reader.ask_for_detail_if_due()

    async def poll_current(self) -> None:
        """Poll the current hour and the one before, and after an outage all hours since the last success."""
        await self._names.poll_before_usage()
        now = self._clock()
        await self._poll_each(
            {
                source: current_window(now, scope.data_through).pieces(PIECE_HOURS)
                for source, scope in (await self._scopes()).items()
            }
        )

    async def poll_recent(self) -> None:
        """Poll the last days again for late charges, and compare their sums by product with fal's."""
        window = trailing_window(self._clock(), self._reach.recent)
        await self._poll_all(window)
        await self._poll_rejected(window)
        await self._compare_products(window)

    async def poll_deep(self) -> None:
        """Poll the last week again for late charges and corrections."""
        await self._poll_all(trailing_window(self._clock(), self._reach.deep))

    async def poll_months(self) -> None:
        """Poll this month and the previous one again."""
        await self._poll_all(months_window(self._clock(), self._reach.zone))

    async def load_history(self) -> bool:
        """Load what is missing of the history, newest first; return whether it is complete for every source."""
        await self._names.poll_before_usage()
        scopes = await self._scopes()
        first = current_window(self._clock(), None)
        await self._poll_each({source: [first] for source, scope in scopes.items() if scope.history_from is None})
        scopes = await self._scopes()
        await self._poll_each(
            {
                source: history_pieces(history_start(scope.born_at, self._reach), scope.history_from)
                for source, scope in scopes.items()
                if scope.history_from is not None
            }
        )
        scopes = await self._scopes()
        return bool(scopes) and all(history_progress(scope, self._reach) >= 1 for scope in scopes.values())

    async def has_history(self) -> bool:
        """Return whether the history of every source has been loaded."""
        scopes = await self._scopes()
        return all(history_progress(scope, self._reach) >= 1 for scope in scopes.values())

    async def poll_balance(self) -> None:
        """Poll the credit balance, and ask whether the account is locked."""
        await asyncio.gather(
            self._runner.poll(self.balance, partial(self._confirmed, self._read_balance)), self._ask_standing()
        )
        self._report_locks()

    async def poll_invoices(self) -> None:
        """Poll the invoices."""
        await self._runner.poll(self._invoices, partial(self._confirmed, self._read_invoices))

    async def poll_names(self) -> None:
        """Poll the names of API keys and teams."""
        await self._names.poll(self.sources, history_loaded=bool(self.sources) and await self.has_history())

    async def poll_machines(self) -> None:
        """Poll settings, runners and requests of apps."""
        await self._machines.poll(self.sources)

    async def poll_queues(self) -> None:
        """Poll the queues of apps."""
        await self._machines.poll_queues()

    async def poll_prices(self) -> None:
        """Poll list prices while no source tells them."""
        if self._prices is not None and TELL_LIST_PRICES.isdisjoint(self._sources):
            await self._runner.poll(self._prices, partial(self._confirmed, self._read_prices))

    async def poll_reconciliation(self) -> None:
        """Compare what fal bills with the ledger."""
        if self._sources:
            await self._runner.poll(self._reconciliation, partial(self._confirmed, self._reconciler.poll))

    async def ask_usage(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> tuple[Reading, ...]:
        """Ask fal for a window source by source, past the ledger; in the detail that polls have found out.

        Raises:
            TooMuchError: it takes more calls than are left.
            ApiError: fal gave no answer that can be counted.
            ConfigurationError: the key cannot be used, or another account is the same fal account.
            LedgerError: whose key it is cannot be looked up.
        """
        if self._owners is not None:
            await self._owners.confirm(self.name)
        return tuple(
            [await reader.upstream.read_buckets(buckets, deadline, allowance) for reader, _ in self._sources.values()]
        )

    def deadline(self, span: timedelta) -> Deadline:
        """Start the time that the calls of one question share."""
        return self._client.deadline(span)

    def offer(self) -> str:
        """Return a sentence on what the key can read and is not polled; empty where there is nothing."""
        unpolled = self._choice.unpolled(self.sources)
        compared = self._comparison.last
        if not unpolled or compared is None:
            return self._choice.offer(self.sources)
        missing = compared.missing(
            [difference for difference in compared.differences if source_of_product(difference) in unpolled]
        )
        return self._choice.offer(self.sources, f"{dollar_text(missing)} in {compared.window}" if missing else "")

    def differences(self) -> tuple[str, ...]:
        """Return a sentence for every product that is polled and whose sum differs from fal's."""
        compared = self._comparison.last
        if compared is None:
            return ()
        polled = {*self.sources}
        return compared.sentences(
            [
                difference
                for difference in compared.differences
                if "organization" in polled or source_of_product(difference) in polled
            ]
        )

    def gaps(self) -> tuple[str, ...]:
        """Return a sentence for every kind of charge that the key cannot read."""
        return self._choice.gaps(self.sources)

    def remarks(self, reconciliations: Collection[Reconciliation]) -> tuple[str, ...]:
        """Return a sentence for everything that the figures lack.

        Args:
            reconciliations: the account's.
        """
        gaps = tuple(filter(None, (self.offer(), *self.gaps())))
        shortfalls = shortfalls_of(reconciliations, [month.start for month in months(self._clock())])
        unnamed = filter(None, (self._names.remark(), self._machines.remark()))
        untagged = filter(None, (self.tags.remark(),)) if self.tags is not None else ()
        shortfalls = shortfalls if gaps else ()
        return (*gaps, *shortfalls, *self._reconciler.remarks, *limits_of(self.sources), *unnamed, *untagged)

    async def _ask_standing(self) -> None:
        """Ask whether the account is locked; what cannot be asked now is asked again with the next balance."""
        try:
            if self._owners is not None:
                await self._owners.confirm(self.name)
            standing = await read_standing(self._client)
        except (UpstreamError, ConfigurationError, LedgerError):
            return  # the poll of the balance meets the same error and reports it
        if standing.is_paying is not None:
            self._is_paying = standing.is_paying
        if standing.budgets is not None:
            self._health.provider_budgets(self.name, standing.budgets)
        self._is_stated_unlocked = standing.is_stated and standing.lock is None
        problems = () if standing.is_stated else standing.problems
        if problems and not self._told_no_standing:
            _log.info("fal does not state whether the account is locked", account=self.name, problem=" ".join(problems))
        self._told_no_standing = bool(problems)

    def _report_locks(self) -> None:
        """Log and publish a change of the lock."""
        reasons = self.lock_reasons
        if reasons == self._told_locks:
            return
        self._balance_before_lock = self._seen_balance if reasons else None
        for reason in reasons:
            if reason not in self._told_locks:
                _log.warning(
                    "fal has locked the account",
                    account=self.name,
                    reason=reason,
                    advice=LOCK_ADVICE[reason],
                    hint=self.floor_hint,
                )
        if not reasons:
            _log.info("the account is no longer locked", account=self.name, after=", ".join(self._told_locks))
        self._told_locks = reasons
        self._runner.publish_soon()

    async def _poll_rejected(self, window: Window) -> None:
        """Poll earlier hours with rejected rows again once a window can be read: so, it seems, can they."""
        deep = trailing_window(self._clock(), self._reach.deep)
        windows: dict[str, Iterable[Window]] = {}
        for source, (_, polled) in self._sources.items():
            first, end = polled.rejected.first, polled.rejected.end
            if first is not None and end is not None and deep.start < end <= window.start:
                windows[source] = Window(max(first, deep.start), end).pieces(PIECE_HOURS)
        await self._poll_each(windows)

    async def _compare_products(self, window: Window) -> None:
        """Compare the sums by product where every source is up; what cannot be compared now is not known."""
        sources = [polled for _, polled in self._sources.values()]
        if "organization" not in self._choice.readable or any(polled.state != "up" for polled in sources):
            self._comparison.forget()
        else:
            before = self.differences()
            await self._comparison.compare(window, list((await self._scopes()).values()))
            for sentence in self.differences():
                if sentence not in before:
                    _log.warning("the spend of a product differs from fal's", account=self.name, problem=sentence)
        compared = self._comparison.last
        self._health.source_differences(self.name, compared.differences if compared is not None else {})
        self._runner.publish_soon()

    async def _confirmed(self, work: Work, at: datetime) -> Mapping[str, int]:
        """Do a poll's work, unless another account is the same fal account."""
        if self._owners is not None:
            await self._owners.confirm(self.name)
        return await work(at)

    def _take_up(self, sources: Iterable[str]) -> None:
        for source in sources:
            reader = UsageReader(
                usage_source(source, self._client),
                account=self.name,
                ledger=self._ledger,
                with_api_key=self._with_api_key,
                clock=self._clock,
                meet_keys=self._names.meet,
            )
            self._sources[source] = (reader, self._runner.expect(self.name, source, is_usage=True))

    async def _scopes(self) -> dict[str, ScopeState]:
        """Return how far each source is known; where the ledger cannot tell, no source can be polled."""
        try:
            scopes = await self._ledger.scopes()
        except LedgerError as error:
            for _, polled in self._sources.values():
                await self._runner.poll(polled, partial(_give_up, error))
            return {}
        return {scope.source: scope for scope in scopes if scope.account == self.name}

    async def _poll_all(self, window: Window) -> None:
        """Poll a window again, as far back as each source's history is to be loaded."""
        scopes = await self._scopes()
        await self._poll_each(
            {source: known_part(window, scope, self._reach).pieces(PIECE_HOURS) for source, scope in scopes.items()}
        )

    async def _poll_each(self, windows: Mapping[str, Iterable[Window]]) -> None:
        """Poll the sources side by side, so that none waits for another that is slow."""
        await asyncio.gather(*(self._poll(source, its_own) for source, its_own in windows.items()))

    async def _poll(self, source: str, windows: Iterable[Window]) -> None:
        """Poll windows one by one, until one fails: its hours and all that follow wait for the next turn."""
        reader, polled = self._sources[source]
        for window in windows:
            work = partial(reader.read, window, polled)
            if not await self._runner.poll(polled, partial(self._confirmed, work)):
                return

    async def _read_balance(self, at: datetime) -> Mapping[str, int]:
        del at
        balance = await read_balance(self._client)
        if not self.lock_reasons:
            self._seen_balance = balance.amount
        await self._ledger.record_balance(balance)
        return {}

    async def _read_invoices(self, at: datetime) -> Mapping[str, int]:
        try:
            invoices = await read_invoices(self._client)
        except (FeatureError, ScopeError) as error:
            if await self._ledger.invoices(self.name):
                # Those that have been read are shown, and get old: one that is paid meanwhile looks overdue.
                raise
            # Not a failure that could end: an alert on it would never be quiet.
            if not self._told_no_invoices:
                self._told_no_invoices = True
                _log.info("the account's invoices cannot be read", account=self.name, problem=str(error))
            return {}
        await self._ledger.record_invoices(self.name, invoices, is_whole=not invoices.unread, foreign=invoices.foreign)
        self._reconciler.unread = invoices.unread
        await self._reconciler.compare_invoices(at)
        return invoices.rejected

    async def _read_prices(self, at: datetime) -> Mapping[str, int]:
        del at
        prices, rejected = await read_list_prices(self._client, self._price_models)
        await self._ledger.record_prices(prices)
        return rejected


async def _give_up(error: LedgerError, at: datetime) -> Mapping[str, int]:
    del at
    raise error


def known_part(window: Window, scope: ScopeState, reach: Reach) -> Window:
    """Return the part of a window that reaches to the current hour that is loaded, or to be loaded, as history."""
    start = history_start(scope.born_at, reach)
    if scope.history_from is not None:
        start = min(start, scope.history_from)
    return Window(max(window.start, start), window.end)


def history_progress(scope: ScopeState, reach: Reach) -> float:
    """Return the share of the configured history that a source has loaded, 0 to 1."""
    start = history_start(scope.born_at, reach)
    whole = hour_of(scope.born_at) + HOUR - start
    missing = whole if scope.history_from is None else max(scope.history_from - start, 0 * HOUR)
    return 1 - missing / whole
