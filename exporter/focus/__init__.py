"""FOCUS, the FinOps Open Cost and Usage Specification, as a file format: Cost and Usage, versions 1.0 to 1.4.

Reading: `reader.Reader` is pushed bytes in pieces and returns typed rows of the columns that a caller asks for
(`shape`). Writing: `writer.write` takes `charge.FocusCharge`. Checking: `checks.Checker` is pushed bytes and reports
every rule that is broken. All three stream, in bounded memory, and calculate with exact decimals. Knows no upstream, no
ledger and no network.
"""
