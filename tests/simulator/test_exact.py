import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator.exact import Exact, decimal_text, instant_of, json_text, microseconds, nanos_of, stamp


@given(st.integers(-(2**70), 2**70))
def test_decimal_text_is_exact(nanos: int) -> None:
    assert Decimal(decimal_text(nanos)).scaleb(9) == nanos
    assert nanos_of(decimal_text(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0"), (25_000_000, "0.025"), (1, "0.000000001"), (-180_000_000, "-0.18"), (10**10, "10")]
)
def test_decimal_text_is_short_and_never_in_powers(nanos: int, text: str) -> None:
    assert decimal_text(nanos) == text


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "0.0000000001"])
def test_an_amount_that_is_no_exact_nano_dollar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal"):
        nanos_of(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_json_text_reads_back_as_it_was(value: object) -> None:
    assert json.loads(json_text(value)) == value


def test_json_numbers_are_exact_decimals() -> None:
    assert json_text({"cost": Exact(9_007_199_254_740_993), "n": 3}) == '{"cost":9007199.254740993,"n":3}'


def test_a_float_is_never_written() -> None:
    with pytest.raises(TypeError, match="float"):
        json_text({"cost": 0.1})


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  given by timezones
def test_instants_survive_as_microseconds(instant: datetime) -> None:
    assert instant_of(microseconds(instant)) == instant


def test_stamps_carry_their_offset() -> None:
    instant = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert stamp(instant) == "2026-03-01T12:00:00Z"
    assert stamp(instant + timedelta(microseconds=5)) == "2026-03-01T12:00:00.000005Z"
