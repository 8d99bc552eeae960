from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.fal.answers import complaint, retry_after, scrubber

NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("1.5", 1.5),
        ("-3", None),
        ("soon", None),
        ("inf", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 2015 07:29:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_or_ignored(text: str, seconds: float | None) -> None:
    assert retry_after(httpx.Headers({"retry-after": text}), lambda: NOW) == seconds


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_no_retry_after_is_a_crash(text: str) -> None:
    seconds = retry_after(httpx.Headers({"retry-after": text}), lambda: NOW)
    assert seconds is None or seconds >= 0


@given(st.binary())
def test_any_body_of_an_error_is_read(body: bytes) -> None:
    said = complaint(httpx.Headers(), body, scrubber("id:some-secret"))
    assert len(said.message) <= 301


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"type": "not_found", "message": "m", "request_id": "r"}}', ("not_found", "m", "r")),
        (b'{"error": "plain"}', ("", "plain", "")),
        (b'{"detail": "older"}', ("", "older", "")),
        (b'{"detail": [{"msg": "x"}]}', ("", "[{'msg': 'x'}]", "")),
        (b'{"error": {"type": 5, "message": null}}', ("", "", "")),
        (b"[]", ("", "[]", "")),
        (b"upstream\nconnect error", ("", "upstream connect error", "")),
        (b"", ("", "", "")),
    ],
)
def test_errors_are_read_in_the_shapes_of_both_hosts(body: bytes, said: tuple[str, str, str]) -> None:
    found = complaint(httpx.Headers(), body, scrubber("id:some-secret"))
    assert (found.fal_type, found.message, found.request_id) == said


def test_a_text_is_cleaned_of_the_key_and_of_its_secret_alone_before_it_is_cut() -> None:
    scrub = scrubber("key-id:the-secret")
    assert scrub("you sent key-id:the-secret,\nor the-secret") == "you sent ***, or ***"
    assert "the-s" not in scrub("x" * 296 + "the-secret")
