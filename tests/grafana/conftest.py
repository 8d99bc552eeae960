import warnings

with warnings.catch_warnings():
    # As they are imported, the SDK warns of newer schemas, which Grafana before versions 12 and 13 cannot import.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.models.dashboard
    import grafana_foundation_sdk.models.dashboardv2beta1  # noqa: F401  once imported, they warn no more
