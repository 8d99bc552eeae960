import asyncio
import threading

import pytest

from exporter.web.rest.answer_cache import Answer, AnswerCache, BusyError, answer_of, is_known
from exporter.web.rest.question_queue import Check, UnwantedError


def made(text: str) -> Answer:
    return answer_of(text, "application/json")


async def test_an_answer_is_made_once_and_remembered() -> None:
    answers, makings = AnswerCache(), []

    def make(_: Check) -> Answer:
        makings.append(1)
        return made("[]")

    assert await answers.answer("question", make) is await answers.answer("question", make)
    assert len(makings) == 1


async def test_who_asks_what_is_being_made_waits_for_that() -> None:
    answers, go, makings = AnswerCache(), threading.Event(), []

    def make(_: Check) -> Answer:
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

    def fail(_: Check) -> Answer:
        raise LookupError("nothing here")

    results = await asyncio.gather(*(answers.answer("question", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["nothing here"] * 3
    assert (await answers.answer("question", lambda _: made("[]"))).body == b"[]"


async def test_more_questions_than_can_wait_are_refused_at_once() -> None:
    answers, go = AnswerCache(threads=1, most=2), threading.Event()

    def make(_: Check) -> Answer:
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
    before = answer.size
    answer.pack()
    assert before >= answer.size == len(answer.body) + len(answer.packed or b"") + 1000
    assert (answer.packed is None) is (len(text) < 1000)


async def test_the_answers_that_are_kept_have_a_bound_and_the_oldest_goes_first() -> None:
    answers = AnswerCache(remembered=10_000)
    for number in range(6):
        await answers.answer(number, lambda _: made("x" * 900))
        answers.known(0)
    assert answers.known(0) is not None
    assert answers.known(1) is None
    assert answers.known(5) is not None
    await answers.answer("large", lambda _: made("".join(map(str, range(3000)))))
    assert answers.known("large") is None
    assert answers.known(0) is not None, "what is too large to be kept drives out nothing"


async def test_an_answer_that_is_forgotten_leaves_its_room_to_others() -> None:
    answers = AnswerCache(remembered=10_000)
    await answers.answer("first", lambda _: made("x" * 900))
    for number in range(40):
        await answers.answer(number, lambda _: made("x" * 900))
        answers.forget(number)
        answers.forget("never asked")
    assert answers.known("first") is not None
    assert answers.known(39) is None


@pytest.mark.parametrize(
    ("header", "known"),
    [("", False), ('"abc"', True), ('W/"abc"', True), ('"abc-gzip"', True), ('"ab", "abc"', True), ('"abcd"', False)],
)
def test_a_tag_is_known_however_it_is_written(header: str, known: bool) -> None:  # noqa: FBT001  a case
    assert is_known(header, "abc") is known


async def test_an_answer_that_nobody_waits_for_any_more_is_not_begun() -> None:
    answers, go, begun = AnswerCache(threads=1), threading.Event(), []

    def hold(_: Check) -> Answer:
        assert go.wait(10)
        return made("[]")

    def note(_: Check) -> Answer:
        begun.append(1)
        return made("[]")

    first = asyncio.create_task(answers.answer("first", hold))
    left = asyncio.create_task(answers.answer("left", note))
    shared = [asyncio.create_task(answers.answer("shared", note)) for _ in range(2)]
    await asyncio.sleep(0)
    left.cancel()
    shared[0].cancel()
    await asyncio.wait((left, shared[0]))
    go.set()
    await asyncio.gather(first, shared[1])
    assert left.cancelled()
    assert begun == [1]  # that of the one who still waits


async def test_an_answer_under_way_ends_at_its_next_check_when_its_caller_leaves() -> None:
    answers, begun, left, ended = AnswerCache(threads=1), asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def make(check: Check) -> Answer:
        loop.call_soon_threadsafe(begun.set)
        assert left.wait(10)
        try:
            check()
        except UnwantedError:
            ended.set()
            raise
        return made("[]")

    asking = asyncio.create_task(answers.answer("question", make))
    await begun.wait()
    asking.cancel()
    await asyncio.wait((asking,))
    left.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert (await answers.answer("question", lambda _: made("anew"))).body == b"anew"


async def test_what_waits_when_the_cache_closes_is_cancelled() -> None:
    answers, go = AnswerCache(threads=1), threading.Event()

    def hold(_: Check) -> Answer:
        assert go.wait(10)
        return made("[]")

    asking = [asyncio.create_task(answers.answer(number, hold)) for number in range(3)]
    await asyncio.sleep(0)
    answers.close()
    go.set()
    held, *waiting = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(held, Answer)
    assert [type(found) for found in waiting] == [asyncio.CancelledError] * 2
