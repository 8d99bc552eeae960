import pytest
from web.pages.conftest import OVERVIEW, outline

from exporter.web.pages.chart import colours


@pytest.mark.parametrize(
    "words",
    [
        "Sun 8 Nov not all loaded $3.00 $0.0010 $3.00",
        "Tue 10 Nov $3.00",
        "Fri 20 Nov $3.00",
        "Sat 21 Nov not all loaded $3.00",
        "Last days by product 3 of 14 days not all loaded",
    ],
)
def test_the_table_beside_it_has_every_figure(words: str) -> None:
    assert words in outline(OVERVIEW).text


def test_fals_own_products_always_have_their_colours_and_others_what_is_left() -> None:
    assert colours(("serverless",)) == {"serverless": 1}
    assert colours(("new", "serverless", "", "model_apis")) == {"": 3, "model_apis": 0, "new": 4, "serverless": 1}
    assert set(colours(tuple(map(str, range(20)))).values()) == {3, 4, 5, 6}
