"""The ledger: the only durable package. It keeps every charge exactly and does the accounting on them.

`store.Ledger` is the door; it joins the tables (`schema`, `rows`, `database`, `session`) with the pure rules: what a
restatement changes (`restatement`), which label sets there are and what a counter may show (`counters`). `totals` holds
the running sums in memory and lays them out as pages of samples. `reader.LedgerReader` opens snapshots beside the
exporter that writes. May import: `charges`, `calendar`, `samples`, `errors`; never `fal`. Begin reading at `store`.
"""

from exporter.ledger.counters import Rules
from exporter.ledger.keys import KeyOwner, SourceProbe
from exporter.ledger.reader import LedgerReader
from exporter.ledger.reconciliation import Reconciliation, recorded_reconciliations
from exporter.ledger.restatement import Restatement
from exporter.ledger.store import Ledger
from exporter.ledger.totals import LedgerView, ScopeState

__all__ = [
    "KeyOwner",
    "Ledger",
    "LedgerReader",
    "LedgerView",
    "Reconciliation",
    "Restatement",
    "Rules",
    "ScopeState",
    "SourceProbe",
    "recorded_reconciliations",
]
