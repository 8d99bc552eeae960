"""Faults on demand: what goes wrong with which calls, how a test says so, and what it does to rows and pages.

`faults` defines them, `fault_requests` reads them from requests, `row_faults` applies those about rows, `controls` is
the interface by which a test steers the simulator and asks for the truth. May import: `world`, `interfaces`. Begin
reading at `faults`.
"""
