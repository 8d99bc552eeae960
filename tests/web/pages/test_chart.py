import pytest
from web.pages.conftest import OVERVIEW, outline


@pytest.mark.parametrize(
    "words",
    [
        "Sun 8 Nov not all loaded $3.00 $0.0010 $3.00",
        "Tue 10 Nov $3.00",
    ],
)
def test_the_table_beside_it_has_every_figure(words: str) -> None:
    assert words in outline(OVERVIEW).text
