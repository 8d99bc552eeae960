from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.settings.loading import read_file

MARKUP = "ab:-[]{}'=#&*!|>%@,\\\n\t \x00" + '"'


def test_an_empty_file_holds_no_settings(tmp_path: Path) -> None:
    for name in ("empty.yaml", "empty.yml", "empty.toml", "EMPTY.YAML"):
        path = tmp_path / name
        path.write_text("")
        assert read_file(path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1, b: 2}",
        "a: [{b: 1}, {c: 1, c: 2}]",
        "a: 1\na: 2",
    ],
)
def test_a_key_given_twice_is_refused_at_any_depth(text: str, tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^has a key twice at line \d, column \d+$"):
        read_file(path)


@pytest.mark.parametrize("number", ["010", "-07", "0x10", "0b11", "1:30", "190:20:30", "1:30.5", "0_10"])
def test_a_number_that_yaml_does_not_read_as_it_looks_is_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"budgets:\n  - amount: {number}\n")
    with pytest.raises(ValueError, match=r"^has a number at line 2, column 13 that .*put it in quotes$") as caught:
        read_file(path)
    assert number not in str(caught.value).replace("010 is 8, 0x10 is 16, 1:30 is 90", "")
    path.write_text(f'budgets:\n  - amount: "{number}"\n')
    assert read_file(path) == {"budgets": [{"amount": number}]}


def test_a_number_whose_last_digits_would_be_lost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("amount: 123456789012.123456789")
    with pytest.raises(ValueError, match=r"^has a number at line 1, column 9 that cannot be kept to its last digit"):
        read_file(path)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("10", 10),
        ("-7", -7),
        ("1_000", 1000),
        ("0.10", 0.1),
        ("1500.50", 1500.5),
        ("1_0.5", 10.5),
        ("1.5e+3", 1500),
    ],
)
def test_plain_numbers_are_read_as_they_look(text: str, number: float, tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(f"\ufeffvalue: {text}\n", encoding="utf-8")
    assert read_file(path) == {"value": number}


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "? {a: 1}\n: b", "a: *id:secret", "[" * 5000])
def test_yaml_that_is_more_than_data_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^is not valid YAML") as caught:
        read_file(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.text(MARKUP, max_size=40).map(str.encode)))
def test_any_content_is_settings_or_one_sentence(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        found = read_file(path)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  some content is settings
    else:
        assert all(isinstance(name, str) for name in found)
