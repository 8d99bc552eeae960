"""Question queue: few threads answer many questions, the cheap ones first, and none that nobody waits for any more.

How long a question takes is known from those of its kind that have been answered. A question is due when it came plus
several times what it takes, and the one that is due first is answered first: a cheap one overtakes an expensive one,
and an expensive one that has waited long enough is overtaken no more.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from itertools import count
from math import inf
from threading import Event, Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")

Check = Callable[[], None]
"""Called now and then while a question is answered, in any thread; raises `UnwantedError` once nobody waits for the
answer, and `OverdueError` once it has taken too long."""

_PATIENCE = 10.0
"""Times what a question takes that it may be overtaken by cheaper ones."""

_CHEAP_SECONDS = 0.02
"""Questions that take less are answered in the order in which they come: overtaking would gain nobody anything."""

_ABOUT_AS_CHEAP = 4.0
"""Times what the cheapest kind takes that count as cheap, too: on a busy machine all questions take longer, and by
chance some kinds more than others."""

_MOST_KINDS = 1000

_WEIGHT = 0.3
"""Of the latest question of a kind in what one of them takes."""


LONGEST_SECONDS = 60.0
"""That making an answer may take: most callers have left by then."""


class UnwantedError(Exception):
    """Nobody waits for the answer any more."""


class OverdueError(Exception):
    """The answer takes too long."""


class Question(Generic[Made]):
    """A question that waits or is being answered.

    Attributes:
        kind: questions of a kind take about as long.
        future: gets the answer.
    """

    def __init__(self, kind: Hashable, make: Callable[[Check], Made], clock: Callable[[], float]) -> None:
        self.kind = kind
        self.future: Future[Made] = Future()
        self._make = make
        self._clock = clock
        self._ends = inf
        self._is_unwanted = Event()

    def withdraw(self) -> None:
        """Say that nobody waits: it is not begun, or ends at its next check."""
        self._is_unwanted.set()
        self.future.cancel()

    def run(self) -> None:
        """Make the answer in this thread."""
        self._ends = self._clock() + LONGEST_SECONDS
        try:
            made = self._make(self._check)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is for those who wait
            self.future.set_exception(error)
        else:
            self.future.set_result(made)

    def _check(self) -> None:
        if self._is_unwanted.is_set():
            raise UnwantedError
        if self._clock() > self._ends:
            raise OverdueError(
                f"the answer took longer than {LONGEST_SECONDS:.0f} s; ask for a shorter window, or for fewer groups"
            )


class QuestionQueue(Generic[Made]):
    """Answers questions in threads.

    Args:
        threads: how many questions are answered at a time.
        clock: seconds that never go back.
    """

    def __init__(self, threads: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._clock = clock
        self._lock = Lock()
        self._numbers = count()
        self._waiting: list[tuple[float, int, Question[Made]]] = []
        self._seconds: dict[Hashable, float] = {}
        self._latest: OrderedDict[Hashable, float] = OrderedDict()

    def ask(self, kind: Hashable, make: Callable[[Check], Made]) -> Question[Made]:
        """Have a question answered.

        Args:
            kind: what tells roughly how long it takes.
            make: makes the answer; called in a thread.
        """
        question = Question(kind, make, self._clock)
        with self._lock:
            cheap = max(_CHEAP_SECONDS, _ABOUT_AS_CHEAP * min(self._seconds.values(), default=0.0))
            due = self._clock() + _PATIENCE * max(0.0, self._seconds.get(kind, 0.0) - cheap)
            heappush(self._waiting, (due, next(self._numbers), question))
        self._threads.submit(self._answer_next)
        return question

    def close(self) -> None:
        """Begin nothing more: what waits is cancelled, what is under way ends at its next check."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for _, _, question in waiting:
            question.withdraw()

    def _answer_next(self) -> None:
        with self._lock:
            if not self._waiting:
                return  # closed
            _, _, question = heappop(self._waiting)
        if not question.future.set_running_or_notify_cancel():
            return
        began = self._clock()
        question.run()
        self._learn(question.kind, self._clock() - began)

    def _learn(self, kind: Hashable, seconds: float) -> None:
        """Note how long a question has taken; a kind is slow only where two in a row were.

        One alone may have opened the ledger, read anew what a poll has changed, or waited for a busy machine.
        """
        with self._lock:
            latest = self._latest.pop(kind, None)
            self._latest[kind] = seconds
            if latest is not None:
                lesser = min(seconds, latest)
                before = self._seconds.get(kind, lesser)
                self._seconds[kind] = before + _WEIGHT * (lesser - before)
            if len(self._latest) > _MOST_KINDS:
                self._seconds.pop(self._latest.popitem(last=False)[0], None)
