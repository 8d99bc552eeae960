"""Naming of API keys: which label each key should have, and the change of published counters over to it.

A key whose charges are published under a label already gets another one in two steps: the keys are recorded, and once a
scrape has seen all that was counted under the old label, its label sets are renamed and their counters born again.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from exporter.charges import ApiKey, hour_start
from exporter.ledger.accounting.counters import Labels, LabelValues, renamed
from exporter.ledger.accounting.key_labels import KeyRecord, wanted_labels
from exporter.ledger.accounting.restatement import CellRow
from exporter.ledger.contents import Contents
from exporter.ledger.tables import rows
from exporter.ledger.tables.keys import labels_of, last_uses, write_keys

Renames = Mapping[tuple[str, str], str]
"""New labels by account and id of the key."""


def record_listed(
    connection: Connection, contents: Contents, labels: Labels, account: str, listed: Collection[ApiKey]
) -> None:
    """Keep the keys of an account as fal lists them; those that no label set shows yet get their labels at once."""
    before = {record.key.id: record for record in contents.keys.values() if record.key.account == account}
    new = [key.id for key in listed if key.id not in before]
    uses = last_uses(connection, account, new)
    after = {key_id: replace(record, is_listed=False) for key_id, record in before.items()}
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


def pending_renames(contents: Contents, labels: Labels) -> Renames:
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


def rename_keys(connection: Connection, contents: Contents, labels: Labels, renames: Renames, at: datetime) -> None:
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
    counters = contents.books.counters
    rows.write_counters(
        connection,
        counters,
        {key: renamed(counter, at) for key, counter in counters.items() if key.label_set in values_of},
    )
    _keep(connection, contents, [replace(contents.keys[name], label=label) for name, label in renames.items()])


def note_uses(connection: Connection, contents: Contents, account: str, added: Sequence[CellRow]) -> None:
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
    write_keys(connection, records)
    contents.keys.update({(record.key.account, record.key.id): record for record in records})
    key_labels = labels_of(contents.keys)
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
