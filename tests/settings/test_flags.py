from exporter.settings import Settings
from exporter.settings.table import flags


def test_every_setting_but_keys_and_accounts_is_a_flag() -> None:
    named = {flag.field: flag for flag in flags()}
    assert set(Settings.model_fields) - set(named) == {"key", "entries", "budgets"}
    assert named["poll_interval"].name == "--poll-interval"
    assert named["poll_interval"].placeholder == "DURATION"
    assert named["max_answer_size"].placeholder == "SIZE"
    assert named["max_series"].placeholder == "NUMBER"
    assert named["key_file"].placeholder == "FILE"
    assert named["access_log"].placeholder is None
    assert "[FAL_EXPORTER_POLL_INTERVAL; default: 5m]" in named["poll_interval"].description
