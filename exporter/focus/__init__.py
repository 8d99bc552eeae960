"""FOCUS, the FinOps Open Cost and Usage Specification, as a file format: Cost and Usage, versions 1.0 to 1.4.

Reading: `reader.Reader` takes bytes in pieces and returns typed rows of the columns that a caller asks for
(`row_schema`, `csv_parser`). Writing: `writer.write` takes `charge.FocusCharge`, `outputs` makes files and folders of
any format of the rows. Checking: `checks.Checker` takes bytes and reports every broken rule (`rules`, `check_report`);
`expected` holds sums against invoices, `comparison` two data sets against each other. All stream, in bounded memory,
and calculate with exact decimals. May import: `charges` and `errors`; knows no fal,
no ledger and no network. Begin reading at `reader`.
"""
