"""Reader of the ledger beside the exporter that writes it: one snapshot for everything that one answer is made of."""

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, Engine, QueuePool, inspect

from exporter.charges import Invoice, Window, hour_number, hour_start
from exporter.errors import LedgerError
from exporter.forecasting.what_if import AppWeek
from exporter.interruption import Check, ended_by
from exporter.ledger.accounting.coverage import Scope, ScopeState, state_of
from exporter.ledger.accounting.key_labels import KeyLabels, values_of
from exporter.ledger.accounting.reconciliation import Reconciliation
from exporter.ledger.accounting.restatement import RejectedRows
from exporter.ledger.accounting.tags import hours_to_divide
from exporter.ledger.day_sums import DaySums
from exporter.ledger.machines import as_charged, known_requests, read_app_weeks, read_efficiency, read_state_sums
from exporter.ledger.tables import machines, rows, schema
from exporter.ledger.tables.database import (
    NoLedgerError,
    check_tables,
    check_version,
    clear_errors,
    ledger_url,
    no_ledger,
    reading,
    reading_engine,
)
from exporter.ledger.tables.keys import labels_of, read_keys, tells_callers
from exporter.ledger.tables.machines import MachineAccount
from exporter.ledger.tables.rejected import read_rejected, scopes_with_rejected
from exporter.ledger.tables.rows import read_scopes
from exporter.ledger.tables.span_totals import (
    Bucket,
    UsageSum,
    UsageTerms,
    cuts_of,
    labelled,
    usage_sums,
    usage_sums_of,
)
from exporter.ledger.tables.tags import KEYS as TAG_KEYS
from exporter.ledger.tables.tags import hours_read, read_until, stated_runs, tagged_sums
from exporter.machines import AppSettings, Efficiency, StateSum
from exporter.tags import MODEL_SOURCES

_log = structlog.get_logger(__name__)

_UTC = ZoneInfo("UTC")
_EVERYTHING: Mapping[str, Collection[str]] = MappingProxyType({})
_REVISIONS = 10**9

_TICK = 50_000_000
"""Nanoseconds by which a write must be past, to be told from the next by its time."""

_MOST_BEHIND = 60.0
"""Seconds by which a standby may be behind that answers."""

_STANDBY_REST = 15.0
"""Seconds for which a standby that could not answer is not asked."""

_STANDBY_CONNECTS = 3
"""Seconds for which a standby is waited for, a question with it."""

_NO_STANDBY = "it takes writes itself; name a standby of the ledger's server in FAL_EXPORTER_LEDGER_READ_URL"
"""A server that was promoted, or a former primary, has a ledger of its own, and nothing tells how old that is."""

_ANOTHER_LEDGER = "it has another ledger; name a standby of the ledger's server in FAL_EXPORTER_LEDGER_READ_URL"

_BEHIND = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL "
    # Where nothing is written nothing is to be copied, as long as there is a connection to copy it by.
    "WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 "
    "ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'infinity') END"
)


@dataclass(slots=True)
class _Known:
    """Small things that are read once of each revision; several threads may read them at once, and find the same."""

    scopes: tuple[Scope, ...] | None = None
    with_rejected: frozenset[int] | None = None
    key_labels: KeyLabels | None = None


class LedgerSnapshot:
    """A ledger as of one instant: everything asked of it is answered from the same state.

    Args:
        connection: in a transaction that sees one state (SQLite in WAL mode; REPEATABLE READ in PostgreSQL).
        facts: single facts of the ledger, by name.
        sums: those in memory; None for none.
        known: what has been read of the same revision.
    """

    def __init__(
        self,
        connection: Connection,
        facts: Mapping[str, str],
        sums: DaySums | None = None,
        known: _Known | None = None,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._sums = sums
        self._known = _Known() if known is None else known

    @property
    def revision(self) -> int:
        """A number that is another one whenever anything that can be asked may have changed."""
        return self._numbered(schema.REVISION)

    @property
    def born_at(self) -> str:
        """When the ledger began to count, as it is written in the ledger: no other ledger has the same."""
        return self._facts[schema.BORN_AT]

    @property
    def charges_revision(self) -> int:
        """A number that is another one only when charges have changed, or which of them count."""
        return self._numbered(schema.CHARGES_REVISION)

    def usage(
        self,
        window: Window,
        by: Sequence[str],
        every: Bucket | None = None,
        *,
        zone: ZoneInfo | None = None,
        where: Mapping[str, Collection[str]] = _EVERYTHING,
    ) -> tuple[UsageSum, ...]:
        """Add up the charges of a window that the active sources state; in the order of time and group.

        A group that was charged nothing in a bucket is left out. Charges of hours that have been folded do not count,
        see `kept_from`.

        Args:
            window: the hours that count.
            by: names of dimensions (see `exporter.charges.Dimensions`); an API key is told by its label.
            every: what to divide the window into, by days and months of the zone; None for one sum per group.
            zone: UTC if None.
            where: the values that count, by the name of a dimension; "" is the value of what lacks it. Of an API key
                both its label and its id are values.
        """
        if "api_key" in where:
            where = {**where, "api_key": values_of(where["api_key"], self._key_labels)}
        terms = UsageTerms(window, by, every, zone or _UTC, where)
        if "api_key" not in by:
            return self._usage(terms)
        # Keys are known by their ids, and a label is that of a key of an account.
        asked = by if "account" in by else (*by, "account")
        sums = self._usage(terms._replace(by=asked))
        return labelled(sums, asked, len(by), self._key_labels)

    def _usage(self, terms: UsageTerms) -> tuple[UsageSum, ...]:
        scopes = [scope for scope in self._scopes if scope.active]
        # Hour by hour, all charges of the window have to be read.
        if self._sums is not None and terms.every != "hour":
            cuts = cuts_of(terms.window, terms.every, terms.zone)
            sums = self._sums.sums(self._connection, self.charges_revision, scopes, cuts, terms.by, terms.where)
            if sums is not None:
                return usage_sums_of(sums, cuts, terms.every)
        accounts = {scope.id: scope.account for scope in scopes}
        return usage_sums(self._connection, accounts, terms)

    @cached_property
    def tag_keys(self) -> tuple[str, ...]:
        """Keys of the tags that spend is read by."""
        return tuple(json.loads(self._facts.get(TAG_KEYS, "[]")))

    def tagged_usage(
        self,
        window: Window,
        by: Sequence[str],
        every: Bucket | None = None,
        *,
        zone: ZoneInfo | None = None,
        where: Mapping[str, Collection[str]] = _EVERYTHING,
    ) -> tuple[UsageSum, ...]:
        """Add up charges as `usage` does, but by account, model and tags; see `tables.tags.tagged_sums`."""
        accounts = {scope.id: scope.account for scope in self._scopes if scope.active}
        terms = UsageTerms(window, by, every, zone or _UTC, where)
        known_from: dict[str, datetime] = {}
        for scope in self._scopes:
            if scope.active and scope.source in MODEL_SOURCES and scope.history_from is not None:
                known_from[scope.account] = max(scope.history_from, known_from.get(scope.account, scope.history_from))
        return tagged_sums(self._connection, accounts, terms, self.tag_keys, known_from)

    def hours_read_by_tags(self, account: str, window: Window) -> int:
        """Return how many hours of a window have been read by tags for good."""
        return hours_read(self._connection, account, window)

    def difference_by_tags(self, account: str, window: Window) -> int:
        """Return what fal states by tags, tagged or not, less what the ledger has of models, in nano-USD.

        Only hours that have been read by tags for good count, of which the ledger has everything that tags divide.
        """
        hours = hours_to_divide((scope for scope in self._scopes if scope.active), account)
        start, end = max(hour_number(window.start), hours.start), min(hour_number(window.end), hours.stop)
        if start >= end:
            return 0
        difference = 0
        for run, stated in stated_runs(self._connection, account, range(start, end)):
            charged = self.usage(run, ("model",), where={"account": (account,)})
            difference += stated - sum(item.amounts.cost for item in charged if item.group[0])
        return difference

    def read_by_tags_until(self, account: str, window: Window) -> datetime:
        """Return up to where all hours of a window have been read by tags for good."""
        return read_until(self._connection, account, window)

    @cached_property
    def tells_callers(self) -> bool:
        """True if charges are known by API key or member."""
        return tells_callers(self._connection)

    @property
    def key_labels(self) -> KeyLabels:
        """The label of every API key that is known, by account and id."""
        return self._key_labels

    @property
    def _key_labels(self) -> KeyLabels:
        if self._known.key_labels is None:
            self._known.key_labels = labels_of(read_keys(self._connection))
        return self._known.key_labels

    def scopes(self) -> tuple[ScopeState, ...]:
        """Return how far every active source is known; of an account without sources yet, that nothing is."""
        known = tuple(state_of(scope) for scope in self._scopes if scope.active)
        counted = {scope.account for scope in known}
        return (*known, *(_unread(account) for account in self._configured or () if account not in counted))

    def rejected_rows(self, window: Window) -> dict[tuple[str, str], RejectedRows]:
        """Return the rows that cannot be read and may be of a window, by account and source; none where all can."""
        if self._known.with_rejected is None:
            self._known.with_rejected = scopes_with_rejected(self._connection)
        found = {
            (scope.account, scope.source): read_rejected(self._connection, scope.id, window)
            for scope in self._scopes
            if scope.active and scope.id in self._known.with_rejected
        }
        return {key: rejected for key, rejected in found.items() if rejected.by_reason}

    def state_sums(self, window: Window) -> tuple[StateSum, ...]:
        """Return what apps cost in a window by the state of their runners, of the accounts that are divided by it."""
        return read_state_sums(self._connection, self._machine_scopes, window)

    def efficiency(self, window: Window) -> tuple[Efficiency, ...]:
        """Return what the requests of apps and models cost in a window, of the same accounts.

        Hours of which charges or requests are not known count for neither; see `hours_with_requests`.
        """
        windows = {
            account: Window(max(window.start, known.start), min(window.end, known.end))
            for account, known in self.hours_with_requests.items()
            if known is not None and known.start < window.end and window.start < known.end
        }
        return read_efficiency(self._connection, self._machine_scopes, windows)

    @cached_property
    def hours_with_requests(self) -> Mapping[str, Window | None]:
        """By account, the hours of which charges and requests are both known, of the accounts divided by state."""
        charges: dict[str, list[ScopeState]] = {account: [] for account in self._machine_scopes.values()}
        for scope in self.scopes():
            if scope.account in charges:
                charges[scope.account].append(scope)
        return {
            account: known_requests(self._connection, self.machine_accounts[account], _known_hours(its))
            for account, its in sorted(charges.items())
        }

    def app_settings(self) -> tuple[AppSettings, ...]:
        """Return the settings of apps as fal listed them last, with the environments that charges have."""
        charged = {(values[0], values[1], values[2]) for values in machines.read_series(self._connection).values()}
        return as_charged(machines.read_settings(self._connection), charged)

    def app_weeks(self, window: Window) -> tuple[AppWeek, ...]:
        """Return the apps that other settings can be tried on, with their hours in a window."""
        return read_app_weeks(
            self._connection, self.app_settings(), self.machine_accounts, self._machine_scopes, window
        )

    @cached_property
    def machine_accounts(self) -> Mapping[str, MachineAccount]:
        """The accounts whose charges are divided by the states of runners."""
        return machines.read_accounts(self._connection)

    @cached_property
    def _machine_scopes(self) -> Mapping[int, str]:
        return {
            scope.id: scope.account for scope in self._scopes if scope.active and scope.account in self.machine_accounts
        }

    def kept_from(self) -> datetime | None:
        """Return the first hour whose charges are kept, None where none have been folded."""
        horizon = int(self._facts.get(schema.HORIZON) or 0)
        return hour_start(horizon) if horizon else None

    def seconds_behind(self) -> float | None:
        """Return by how much a server that is a standby is behind its primary; None for all others."""
        behind = self._connection.exec_driver_sql(_BEHIND).scalar()
        return None if behind is None else float(behind)

    def invoices(self) -> tuple[Invoice, ...]:
        """Return the invoices of all accounts, newest first."""
        configured = self._configured
        found = rows.read_invoices(self._connection)
        return tuple(item for item in found if configured is None or item.account in configured)

    @property
    def _scopes(self) -> tuple[Scope, ...]:
        """Those of the accounts that are configured; what is known of others waits until they come back."""
        if self._known.scopes is None:
            configured = self._configured
            found = read_scopes(self._connection)
            self._known.scopes = tuple(scope for scope in found if configured is None or scope.account in configured)
        return self._known.scopes

    @cached_property
    def _configured(self) -> tuple[str, ...] | None:
        """The accounts that are configured; None where the ledger is too old to know."""
        return schema.accounts_of(self._facts.get(schema.ACCOUNTS))

    def _numbered(self, fact: str) -> int:
        return _numbered(self._facts, fact)


def _known_hours(sources: Sequence[ScopeState]) -> Window | None:
    starts = [scope.history_from for scope in sources if scope.history_from is not None]
    ends = [scope.data_through for scope in sources if scope.data_through is not None]
    if not sources or len(starts) < len(sources) or len(ends) < len(sources) or max(starts) >= min(ends):
        return None
    return Window(max(starts), min(ends))


def _unread(account: str) -> ScopeState:
    """Return the state of an account whose sources have not been chosen, as its key can read none so far."""
    never = datetime.max.replace(tzinfo=UTC)
    return ScopeState(account, "usage", never, None, None, None, None, 0, 0, 0)


def _numbered(facts: Mapping[str, str], fact: str) -> int:
    born = datetime.fromisoformat(facts[schema.BORN_AT])
    return int(born.timestamp()) * _REVISIONS + int(facts.get(fact) or 0)


class LedgerReader:
    """Reads a ledger beside the exporter that writes it; takes no write lock and may be used from several threads.

    The ledger need not exist yet, and another one may take its place: every snapshot reads what is there.

    Args:
        address: `sqlite:///path` or `postgresql://user@host/database`.
        standby: address of a copy that is asked in its place, as long as it can be and is not far behind.
        connects: seconds for which a server is waited for, where its address does not say.

    Attributes:
        address: the first, for processes that read the ledger by themselves; it may hold a password.

    Raises:
        NoLedgerError: from every other method: there is no ledger yet.
        LedgerError: from every other method: it is of another version, or it cannot be read.
    """

    def __init__(self, address: str, *, standby: str | None = None, connects: int | None = None) -> None:
        self.address = address
        self._standby = None if standby is None else LedgerReader(standby, connects=_STANDBY_CONNECTS)
        self._standby_from = 0.0
        self._standby_problem = ""
        self._born_at = ""
        self._url = ledger_url(address)
        if connects is not None and "connect_timeout" not in self._url.query:
            self._url = self._url.update_query_dict({"connect_timeout": str(connects)})
        self._path = Path(self._url.database or "") if self._url.get_backend_name() == "sqlite" else None
        self._lock = Lock()
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._is_known = False
        self._sums = DaySums()
        self._of_revision: tuple[int, _Known] = (-1, _Known())

    def close(self) -> None:
        """Let go of the database; a later call opens it again."""
        if self._standby is not None:
            self._standby.close()
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
            self._engine, self._is_known, self._sums = None, False, DaySums()

    def revision(self) -> int:
        """Return a number that is another one whenever anything that can be asked may have changed."""
        with self.snapshot() as snapshot:
            return snapshot.revision

    def files(self) -> tuple[tuple[int, ...], ...] | None:
        """Return what is another one whenever the files of the ledger have been written; costs a few microseconds.

        None where that cannot be told: on a server, and for a moment after a write, as another in the same tick of the
        file system's clock would leave no trace.
        """
        if self._path is None:
            return None
        found = []
        # What is committed is in the log beside the file first.
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        if not found or not 0 <= max(map(itemgetter(3), found)) < time.time_ns() - _TICK:
            return None
        return tuple(found)

    @contextmanager
    def snapshot(self, check: Check | None = None) -> Iterator[LedgerSnapshot]:
        """Open the ledger as of one instant, for all the questions that one answer is made of.

        Args:
            check: raises once nobody waits for the answer any more; a statement under way then ends within the
                database. None where all that is asked is to be answered.
        """
        with ExitStack() as opened:
            yield self._of_standby(opened, check) or opened.enter_context(self._snapshot(check))

    def _of_standby(self, opened: ExitStack, check: Check | None) -> LedgerSnapshot | None:
        """Open the standby; return None where it cannot be asked."""
        if self._standby is None or time.monotonic() < self._standby_from:
            return None
        with ExitStack() as tried:
            try:
                snapshot = tried.enter_context(self._standby.snapshot(check))
                behind = snapshot.seconds_behind()
            except LedgerError as error:
                problem = str(error)
            else:
                if behind is None:
                    problem = _NO_STANDBY
                elif behind > _MOST_BEHIND:
                    problem = f"it is more than {_MOST_BEHIND:.0f} s behind its primary"
                elif not self._is_of_same_ledger(snapshot):
                    problem = _ANOTHER_LEDGER
                else:
                    opened.push(tried.pop_all())
                    self._standby_works("")
                    return snapshot
        self._standby_from = time.monotonic() + _STANDBY_REST
        self._standby_works(problem)
        return None

    def _is_of_same_ledger(self, snapshot: LedgerSnapshot) -> bool:
        """Return whether a snapshot is of the primary's ledger; as long as that could never be asked, it may be."""
        if snapshot.born_at != self._born_at:
            with suppress(LedgerError), self._snapshot(None) as own:
                self._born_at = own.born_at
        return self._born_at in {snapshot.born_at, ""}

    def _standby_works(self, problem: str) -> None:
        if bool(problem) != bool(self._standby_problem):
            if problem:
                _log.warning("the standby cannot answer questions; the primary does", problem=problem)
            else:
                _log.info("the standby answers questions")
        self._standby_problem = problem

    @contextmanager
    def _snapshot(self, check: Check | None) -> Iterator[LedgerSnapshot]:
        engine = self._opened()
        try:
            with clear_errors(self._url), engine.connect() as connection, ended_by(connection, check):
                if not self._is_known:
                    check_tables(connection, self._url)
                facts = schema.read_all(connection)
                check_version(facts.get("schema"), self._url)
                self._is_known = True
                yield LedgerSnapshot(connection, facts, self._sums, self._known_of(facts))
        except BaseException:
            self._is_known = False
            raise

    def _known_of(self, facts: Mapping[str, str]) -> _Known:
        revision = _numbered(facts, schema.REVISION)
        of, known = self._of_revision
        if of != revision:
            known = _Known()
            self._of_revision = revision, known
        return known

    def _opened(self) -> Engine:
        """Return the engine of the database that is there now; a file may have been put in another's place."""
        with self._lock:
            found = self._identity()
            if self._engine is None or found != self._file:
                if self._engine is not None:
                    self._engine.dispose()
                self._engine = reading_engine(self._url, poolclass=QueuePool)
                self._file, self._is_known, self._sums = found, False, DaySums()
                self._of_revision = -1, _Known()
            return self._engine

    def _identity(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            raise no_ledger(self._url) from None
        return status.st_dev, status.st_ino


def recorded_reconciliations(address: str, account: str) -> tuple[Reconciliation, ...]:
    """Return an account's comparisons in a ledger that an exporter may be using; none where there is no ledger yet.

    Raises:
        LedgerError: the database cannot be read.
    """
    try:
        with reading(address, of_any_version=True) as connection:
            if not inspect(connection).has_table(schema.reconciliations.name):
                return ()
            return tuple(item for item in rows.read_reconciliations(connection).values() if item.account == account)
    except NoLedgerError:
        return ()
