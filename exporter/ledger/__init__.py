"""The ledger: the only durable package. It keeps every charge exactly and does the accounting on them.

`store.Ledger` is the door for the one process that writes; `reader.LedgerReader` opens snapshots beside it. Behind them
are the tables (`schema`, `rows`, `database`), what is in memory (`contents`, `totals`), what joins the two (`session`)
and pure rules: what a restatement changes (`restatement`), what it only moves (`relabelling`), what rows that cannot
be read guard (`rejected`), which label sets there are and what a counter may show
(`counters`). `collector_lock` allows one writer, `loss` notices that a ledger is gone. May import: `charges`,
`calendar`, `samples`, `errors`; never `fal`. Begin reading at `store`.
"""

from exporter.ledger.collector_lock import START_PATIENCE, LedgerInUseError, take_collector_lock
from exporter.ledger.counters import Rules
from exporter.ledger.coverage import WindowCoverage
from exporter.ledger.keys import KeyOwner, SourceProbe
from exporter.ledger.loss import LedgerCondition
from exporter.ledger.reader import LedgerReader
from exporter.ledger.reconciliation import Reconciliation, recorded_reconciliations
from exporter.ledger.rejected import recorded_rejected_rows
from exporter.ledger.restatement import NO_REJECTED_ROWS, RejectedRows, Restatement
from exporter.ledger.store import Ledger
from exporter.ledger.totals import LedgerView, ScopeState

__all__ = [
    "NO_REJECTED_ROWS",
    "START_PATIENCE",
    "KeyOwner",
    "Ledger",
    "LedgerCondition",
    "LedgerInUseError",
    "LedgerReader",
    "LedgerView",
    "Reconciliation",
    "RejectedRows",
    "Restatement",
    "Rules",
    "ScopeState",
    "SourceProbe",
    "WindowCoverage",
    "recorded_reconciliations",
    "recorded_rejected_rows",
    "take_collector_lock",
]
