"""fal-exporter: an exact ledger of fal spend, published to Prometheus."""

__version__ = "0.1.0"
