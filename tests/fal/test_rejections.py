from collections import Counter

import pytest

from exporter.fal.rows import Rejection, Rejections


def test_every_row_is_counted_and_the_first_of_a_source_and_reason_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts: Counter[str] = Counter()
    rejections = Rejections("prod", lambda text: text.replace("secret", "***"))
    for number in range(3):
        rejections.reject(counts, "models", Rejection.NEGATIVE, {"number": number, "key": "secret"})
    rejections.reject(counts, "serverless", Rejection.NEGATIVE, {})
    rejections.reject(counts, "models", Rejection.CURRENCY, {})
    assert counts == {"negative": 4, "currency": 1}
    logged = capsys.readouterr().out
    assert logged.count("row_rejected") == 3
    assert "'number': 0" in logged
    assert "secret" not in logged


def test_a_row_that_cannot_be_shown_is_still_counted(capsys: pytest.CaptureFixture[str]) -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    counts: Counter[str] = Counter()
    Rejections("prod", lambda text: text).reject(counts, "models", Rejection.WRONG_TYPE, nested)
    assert counts == {"wrong_type": 1}
    assert "cannot be shown" in capsys.readouterr().out
