"""The simulated world: what is charged in every hour, as a function of a seed and the time.

`exact` has numbers and calendar; `lines`, what is bought; `world`, how often; `company`, the world of the demo;
`injected_charges`, what a test or the demo adds; `account`, the same as fal knows it: balance, locks, invoices. Imports
nothing of the other rooms. Begin reading at `world`.
"""
