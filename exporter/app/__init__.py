"""The composition root: builds the packages' parts and joins them; the only package that knows all of them.

Lives here: `serve`, `demo`, the `focus` commands and `mcp_stdio`, what an operator does by hand (`operations`), the
collector process, and `wiring`, which makes the collector from the settings, with what it delivers elsewhere
(`deliveries`). May import: everything but `cli`. Begin reading at `serve`, then `collector_process` and `wiring`. A
command imports what it runs when it is run, so that `serve` does not wait for the simulator, nor the process that
answers scrapes for the ledger's libraries.
"""
