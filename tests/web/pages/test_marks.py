import pytest

from exporter.web.pages.layout import colours, percent


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(1, 3, 33.33), (0, 5, 0), (5, 5, 100), (7, 5, 100), (-1, 5, 0), (1, 0, 0), (1, -5, 0)]
)
def test_a_share_is_what_a_bar_can_show(part: int, whole: int, shown: float) -> None:
    assert percent(part, whole) == shown


def test_fals_own_products_always_have_their_colours_and_others_what_is_left() -> None:
    assert colours(("serverless",)) == {"serverless": 1}
    assert colours(("new", "serverless", "", "model_apis")) == {"": 3, "model_apis": 0, "new": 4, "serverless": 1}
    assert set(colours(tuple(map(str, range(20)))).values()) == {3, 4, 5, 6}
