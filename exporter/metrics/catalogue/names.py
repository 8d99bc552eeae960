"""Families of names: API keys and teams, as fal lists them."""

from exporter.metrics.catalogue.family import Family

_KEY = ("account", "key_id", "api_key")

NAMES: tuple[Family, ...] = (
    Family(
        "fal_api_key_info",
        "gauge",
        "1 for each API key that fal lists for the account, or has listed: its present alias, who created it and when. "
        "alias is the name that people know; key_id stays the same when it changes.",
        ("account", "key_id", "alias", "creator", "created"),
    ),
    Family(
        "fal_api_key_created_timestamp_seconds",
        "gauge",
        "When an API key that fal lists was created, in seconds since the epoch; use it to notice new keys. api_key is "
        "the value of that label of charges.",
        _KEY,
    ),
    Family(
        "fal_api_key_last_used_timestamp_seconds",
        "gauge",
        "Start of the last hour with a charge of an API key that fal lists, in seconds since the epoch; absent where "
        "the ledger knows none. Charges are known by key only where api_key or member is a label, or in a budget.",
        _KEY,
    ),
    Family(
        "fal_api_key_unused_since_timestamp_seconds",
        "gauge",
        "Since when an API key that fal lists has had no charge, in seconds since the epoch: start of the last hour "
        "with one, or, where the ledger knows none, the key's creation or the first hour known by key, whichever is "
        "later. Absent while no charges are known by key.",
        _KEY,
    ),
    Family(
        "fal_team_info",
        "gauge",
        "1 for each team that fal lists for the organization: team is its username, as in the charges, name its name.",
        ("account", "team", "name"),
    ),
)
