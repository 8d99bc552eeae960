"""Conformance rules of FOCUS as data, and the engine that evaluates them.

`table` reads the facts in `table.csv`, `wording` says them in words; `conditions` are the conditions in it;
`applicability` is what a provider supports. `fields`, `documents`, `header` and `measures` judge fields, JSON columns,
headers and rows; `compiled` puts them together for the columns of one file, row by row or column by column. Knows no
finding, no file and no report. Begin reading at `table`.
"""
