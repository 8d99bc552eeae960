"""Drives the left half: what is polled when, and what is published after it.

Lives here: one account's polls (`account`, `reconciler`, `machines`, `extras`), when they run (`scheduler`,
`poll_runner`), the ledger on its own thread (`async_ledger`), the forecasts, the comparison with the last month and the
publications made after every change (`forecasts`, `comparisons`, `publisher`), the push of FOCUS files (`focus_push`),
hourly samples by remote write (`remote_write`), metrics by OTLP (`otlp`), single requests (`requests`), and
`collector`, which runs them all. May import: `fal`, `ledger`, `metrics`, `publication`; never `web`. Begin reading at
`collector`, then `account`.
"""
