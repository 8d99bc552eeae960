"""Replicas: several exporters on one PostgreSQL ledger, one of which leads while the others follow.

The leader holds the lease (`lease`), polls every account, writes the ledger and puts each publication on the board
(`board`, in the form of `stored_form`), from which the followers take it, so that all of them serve the same bytes. One
that does not reach fal makes place for one that does (`contact`). Where calls to fal are divided, accounts have owners
(`owners`), to whom the leader gives errands (`errands`). `exporter.app.replica` and `division` play the roles. None of
it is imported where an exporter runs alone, and never by a web process. May import: `ledger` for its database,
`publication`, `fal.carriage`. Begin reading at `lease`.
"""
