"""Door of the ledger for names: API keys and teams as fal lists them, labels of keys, and what keys can read.

A key whose charges are published under a label already gets another one in two steps: the keys are recorded, and once a
scrape has seen all that was counted under the old label, its label sets are renamed and their counters born again.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from exporter.charges import ApiKey, Clock, Team, hour_start
from exporter.ledger.accounting.counters import Counter, CounterKey, Holds, Labels, LabelValues, renamed
from exporter.ledger.accounting.key_labels import KeyLabels, KeyRecord, wanted_labels
from exporter.ledger.accounting.restatement import CellRow
from exporter.ledger.contents import Contents
from exporter.ledger.session import Session
from exporter.ledger.tables import keys as tables
from exporter.ledger.tables import rows
from exporter.ledger.tables.keys import KeyOwner, SourceProbe

_RENAME_PATIENCE = timedelta(minutes=10)
"""Longest time for which a key keeps its old name because its counters have not been scraped."""

Renames = Mapping[tuple[str, str], str]
"""New labels by account and id of the key."""


class NameLedger:
    """Names in the ledger. Not for use from several threads at once.

    Args:
        session: returns the ledger's.
        labels: that charges are published under.
        clock: the time.
        holds: of the ledger's counters.

    Raises:
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(
        self, session: Callable[[], Session], *, labels: Labels, clock: Clock, holds: Holds[CounterKey]
    ) -> None:
        self._session = session
        self._labels = labels
        self._clock = clock
        self._holds = holds
        self._renames: Renames | None = None
        self._rename_wanted_at: datetime | None = None

    def probes(self, account: str) -> tuple[SourceProbe, ...]:
        """Return how the sources answered an account's key when they were asked last."""
        with self._session().reading() as connection:
            return tables.read_probes(connection, account)

    def record_probes(self, probes: Iterable[SourceProbe]) -> None:
        """Keep how sources answered."""
        with self._session().writing() as (connection, _):
            tables.write_probes(connection, probes)

    def key_owners(self) -> tuple[KeyOwner, ...]:
        """Return who the keys of all accounts belong to, as far as that is known."""
        with self._session().reading() as connection:
            return tables.read_owners(connection)

    def record_key_owner(self, owner: KeyOwner) -> None:
        """Keep who an account's key belongs to."""
        with self._session().writing() as (connection, _):
            tables.write_owner(connection, owner)

    def record_api_keys(self, account: str, keys: Collection[ApiKey], *, is_whole: bool = True) -> None:
        """Keep an account's API keys as fal lists them now.

        A key whose charges are published already takes its new name with one of the next views.

        Args:
            account: a configured account.
            keys: those that could be read.
            is_whole: whether these are all that fal lists; otherwise no other key is taken off the list.
        """
        with self._session().writing() as (connection, contents):
            _record_listed(connection, contents, self._labels, account, keys, is_whole=is_whole)
            self._renames = None

    def record_teams(
        self, account: str, teams: Collection[Team], *, show_idle: bool = True, is_whole: bool = True
    ) -> None:
        """Keep the teams of an account's organization as fal lists them now.

        Args:
            account: a configured account.
            teams: those that could be read.
            show_idle: whether those without charges in the periods that are published are shown at 0 from now on.
            is_whole: whether these are all of them; otherwise no other is forgotten.
        """
        now = self._clock()
        with self._session().writing() as (connection, contents):
            if not is_whole:
                read = {team.username for team in teams}
                teams = [*teams, *(team for team in contents.teams.get(account, ()) if team.username not in read)]
            tables.write_teams(connection, account, teams)
            contents.teams[account] = tuple(sorted(teams, key=lambda team: team.username))
            totals = contents.totals
            place = self._labels.names.index("team") if "team" in self._labels.names else None
            charged = set() if place is None else {values[place] for values in totals.charged(account)}
            idle = [
                self._labels.of_team(account, team.username)
                for team in teams
                if show_idle and team.username not in charged
            ]
            new = contents.directory.admit(connection, [values for values in idle if values is not None])
            counters = {CounterKey(number, "cost", ""): Counter(0, 0, now, released=False) for number in new}
            rows.write_counters(connection, {}, counters)
            for key in counters:
                self._holds.begin(key)
            totals.add_label_sets(new)
            totals.set_counters(counters)
            totals.show_at_zero(new)

    def key_labels(self) -> KeyLabels:
        """Return what API keys are published under, by account and id; another mapping whenever that changes."""
        return self._session().contents().directory.key_labels

    def restated(self, connection: Connection, contents: Contents, account: str, added: Sequence[CellRow]) -> None:
        """Note when keys were used, by charges that are new; `added` is in the order of hours."""
        _note_uses(connection, contents, account, added)

    def look_again(self) -> None:
        """Find out anew which keys should have other names: what is published has changed."""
        self._renames = None

    def rename_due(self, now: datetime) -> None:
        """Publish keys under the names that fal gives them now.

        What has been counted under the old name is to have been scraped before, or it would be lost to `increase()`;
        where nobody scrapes, nobody waits for it for long.
        """
        if self._renames is None:
            self._renames = _pending_renames(self._session().contents(), self._labels)
        if not self._renames:
            self._rename_wanted_at = None
            return
        if self._rename_wanted_at is None:
            self._rename_wanted_at = now
        if not self._holds.is_all_scraped and now - self._rename_wanted_at < _RENAME_PATIENCE:
            return
        with self._session().writing() as (connection, contents):
            _rename_keys(connection, contents, self._labels, self._renames, now)
        self._session().read_anew()


def _record_listed(
    connection: Connection,
    contents: Contents,
    labels: Labels,
    account: str,
    listed: Collection[ApiKey],
    *,
    is_whole: bool,
) -> None:
    """Keep the keys of an account as fal lists them; those that no label set shows yet get their labels at once."""
    before = {record.key.id: record for record in contents.keys.values() if record.key.account == account}
    new = [key.id for key in listed if key.id not in before]
    uses = tables.last_uses(connection, account, new)
    after = {key_id: replace(record, is_listed=record.is_listed and not is_whole) for key_id, record in before.items()}
    for key in listed:
        record = before.get(key.id)
        after[key.id] = (
            KeyRecord(key, key.id, last_used=uses.get(key.id))
            if record is None
            else replace(record, key=key, is_listed=True)
        )
    wanted = wanted_labels([record.key for record in after.values()], _other_callers(contents, account, after))
    shown = _shown(contents, labels, account)
    for key_id, record in after.items():
        if record.label not in shown and wanted[key_id] not in shown:
            after[key_id] = replace(record, label=wanted[key_id])
    _keep(connection, contents, [record for key_id, record in after.items() if record != before.get(key_id)])


def _pending_renames(contents: Contents, labels: Labels) -> Renames:
    """Return the labels that keys should have and do not have yet."""
    pending: dict[tuple[str, str], str] = {}
    by_account: defaultdict[str, dict[str, KeyRecord]] = defaultdict(dict)
    for record in contents.keys.values():
        by_account[record.key.account][record.key.id] = record
    for account, records in by_account.items():
        wanted = wanted_labels([record.key for record in records.values()], _other_callers(contents, account, records))
        changed = {key_id: label for key_id, label in wanted.items() if label != records[key_id].label}
        # What stands in the label and keeps standing there: a counter that a restored backup has brought back, say.
        staying = _shown(contents, labels, account) - {records[key_id].label for key_id in changed}
        pending |= {(account, key_id): label for key_id, label in changed.items() if label not in staying}
    return pending


def _rename_keys(connection: Connection, contents: Contents, labels: Labels, renames: Renames, at: datetime) -> None:
    """Publish keys under new labels. What is in memory is to be read anew afterwards."""
    new_labels = {
        (account, contents.keys[account, key_id].label): label for (account, key_id), label in renames.items()
    }
    values_of = {
        number: values
        for number, before in contents.directory.label_sets.items()
        if (values := renamed_key(before, labels, new_labels)) != before
    }
    rows.rename_label_sets(connection, values_of)
    counters = contents.totals.counters
    rows.write_counters(
        connection,
        counters,
        {key: renamed(counter, at) for key, counter in counters.items() if key.label_set in values_of},
    )
    _keep(connection, contents, [replace(contents.keys[name], label=label) for name, label in renames.items()])


def _note_uses(connection: Connection, contents: Contents, account: str, added: Sequence[CellRow]) -> None:
    """Note when keys were used, by charges that are new; `added` is in the order of hours."""
    latest = {row[1]: row[0] for row in added}
    first = contents.first_uses.get(account)
    used: dict[str, datetime] = {}
    for number, hour in latest.items():
        key_id = contents.directory.dimensions[number].api_key
        if key_id:
            used[key_id] = max(hour_start(hour), used.get(key_id, hour_start(hour)))
    if not used:
        return
    keyed = (row[0] for row in added if contents.directory.dimensions[row[1]].api_key)
    earliest = hour_start(next(keyed))
    contents.first_uses[account] = earliest if first is None else min(earliest, first)
    records = [(contents.keys.get((account, key_id)), hour) for key_id, hour in used.items()]
    later = [
        record.used(hour)
        for record, hour in records
        if record is not None and (record.last_used is None or record.last_used < hour)
    ]
    _keep(connection, contents, later)


def renamed_key(values: LabelValues, labels: Labels, new_labels: Mapping[tuple[str, str], str]) -> LabelValues:
    """Return a label set with the new label of its key, by account and old label."""
    account = labels.account_of(values)
    return tuple(
        new_labels.get((account, value), value) if name == "api_key" else value
        for name, value in zip(labels.names, values, strict=True)
    )


def _keep(connection: Connection, contents: Contents, records: Iterable[KeyRecord]) -> None:
    records = list(records)
    if not records:
        return
    tables.write_keys(connection, records)
    contents.keys.update({(record.key.account, record.key.id): record for record in records})
    key_labels = tables.labels_of(contents.keys)
    if key_labels != contents.directory.key_labels:
        contents.directory.key_labels = key_labels


def _other_callers(contents: Contents, account: str, known: Collection[str]) -> set[str]:
    """Return what charges of an account have in place of the id of a known key."""
    return {
        dimensions.api_key
        for dimensions in contents.directory.dimensions.values()
        if dimensions.account == account and dimensions.api_key and dimensions.api_key not in known
    }


def _shown(contents: Contents, labels: Labels, account: str) -> set[str]:
    """Return what stands in the label `api_key` of an account's label sets; nothing where there is no such label."""
    if "api_key" not in labels.names:
        return set()
    place = labels.names.index("api_key")
    return {
        values[place] for values in contents.directory.label_sets.values() if labels.account_of(values) == account
    } - {""}
