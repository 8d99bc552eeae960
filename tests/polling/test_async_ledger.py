import asyncio
import threading
from pathlib import Path

import pytest
from polling.conftest import Clock

from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.accounting.counters import Rules
from exporter.polling.async_ledger import AsyncLedger


async def opened(folder: Path, clock: Clock) -> AsyncLedger:
    ledger = AsyncLedger()
    await ledger.open(lambda: Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", rules=Rules(), clock=clock))
    return ledger


async def test_all_work_is_done_in_one_thread_that_is_not_the_event_loops(tmp_path: Path, clock: Clock) -> None:
    ledger = await opened(tmp_path, clock)
    threads = await asyncio.gather(*(ledger.run(lambda _: threading.current_thread().name) for _ in range(5)))
    await ledger.close()
    assert len(set(threads)) == 1
    assert threads[0].startswith("ledger")


async def test_closing_finishes_what_has_been_handed_in(tmp_path: Path, clock: Clock) -> None:
    ledger = await opened(tmp_path, clock)
    may_go_on = threading.Event()
    done: list[int] = []
    first = asyncio.create_task(ledger.run(lambda _: may_go_on.wait(10)))
    second = asyncio.create_task(ledger.run(lambda _: done.append(1)))
    closing = asyncio.create_task(ledger.close())
    may_go_on.set()
    await asyncio.gather(first, second, closing)
    assert done == [1]


async def test_a_ledger_that_cannot_be_opened_leaves_no_thread_behind(clock: Clock) -> None:
    before = set(threading.enumerate())
    ledger = AsyncLedger()
    with pytest.raises(LedgerError, match="directory must exist"):
        await ledger.open(lambda: Ledger("sqlite:////nowhere/at/all/ledger.sqlite", rules=Rules(), clock=clock))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


async def test_work_before_the_opening_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        await AsyncLedger().run(lambda _: None)
