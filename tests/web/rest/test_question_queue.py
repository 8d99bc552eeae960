import threading
from collections.abc import Callable

import pytest

from exporter.web.rest.question_queue import Check, Question, QuestionQueue


class Clock:
    """Seconds that the test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Held:
    """A queue with one thread that is held up, so that the order of what waits can be seen."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue: QuestionQueue[str] = QuestionQueue(1, clock=self.clock)
        self.answered: list[str] = []
        self._go = threading.Event()
        self._begun = threading.Event()

    def takes(self, kind: str, seconds: float) -> None:
        """Have a question of a kind answered."""

        def make(_: Check) -> str:
            self.clock.now += seconds
            return kind

        assert self.queue.ask(kind, make).future.result(10) == kind

    def always_takes(self, kind: str, seconds: float) -> None:
        """Have as many questions of a kind answered as it takes to know it."""
        for _ in range(2):
            self.takes(kind, seconds)

    def hold(self) -> None:
        def make(_: Check) -> str:
            self._begun.set()
            assert self._go.wait(10)
            return "held"

        self.queue.ask("held", make)
        assert self._begun.wait(10)

    def ask(self, kind: str) -> Question[str]:
        return self.queue.ask(kind, self._noting(kind))

    def release(self, *questions: Question[str]) -> list[str]:
        self._go.set()
        for question in questions:
            question.future.result(10)
        return self.answered

    def _noting(self, kind: str) -> Callable[[Check], str]:
        def make(_: Check) -> str:
            self.answered.append(kind)
            return kind

        return make


@pytest.fixture
def held() -> Held:
    return Held()


def test_a_cheap_question_overtakes_expensive_ones(held: Held) -> None:
    held.always_takes("year by hour", 2.0)
    held.always_takes("day", 0.01)
    held.hold()
    asked = [held.ask("year by hour"), held.ask("year by hour"), held.ask("day")]
    assert held.release(*asked) == ["day", "year by hour", "year by hour"]


def test_an_expensive_question_that_has_waited_long_is_overtaken_no_more(held: Held) -> None:
    held.always_takes("year by hour", 2.0)
    held.always_takes("day", 0.01)
    held.hold()
    early = held.ask("year by hour")
    held.clock.now += 19
    overtaking = held.ask("day")
    held.clock.now += 2
    late = held.ask("day")
    assert held.release(early, overtaking, late) == ["day", "year by hour", "day"]


def test_questions_that_take_as_long_keep_their_order(held: Held) -> None:
    held.hold()
    asked = [held.ask(kind) for kind in ("first", "second", "third")]
    assert held.release(*asked) == ["first", "second", "third"]


def test_cheap_questions_do_not_overtake_each_other(held: Held) -> None:
    held.always_takes("month", 0.019)
    held.always_takes("day", 0.001)
    held.hold()
    asked = [held.ask("month"), held.ask("day")]
    assert held.release(*asked) == ["month", "day"]


def test_where_all_take_long_none_overtakes_another_by_chance(held: Held) -> None:
    held.always_takes("month", 0.09)
    held.always_takes("day", 0.05)
    held.always_takes("year by hour", 2.0)
    held.hold()
    asked = [held.ask(kind) for kind in ("year by hour", "month", "day")]
    assert held.release(*asked) == ["month", "day", "year by hour"]


def test_what_a_kind_takes_follows_its_latest_questions(held: Held) -> None:
    held.always_takes("once slow", 5.0)
    for _ in range(20):
        held.takes("once slow", 0.0)
    held.always_takes("day", 0.1)
    held.hold()
    asked = [held.ask("day"), held.ask("once slow")]
    assert held.release(*asked) == ["once slow", "day"]


def test_a_question_that_took_long_by_chance_does_not_make_its_kind_slow(held: Held) -> None:
    held.takes("opened the ledger", 3.0)
    held.always_takes("after a poll", 0.01)
    held.takes("after a poll", 2.0)
    held.hold()
    asked = [held.ask(kind) for kind in ("opened the ledger", "after a poll", "never asked")]
    assert held.release(*asked) == ["opened the ledger", "after a poll", "never asked"]


def test_a_failure_is_told_and_the_next_question_is_answered(held: Held) -> None:
    def fail(_: Check) -> str:
        raise LookupError("nothing here")

    failing = held.queue.ask("failing", fail)
    with pytest.raises(LookupError, match="nothing here"):
        failing.future.result(10)
    held.takes("day", 0.0)
