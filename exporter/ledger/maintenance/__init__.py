"""Maintenance: what a person does with a ledger by hand, from a command.

Lives here: a ledger looked at without a change (`inspection`), checked (`verification`), copied and restored
(`backup`), moved to another database (`moving`), and an account of it renamed (`renaming`). Nothing that runs with
`serve` imports it. May import: the rest of `ledger`. Begin reading at `backup`.
"""
