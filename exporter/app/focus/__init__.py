"""The commands of `fal-exporter focus`.

Lives here: what is done with files (`files`: check, summarize and export them, list the rules), two of them compared
(`comparison`), fal's own report fetched (`fetch`) as a data set (`datasets`), and months of the ledger delivered
(`delivery`). May import: `focus`, `fal`, `queries.focus`, and `wiring` for a client. Begin reading at `files`.
"""
