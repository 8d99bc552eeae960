import re

from exporter.settings import Settings, settings_table
from exporter.settings.parsing import NEVER_A_FLAG
from exporter.settings.table import flags


def test_every_setting_has_a_row_with_its_names_default_and_meaning() -> None:
    head, rule, *rows = settings_table().splitlines()
    assert {line.count("|") for line in (head, rule, *rows)} == {6}
    assert len(rows) == len(Settings.model_fields)
    assert (
        "| `FAL_EXPORTER_SERIES_BIRTH_HOLD` | `--series-birth-hold` | `series_birth_hold` | `2m` "
        "| How long a new series stays at 0 before it shows its value; at least two scrape intervals. |"
    ) in rows
    assert [row.split("`")[1] for row in rows if "| `auto` |" in row] == [
        "FAL_EXPORTER_SOURCES",
        "FAL_EXPORTER_HISTORY",
        "FAL_EXPORTER_MACHINES",
    ]


def test_every_meaning_is_a_sentence() -> None:
    for info in Settings.model_fields.values():
        assert re.fullmatch(r"[A-Z`].+\.", str(info.description))


def test_every_default_in_the_table_reads_as_the_default() -> None:
    defaults = {}
    for row in settings_table().splitlines()[2:]:
        _, _, _, file, default, _, _ = (cell.strip(" `") for cell in row.split("|"))
        if default:
            defaults[file] = default
    written = Settings.model_validate({"key": "id:secret", **defaults})
    assert written.model_dump(exclude={"key"}) == Settings.model_validate({"key": "id:secret"}).model_dump(
        exclude={"key"}
    )
    assert len(defaults) > 20


def test_every_setting_but_keys_and_accounts_is_a_flag() -> None:
    named = {flag.field: flag for flag in flags()}
    assert set(Settings.model_fields) - set(named) == NEVER_A_FLAG
    assert {"key", "remote_write_password"} < NEVER_A_FLAG
    assert named["poll_interval"].name == "--poll-interval"
    assert named["poll_interval"].placeholder == "DURATION"
    assert named["max_answer_size"].placeholder == "SIZE"
    assert named["max_series"].placeholder == "NUMBER"
    assert named["key_file"].placeholder == "FILE"
    assert named["access_log"].placeholder is None
    assert "[FAL_EXPORTER_POLL_INTERVAL; default: 5m]" in named["poll_interval"].description
