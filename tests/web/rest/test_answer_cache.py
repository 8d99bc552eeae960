import asyncio
import threading

import pytest

from exporter.web.rest.answer_cache import Answer, AnswerCache, BusyError, answer_of, is_known


def made(text: str) -> Answer:
    return answer_of(text, "application/json")


async def test_an_answer_is_made_once_and_remembered() -> None:
    answers, makings = AnswerCache(), []

    def make() -> Answer:
        makings.append(1)
        return made("[]")

    assert await answers.answer("question", make) is await answers.answer("question", make)
    assert len(makings) == 1


async def test_who_asks_what_is_being_made_waits_for_that() -> None:
    answers, go, makings = AnswerCache(), threading.Event(), []

    def make() -> Answer:
        makings.append(1)
        assert go.wait(10)
        return made("[]")

    asking = [asyncio.create_task(answers.answer("question", make)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    assert len({id(answer) for answer in await asyncio.gather(*asking)}) == 1
    assert len(makings) == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered() -> None:
    answers = AnswerCache()

    def fail() -> Answer:
        raise LookupError("nothing here")

    results = await asyncio.gather(*(answers.answer("question", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["nothing here"] * 3
    assert (await answers.answer("question", lambda: made("[]"))).body == b"[]"


async def test_more_questions_than_can_wait_are_refused_at_once() -> None:
    answers, go = AnswerCache(threads=1, most=2), threading.Event()

    def make() -> Answer:
        assert go.wait(10)
        return made("[]")

    waiting = [asyncio.create_task(answers.answer(number, make)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await answers.answer(3, make)
    go.set()
    await asyncio.gather(*waiting)
    assert (await answers.answer(3, make)).body == b"[]"


@pytest.mark.parametrize("text", ["short", "".join(map(str, range(3000)))])
def test_an_answer_counts_with_its_packed_body_too(text: str) -> None:
    answer = made(text)
    assert answer.size >= len(answer.body) + len(answer.packed or b"")


async def test_the_answers_that_are_kept_have_a_bound_and_the_oldest_goes_first() -> None:
    answers = AnswerCache(remembered=10_000)
    for number in range(6):
        await answers.answer(number, lambda: made("x" * 900))
        answers.known(0)
    assert answers.known(0) is not None
    assert answers.known(1) is None
    assert answers.known(5) is not None
    await answers.answer("large", lambda: made("".join(map(str, range(3000)))))
    assert answers.known("large") is None
    assert answers.known(0) is not None, "what is too large to be kept drives out nothing"


@pytest.mark.parametrize(
    ("header", "known"),
    [("", False), ('"abc"', True), ('W/"abc"', True), ('"abc-gzip"', True), ('"ab", "abc"', True), ('"abcd"', False)],
)
def test_a_tag_is_known_however_it_is_written(header: str, known: bool) -> None:  # noqa: FBT001  a case
    assert is_known(header, "abc") is known
