"""Forecasts from the hours of the past: runway, budgets, a period's end, expected spend.

Lives here: pure functions of sums and instants (`rhythm`, `forecast`, `budgets`) and the values that are published
(`state`). May import: `charges`, `calendar` and `settings`; knows no ledger and does no I/O. Begin reading at
`rhythm`; `exporter.polling.forecasts` feeds it with the ledger's hours.
"""
