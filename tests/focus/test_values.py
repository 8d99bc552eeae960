from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus.values import instant, instant_text, json_object, key_values, number, number_text, told_amount

decimals = st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**20), max_value=10**20)


@given(decimals)
def test_a_number_is_written_in_fixed_notation_and_read_back_equal(value: Decimal) -> None:
    text = number_text(value)
    assert number(text) == value
    assert "." in text
    assert not set(text) & set("eE+")
    assert text != "-0.0"


@pytest.mark.parametrize(("value", "text"), [("1E+3", "1000.0"), ("-0", "0.0"), ("12", "12.0"), ("0.2500", "0.25")])
def test_numbers_that_decimal_would_write_otherwise(value: str, text: str) -> None:
    assert number_text(Decimal(value)) == text


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  the strategy adds the zone
def test_an_instant_is_read_back_to_the_second(moment: datetime) -> None:
    assert instant(instant_text(moment)) == (moment.replace(microsecond=0), True)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for read in (number, instant, key_values, json_object):
        with suppress(ValueError):
            assert read(text) is not None


def test_tags_stay_exact() -> None:
    assert key_values('{"a": 0.1234567890123456789, "b": true}') == {"a": Decimal("0.1234567890123456789"), "b": True}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[1]", "", "{" * 100_000, '{"a": []}'])
def test_what_is_no_key_value_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        key_values(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1E70", "has more than 60 places"),
        ("1" * 62, "has more than 60 places"),
        ("0." + "1" * 70, "has more than 60 places"),
        ("1E999999999999999999999", "has more than 60 places"),
        ("1E-999999999999999999999", "has more than 60 places"),
        ("$40.198572", "is not a number"),
        ("NaN", "is not a number"),
        ("Infinity", "is not a number"),
    ],
)
def test_one_gate_refuses_a_number_in_a_field_and_in_json_alike(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        number(text)
    with pytest.raises(ValueError, match=f"which {reason}$|is not JSON$"):
        json_object(f'{{"price": {text}}}')


def test_zeros_before_an_exponent_are_no_digits_of_it() -> None:
    assert number("1E0000000000000000000000000000003") == Decimal(1000)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$4.20", "4.20"),
        ("US$4.20", "4.20"),
        (" R$ 1,234.50", "1234.50"),
        ("4.20 USD", "4.20"),
        ("1.234 \N{EURO SIGN}", "1.234"),
        ("$-4.20", "-4.20"),
        ("1,234,567", "1234567"),
    ],
)
def test_an_amount_with_a_currency_is_told(text: str, amount: str) -> None:
    assert told_amount(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        *("\N{MINUS SIGN}4.20", "\N{EN DASH}4.20", "4.20-", "-$4.20", "(4.20)", "4.20 CR"),
        *("4.20k", "12%", "<4.20", "4.20 ct", "1,234", "1,2345.6", "NaN", ""),
    ],
)
def test_an_amount_whose_sign_or_size_is_in_doubt_is_not_told(text: str) -> None:
    assert told_amount(text) is None
