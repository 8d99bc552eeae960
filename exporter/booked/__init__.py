"""Bookings of a gateway or program for its requests, compared with what fal charged for them.

`sources` brings bookings of any form (CSV, Parquet, JSON, LiteLLM's API or database, Langfuse's exports) before DuckDB,
`comparison` joins them with the store of requests by request id, `report` writes the outcome for people and programs,
`process` makes a comparison beside the collector. DuckDB comes with the extra `events` and is imported when a
comparison is made. May import: `charges`, `events`, `errors`, `logs`, `worker`; neither `fal` nor `ledger`. Begin
reading at `comparison`.
"""
