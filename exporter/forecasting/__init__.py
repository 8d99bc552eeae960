"""Forecasts from the hours of the past, and changes from month to month.

Lives here: pure functions of sums and instants (`levels`, `rhythm`, `forecast`, `budgets`, `changes`)
and the values that are published (`state`). May import: `charges`, `calendar`, `samples`, `settings`; knows no ledger
and does no I/O. Begin reading at `rhythm`; `exporter.polling.forecasts` feeds it with the ledger's hours.
"""
