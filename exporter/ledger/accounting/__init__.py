"""The accounting of the ledger: rules over frozen records, without a database.

`restatement` says what a poll changes; `effects`, what becomes of totals and counters, and what it only moves between
label sets; `counters`, what a counter may show, and since when; `totals`, the running sums and the view made of them;
`coverage`, how far each source is known, and which windows whole; `reconciliation`, a bill beside the ledger;
`machines`, a charge divided by the states of its runners, and what requests cost; `tags`, an hour's spend allocated by
tags. May import: `charges`, `calendar`, `samples`, `tags`. Begin reading at `restatement`.
"""
