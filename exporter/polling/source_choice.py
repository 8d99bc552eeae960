"""Choice of an account's sources, and what its key can read beside them.

Where the user leaves the sources open, they are chosen once, by what the key can read; the ledger keeps the choice. It
is never changed silently, as another source counts from anew. But a key may come to read more, and one refusal may have
been a stray one. So the interfaces are asked again every day, and by every new version of the exporter, and what could
be polled, or cannot be, is reported.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from exporter import __version__
from exporter.charges import FOCUS_ESTIMATE, FOCUS_INVOICE, INVOICE, NANO, Clock, dollar_text
from exporter.errors import ConfigurationError
from exporter.fal import DETAILED, USAGE, ApiError, Client, Probe, automatic_sources, probe, unpolled_sources
from exporter.ledger import Reconciliation, SourceProbe
from exporter.metrics.health import Health
from exporter.polling.async_ledger import AsyncLedger

_log = structlog.get_logger(__name__)

NO_USAGE = (
    "this key cannot read usage, which needs a key with admin scope; the credit balance and the lock state are "
    "polled, and usage is retried"
)

_CENT = NANO // 100
_DAILY = timedelta(days=1)
_SOON = timedelta(hours=1)
_SECOND_LOOK = timedelta(seconds=1)
"""Delay before a call that failed is tried again; a stray failure is gone by then."""

_PATIENT_ROUNDS = 3
"""Rounds in which the choice waits for a clear answer of `/organization/usage`."""

_DECIDED = frozenset({"", "scope", "feature", "not_found"})
"""The reasons that say whether a key can read a source; others are passing failures."""

_CHARGES = {
    "models": "model endpoints",
    "serverless": "serverless apps",
    "compute": "compute machines",
}

_REFUSALS = {
    "scope": "fal answers that it lacks the scope",
    "feature": "fal answers that the account lacks the feature",
    "not_found": "fal answers that there is no such call",
}

_UNTOLD = {
    "organization": "list prices, discounts and surge prices",
    "reporting": "teams, API keys, list prices, discounts and surge prices",
}


class SourceChoice:
    """Sources that one account's key can read.

    Args:
        client: the account's own.
        ledger: where the answers are kept.
        health: shows which sources could be polled.
        clock: the time.

    Attributes:
        problem: why no sources could be chosen yet, in a sentence; empty otherwise.
    """

    def __init__(self, *, client: Client, ledger: AsyncLedger, health: Health, clock: Clock) -> None:
        self.problem = ""
        self._client = client
        self._ledger = ledger
        self._health = health
        self._clock = clock
        self._probes: dict[str, SourceProbe] = {}
        self._rounds = 0
        self._reported: dict[str, bool] = {}

    @property
    def readable(self) -> frozenset[str]:
        """The sources that the key could read when they were asked last."""
        return frozenset(source for source, found in self._probes.items() if not found.reason)

    async def recall(self, polled: Collection[str]) -> None:
        """Take up what the ledger knows of the key."""
        self._probes = {found.source: found for found in await self._ledger.probes(self._client.account)}
        self._report(polled)

    async def choose(self) -> tuple[str, ...]:
        """Return the sources to poll; none while fal gives no answer that decides, or the key can read none."""
        try:
            probes = await self._ask()
            chosen = automatic_sources(probes, is_patient=self._rounds < _PATIENT_ROUNDS)
        except (ApiError, ConfigurationError) as error:
            if isinstance(error, ApiError) and error.call == "/organization/usage":
                self._rounds += 1
            problem = f"the sources to poll cannot be chosen yet: {error}"
        else:
            if chosen:
                self.problem = ""
                await self._keep(probes, is_choice=True)
                _log.info(
                    "sources chosen by what the key can read", account=self._client.account, sources=_list(chosen)
                )
                self._report(chosen)
                return chosen
            refused = [found for found in probes if found.name in {"models", "serverless", "reporting"}]
            problem = NO_USAGE if any(item.scope for item in refused) else " ".join(item.problem for item in refused)
        if problem != self.problem:
            _log.warning("no usage is polled", account=self._client.account, problem=problem)
            self.problem = problem
        return ()

    async def probe_if_due(self, polled: Collection[str]) -> bool:
        """Ask what the key can read, where the last answers are a day old, of another version, or were unclear.

        Returns:
            Whether fal has been asked.

        Raises:
            ConfigurationError: the key cannot be used.
            LedgerError: the answers cannot be kept.
        """
        if not polled or not self._is_due():
            return False
        await self._keep(await self._ask(), is_choice=False)
        self._report(polled)
        return True

    def unpolled(self, polled: Collection[str]) -> tuple[str, ...]:
        """Return the sources that the key can read and whose charges no polled source reports."""
        return unpolled_sources(polled, self.readable)

    def offer(self, polled: Sequence[str], missing: str = "") -> str:
        """Return a sentence on the sources that could be polled, too; empty where there are none.

        Args:
            polled: the sources that are polled.
            missing: the dollars that are known to be missing, in words.
        """
        organization = self._probes.get("organization")
        teams = organization.teams if organization else 0
        return offer_of(self.unpolled(polled), polled, teams=teams, missing=missing)

    def gaps(self, polled: Collection[str]) -> tuple[str, ...]:
        """Return a sentence for everything that the figures lack because the key cannot read it."""
        return gaps_of(polled, {source: found.reason for source, found in self._probes.items()})

    def _is_due(self) -> bool:
        now = self._clock()
        if not self._probes:
            return True
        return any(
            found.version != __version__ or now - found.asked_at >= (_DAILY if found.reason in _DECIDED else _SOON)
            for found in self._probes.values()
        )

    async def _ask(self) -> tuple[Probe, ...]:
        """Try every interface; one that fails while others work is tried again, as one failure decides nothing."""
        probes = await probe(self._client, USAGE)
        failed = [found.name for found in probes if not found.ok]
        if not failed or len(failed) == len(probes):
            return probes
        await self._client.pause(_SECOND_LOOK)
        again = {found.name: found for found in await probe(self._client, failed)}
        return tuple(again.get(found.name, found) for found in probes)

    async def _keep(self, probes: Iterable[Probe], *, is_choice: bool) -> None:
        now = self._clock()
        account = self._client.account
        known = dict(self._probes)
        for found in probes:
            reason = found.error.reason if found.error is not None else ""
            before = known.get(found.name)
            known[found.name] = SourceProbe(
                account=account,
                source=found.name,
                asked_at=now,
                version=__version__,
                reason=reason,
                problem=found.problem,
                teams=found.teams,
                reason_at_choice=reason if is_choice else before.reason_at_choice if before else None,
            )
        await self._ledger.record_probes(tuple(known.values()))
        # Replaced as a whole: publications read it on another thread. And last, so that the page does not know what the
        # key can read before the metrics do.
        self._probes = known

    def _report(self, polled: Collection[str]) -> None:
        """Show which sources could be polled, and log what is new in that."""
        unpolled = self.unpolled(polled)
        account = self._client.account
        for source in DETAILED:
            if source not in self._probes:
                continue
            self._health.source_available(account, source, is_available=source in unpolled)
            is_missing = source not in polled and set(polled) <= set(DETAILED)
            if not is_missing or self._reported.get(source) == (source in unpolled):
                continue
            self._reported[source] = source in unpolled
            if source in unpolled:
                before = self._probes[source].reason_at_choice
                _log.warning(
                    "the key can read a source that is not polled",
                    account=account,
                    source=source,
                    advice=self.offer(tuple(polled)),
                    **({"refused_at_the_choice": before} if before else {}),
                )
            else:
                gap = " ".join(gaps_of(polled, {source: self._probes[source].reason}))
                _log.info("charges are missing that this key cannot read", account=account, source=source, problem=gap)
        for sentence in limits_of(polled):
            if not self._reported.get(sentence):
                self._reported[sentence] = True
                _log.debug("the source has limitations", account=account, problem=sentence)


def offer_of(unpolled: Sequence[str], polled: Sequence[str], *, teams: int, missing: str = "") -> str:
    """Return a sentence that offers to poll more sources; empty where there are none.

    Args:
        unpolled: the sources that could be polled, too.
        polled: those that are.
        teams: of the organization; 0 where that is not known.
        missing: dollars that are known to be missing, in words.
    """
    if not unpolled:
        return ""
    charges = " and ".join(_CHARGES[source] for source in unpolled)
    setting = "organization" if teams > 1 else _list([name for name in DETAILED if name in {*unpolled, *polled}])
    because = f", which covers all {teams} teams," if teams > 1 else ""
    return (
        f"This key can also read {' and '.join(unpolled)}: the charges of {charges} are not in these "
        f"figures{f' ({missing})' if missing else ''}. Add {'it' if len(unpolled) == 1 else 'them'}: set the sources "
        f"to {setting}{because} and restart; past charges become the starting value of the counters, so that none of "
        "them jumps."
    )


def gaps_of(polled: Collection[str], reasons: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for every kind of charge that no polled source reports and that the key cannot read.

    Args:
        polled: the sources that are polled.
        reasons: why each source cannot be read; empty where it can.
    """
    if not polled or not set(polled) <= set(DETAILED):
        return ()
    return tuple(
        f"The charges of {_CHARGES[source]} are not in these figures: this key cannot read {source} "
        f"({_REFUSALS.get(reasons[source], f'the last attempt failed: {reasons[source]}')})"
        f"{'; only an admin key of the root team of an organization can' if source == 'compute' else ''}."
        for source in DETAILED
        if source not in polled and reasons.get(source)
    )


def limits_of(polled: Collection[str]) -> tuple[str, ...]:
    """Return a sentence for every polled source that does not tell all there is to a charge."""
    return tuple(
        f"The source {source} reports neither {untold.replace(' and ', ' nor ')}."
        for source, untold in _UNTOLD.items()
        if source in polled
    )


def shortfalls_of(reconciliations: Collection[Reconciliation], months: Collection[datetime]) -> tuple[str, ...]:
    """Return a sentence for every month of which fal bills more than the ledger has.

    Args:
        reconciliations: of one account.
        months: the starts of the months that matter.
    """
    by_month: dict[datetime, Reconciliation] = {}
    for against in (FOCUS_ESTIMATE, INVOICE, FOCUS_INVOICE):
        by_month |= {
            reconciliation.month: reconciliation
            for reconciliation in reconciliations
            if reconciliation.against == against and reconciliation.month in months
        }
    return tuple(
        f"For {month:%Y-%m} fal bills {dollar_text(-compared.difference)} more than is counted here "
        f"({compared.against.replace('_', ' ')})."
        for month, compared in sorted(by_month.items())
        if compared.difference <= -_CENT
    )


def _list(names: Iterable[str]) -> str:
    return ",".join(names)
