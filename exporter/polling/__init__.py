"""Drives the left half: what is polled when, and what is published after it.

Lives here: one account's polls (`account`, `reconciler`, `machines`, `extras`), when they run (`scheduler`,
`poll_runner`), the ledger on its own thread (`async_ledger`), single requests (`requests`) and what was booked for them
(`booked`), the forecasts, the comparison with the last month and the publications made after every change (`forecasts`,
`comparisons`, `publisher`), answers to the web process (`inquiries`), what is sent elsewhere (`deliveries`), and
`collector`, which runs them all. May import: `fal`, `ledger`, `metrics`, `publication`, `queries`, `worker`; never
`web`. Begin reading at `collector`, then `account`.
"""
