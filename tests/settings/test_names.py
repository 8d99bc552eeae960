import pytest

from exporter.settings import Settings
from exporter.settings.fields import FILE_ONLY, NEVER_IN_FILE, Origins, environment_name, file_name, flag_name, nearest


def test_no_two_settings_share_a_name() -> None:
    for name in (environment_name, flag_name, file_name):
        assert len({name(field) for field in Settings.model_fields}) == len(Settings.model_fields)


def test_keys_go_by_the_names_of_fals_own_clients() -> None:
    assert environment_name("key") == "FAL_KEY"
    assert environment_name("key_file") == "FAL_KEY_FILE"
    assert environment_name("poll_interval") == "FAL_EXPORTER_POLL_INTERVAL"
    assert flag_name("poll_interval") == "--poll-interval"


def test_a_file_can_hold_every_setting_but_its_own_path() -> None:
    assert {"config_file"} == NEVER_IN_FILE
    assert {file_name(field) for field in FILE_ONLY} == {"accounts", "budgets"}


@pytest.mark.parametrize(
    ("name", "meant"), [("intervall", "interval"), ("Interval", "interval"), ("xyz", None), ("", None)]
)
def test_the_nearest_name_is_suggested_only_when_it_is_near(name: str, meant: str | None) -> None:
    assert nearest(name, ["interval", "timeout"]) == meant


def test_a_setting_that_nobody_wrote_goes_by_its_variable() -> None:
    origins = Origins({"listen": "--listen"})
    assert origins["listen"] == "--listen"
    assert origins["history"] == "FAL_EXPORTER_HISTORY"
    assert origins["entries"] == "accounts"
