"""Requests: a store of single charged requests, and what is made of them.

Pure parts: names of files and which of them count (`layout`), sums of an hour and their comparison with the ledger
(`summaries`), what is to be read next (`progress`), questions as SQL (`questions`). Parts with I/O: folders (`objects`)
and object stores (`bucket`), Parquet files (`parquet_files`) and the store in them (`parquet_store`), the one in
ClickHouse (`clickhouse_store`), and `store`, which opens either. Libraries of the extra `events` are imported when a
store is opened.
May import: `charges`, `errors`; neither `fal` nor `ledger`. Begin reading at `layout`, then `store`.
"""
