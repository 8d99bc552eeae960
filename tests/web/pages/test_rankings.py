import pytest
from web.pages.conftest import OVERVIEW, outline


@pytest.mark.parametrize(
    "words",
    [
        "Top models this month fal-ai/veo3 $60.00 60.0 %",
        "7 more $9.00 9.0 %",
        "GPU classes this month H100 $0.0100 <0.1 %",
    ],
)
def test_it_shows(words: str) -> None:
    assert words in outline(OVERVIEW).text
