"""Numbers to exposition: encoded once per change, then served as bytes.

Lives here: every family (`catalogue`), the numbers of one instant (`snapshot`), their text and gzip (`encoding`), the
exporter's own counters (`health`), those of single requests and of optional jobs (`requests`, `jobs`), samples with
time stamps (`backfill`), and hourly samples as they are sent (`remote_write`). May import: `ledger` and `forecasting`
for their values, `publication`. Begin reading at `catalogue`, then `snapshot`.
"""
