import warnings

with warnings.catch_warnings():
    # As it is imported, the SDK warns of a newer schema, which Grafana before version 12 cannot import.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.models.dashboard  # noqa: F401  once imported, it warns no more
