import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.fal.answers import BrokenOffError, decoded

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_json_comes_out_as_it_went_in(value: object) -> None:
    assert decoded(json.dumps(value).encode()) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_fraction_keeps_every_digit(value: Decimal) -> None:
    text = f"{value:f}" if abs(value.adjusted()) < 200 else str(value)
    read = decoded(f"[{text}]".encode())
    assert isinstance(read, list)
    assert Decimal(read[0]) == value


def test_no_float_is_ever_made() -> None:
    assert decoded(b"[0.1, 1e2, 3]") == [Decimal("0.1"), Decimal(100), 3]


@pytest.mark.parametrize("number", ["1e99999999999999999999", "9" * 5000])
def test_a_number_beyond_all_bounds_is_infinite_and_spoils_nothing_else(number: str) -> None:
    assert decoded(f'{{"a": {number}, "b": 0.1}}'.encode()) == {"a": Decimal("Infinity"), "b": Decimal("0.1")}


def test_a_byte_order_mark_is_skipped() -> None:
    assert decoded(b"\xef\xbb\xbf[1]") == [1]


@given(VALUES.filter(lambda value: isinstance(value, list | dict) and bool(value)), st.data())
def test_a_text_that_is_cut_is_told_to_be(value: object, data: st.DataObject) -> None:
    whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(BrokenOffError):
        decoded(cut)


def test_a_cut_within_a_character_is_a_cut() -> None:
    with pytest.raises(BrokenOffError):
        decoded('["é'.encode()[:-1])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{'a': 1}",
        b"[1,]",
        b"[] []",
        b"[] x",
        b'[NaN, 0.5, "]"]',
        b"[-Infinity]",
        b"\xff",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_no_json_is_refused_but_not_called_cut(body: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  its exact kind is the point
        decoded(body)
    assert not isinstance(caught.value, BrokenOffError)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        decoded(body)
