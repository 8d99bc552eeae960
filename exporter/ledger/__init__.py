"""The ledger: the only durable package. It keeps every charge exactly and does the accounting on them.

`store.Ledger` is the door for the one process that writes, with a door each for names, runners, tags and remote write
(`name_ledger`, `machine_ledger`, `tag_ledger`, `remote_ledger`); `reader.LedgerReader` opens snapshots beside it.
`accounting` holds the pure rules, `tables` the database. What is in memory (`contents`, `directory`) is joined with the
database by `session`. `collector_lock` allows one writer, `loss` notices that a ledger is gone; `export` reads what a
FOCUS file has, and `maintenance` has what a person does with a ledger by hand. May import: `charges`, `calendar`,
`samples`, `errors`; never `fal`. Begin reading at `store`.
"""

from exporter.ledger.accounting.counters import Rules
from exporter.ledger.accounting.coverage import AccountCoverage, ScopeState, WindowCoverage
from exporter.ledger.accounting.key_labels import KeyLabels, KeyRecord, labelled
from exporter.ledger.accounting.reconciliation import Reconciliation
from exporter.ledger.accounting.restatement import NO_REJECTED_ROWS, RejectedRows, Restatement
from exporter.ledger.accounting.totals import LedgerView, SeriesSpend
from exporter.ledger.collector_lock import START_PATIENCE, LedgerInUseError, take_collector_lock
from exporter.ledger.loss import LedgerCondition
from exporter.ledger.reader import LedgerReader, LedgerSnapshot, recorded_reconciliations
from exporter.ledger.store import Ledger
from exporter.ledger.tables.database import DISK_FULL
from exporter.ledger.tables.keys import KeyOwner, SourceProbe
from exporter.ledger.tables.rejected import recorded_rejected_rows

__all__ = [
    "DISK_FULL",
    "NO_REJECTED_ROWS",
    "START_PATIENCE",
    "AccountCoverage",
    "KeyLabels",
    "KeyOwner",
    "KeyRecord",
    "Ledger",
    "LedgerCondition",
    "LedgerInUseError",
    "LedgerReader",
    "LedgerSnapshot",
    "LedgerView",
    "Reconciliation",
    "RejectedRows",
    "Restatement",
    "Rules",
    "ScopeState",
    "SeriesSpend",
    "SourceProbe",
    "WindowCoverage",
    "labelled",
    "recorded_reconciliations",
    "recorded_rejected_rows",
    "take_collector_lock",
]
