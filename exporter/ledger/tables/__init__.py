"""The tables of the ledger: what is kept, and the SQL that reads and writes it, on SQLite and on PostgreSQL.

`schema` describes every table but those of `machines`, `tags` and `remote`, `migrations` brings those of earlier
versions up to date, `database` opens them and turns a driver's errors into sentences. `rows`, `hours`, `span_totals`,
`prices`, `keys`, `rejected`, `machines`, `tags` and `remote` read and write inside a transaction that is passed to
them. May import: `accounting`, `charges`, `errors`, `tags`. Begin reading at `schema`.
"""
