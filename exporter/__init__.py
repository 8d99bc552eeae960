"""fal-exporter: an exact ledger of fal spend, published to Prometheus.

Data flow one way: `fal` reads, `ledger` keeps, `metrics` and `queries` compute, `web` serves; `polling` drives the left
half and `app` joins the packages. Begin reading at `charges`, then `polling.account`, `ledger.store` and
`polling.publisher`. An import contract in `pyproject.toml` holds the direction.
"""

__version__ = "0.2.0"
