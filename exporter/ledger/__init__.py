"""The ledger: the only durable room. It keeps every charge exactly and does the accounting on them.

`store` is the door; it joins the tables (`schema`, `database`, `session`) with the pure rules: what a restatement
changes (`restatement`), which label sets there are (`label_sets`), what a counter may show (`counters`), which hours
make up today and the month (`calendar`). `books` holds the running sums in memory and lays them out as pages of
samples. Beside the exporter that writes it, `reader` answers sums over any window out of the totals that are kept with
the charges (`span_totals`, `usage_sums`).
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
