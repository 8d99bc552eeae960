import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.queries.models import decimal_text, exact_json

DECIMALS = st.integers(-(10**30), 10**30).map(lambda nanos: Decimal(nanos).scaleb(-9))
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | DECIMALS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(TREES)
def test_what_is_written_reads_back_to_the_last_digit(tree: object) -> None:
    text = exact_json(tree)
    assert json.loads(text, parse_float=Decimal) == json.loads(exact_json(tree), parse_float=Decimal) == tree


@given(DECIMALS)
def test_a_decimal_is_written_without_exponent_and_needless_zeros(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not (text.endswith("0") and "." in text)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be written"):
        exact_json({"it": object()})
