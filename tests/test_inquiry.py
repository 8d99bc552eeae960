import asyncio
import socket
from collections.abc import Callable

import pytest

from exporter.errors import ConfigurationError, UpstreamError
from exporter.inquiry import Answer, AnswerWriter, Channel, Handler, Inquirer, Inquiry, InquiryError, Responder

ASKED = Inquiry("echo", "studio", {"month": "2026-10"})
MEBIBYTE = b"0123456789abcdef" * 2**16


async def echo(inquiry: Inquiry, answer: AnswerWriter) -> None:
    await answer.head({"account": inquiry.account, **inquiry.fields})
    await answer.piece(MEBIBYTE)


async def reason_of(inquirer: Inquirer, inquiry: Inquiry = ASKED, *, patience: float = 10) -> tuple[str, str]:
    with pytest.raises(InquiryError) as caught:
        async with inquirer.ask(inquiry, patience=patience) as answer:
            await answer.body(10**9)
    return caught.value.reason, str(caught.value)


async def body_of(inquirer: Inquirer, most: int = 2 * len(MEBIBYTE)) -> tuple[object, bytes]:
    async with inquirer.ask(ASKED, patience=10) as answer:
        return answer.head, await answer.body(most)


async def test_a_question_is_answered_by_head_and_body() -> None:
    responder = Responder({"echo": echo})
    answered = await body_of(Inquirer(responder.connect))
    assert answered == ({"account": "studio", "month": "2026-10"}, MEBIBYTE)
    with pytest.raises(InquiryError, match="longer than 1,000 bytes"):
        await body_of(Inquirer(responder.connect), most=1000)
    await responder.close()


async def test_another_thread_with_a_loop_of_its_own_may_ask() -> None:
    responder = Responder({"echo": echo})
    inquirer = Inquirer(responder.connect)
    _, body = await asyncio.to_thread(lambda: asyncio.run(body_of(inquirer)))
    assert body == MEBIBYTE
    await responder.close()


async def test_streams_are_handed_over_to_a_process_that_shares_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inquirer = Inquirer(Channel(ours).connect)
        # Asked before anybody serves: it waits.
        early = asyncio.create_task(body_of(inquirer))
        await asyncio.sleep(0)
        responder = Responder({"echo": echo})
        stop = Channel(theirs).accept(responder.serve)
        answers = await asyncio.gather(early, *(body_of(inquirer) for _ in range(3)))
        assert [body == MEBIBYTE for _, body in answers] == [True] * 4
        stop()
        await responder.close()
        theirs.close()
        assert await reason_of(inquirer) == ("gone", "the collector is not available at the moment; try again shortly")


class FeatureMissingError(UpstreamError):
    reason = "feature"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FeatureMissingError("fal says no."), ("feature", "fal says no.")),
        (ConfigurationError("the key is none."), ("configuration", "the key is none.")),
        (KeyError("secret"), ("unexpected", "the collector failed to answer; see the exporter's log")),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_failure_is_told_by_reason_and_sentence_before_the_head_and_after(
    error: Exception, told: tuple[str, str], *, late: bool
) -> None:
    async def fail(_: Inquiry, answer: AnswerWriter) -> None:
        if late:
            await answer.head({})
            await answer.piece(b"half")
        raise error

    responder = Responder({"echo": fail})
    assert await reason_of(Inquirer(responder.connect)) == told
    await responder.close()


class Held:
    """A handler that waits, and what happens to it."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.running = self.most = 0

    async def __call__(self, _: Inquiry, answer: AnswerWriter) -> None:
        self.began.set()
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
            await answer.head({})
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


async def test_one_of_a_name_and_account_is_answered_at_a_time_few_wait_and_more_are_refused() -> None:
    held = Held()
    handlers: dict[str, Handler] = {"held": held, "echo": echo}
    responder = Responder(handlers, most_waiting=2)
    inquirer = Inquirer(responder.connect)

    async def ask() -> object:
        async with inquirer.ask(Inquiry("held", "studio"), patience=10) as answer:
            return await answer.body(0)

    asking = [asyncio.create_task(ask()) for _ in range(5)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_EXCEPTION)
    assert {getattr(task.exception(), "reason", None) for task in done} == {"busy"}
    # Another name is another queue.
    assert (await body_of(inquirer))[1] == MEBIBYTE
    held.go_on.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert outcomes.count(b"") == 3
    assert held.most == 1
    await responder.close()


async def gone(inquirer: Inquirer, held: Held) -> None:
    async def ask() -> None:
        async with inquirer.ask(Inquiry("held", "studio"), patience=10):
            pass

    asking = asyncio.create_task(ask())
    await held.began.wait()
    asking.cancel()


async def impatient(inquirer: Inquirer, _: Held) -> None:
    assert await reason_of(inquirer, Inquiry("held", "studio"), patience=0.01) == (
        "late",
        "fal has not answered within 0.01 s; try again later",
    )


@pytest.mark.parametrize("leave", [gone, impatient])
async def test_who_goes_away_ends_the_work_for_the_answer(
    leave: Callable[[Inquirer, Held], "asyncio.Future[None]"],
) -> None:
    held = Held()
    responder = Responder({"held": held})
    await leave(Inquirer(responder.connect), held)
    async with asyncio.timeout(10):
        await held.cancelled.wait()
    await responder.close()


async def test_a_reader_that_is_slow_holds_the_writer_back() -> None:
    written = 0

    async def endless(_: Inquiry, answer: AnswerWriter) -> None:
        nonlocal written
        await answer.head({})
        while True:
            await answer.piece(MEBIBYTE)
            written += 1

    responder = Responder({"endless": endless})
    async with Inquirer(responder.connect).ask(Inquiry("endless", ""), patience=10) as answer:
        await first_piece(answer)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert written < 4
    await responder.close()


async def first_piece(answer: Answer) -> bytes:
    return await anext(aiter(answer.pieces()))


async def test_a_collector_that_ends_in_the_middle_is_no_whole_answer() -> None:
    held = Held()
    responder = Responder({"echo": held})
    asking = asyncio.create_task(reason_of(Inquirer(responder.connect)))
    await held.began.wait()
    await responder.close()
    assert (await asking)[0] == "gone"
