"""The families by what they tell of; `exporter.metrics.catalogue` joins them."""
