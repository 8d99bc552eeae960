import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.worker import WorkerError, worker

Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Make a module whose process does its work by some lines, with `order` and `output`."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def make(lines: str) -> str:
        work = "\n    ".join(lines.splitlines())
        (tmp_path / "made_for_a_test.py").write_text(
            "import sys, time\nfrom exporter.worker import serve\n\n\n"
            f"def work(order, output):\n    {work}\n\n\nsys.exit(serve(work))\n"
        )
        return "made_for_a_test"

    return make


async def test_an_order_of_any_size_is_answered_by_a_head_and_a_body(module: Module) -> None:
    order = bytes(range(256)) * 10_000
    async with worker(module("output.write(b'head\\n' + order)"), order) as process:
        assert await process.head() == b"head\n"
        assert await process.body(len(order)) == order


async def test_a_body_is_taken_piece_by_piece_until_it_is_whole(module: Module) -> None:
    async with worker(module("output.write(b'\\n' + order * 100_000)"), b"xyz") as process:
        await process.head()
        pieces = [await process.piece()]
        while pieces[-1]:
            pieces.append(await process.piece())
    assert max(map(len, pieces)) <= 2**16
    assert b"".join(pieces) == b"xyz" * 100_000


async def test_a_body_that_is_too_long_is_refused(module: Module) -> None:
    async with worker(module("output.write(b'\\n' + order)"), b"x" * 101) as process:
        await process.head()
        with pytest.raises(WorkerError, match="longer than 100 bytes"):
            await process.body(100)


@pytest.mark.parametrize("end", ["raise OSError", "raise ValueError", "sys.exit(3)"])
async def test_a_body_that_is_cut_off_is_noticed(module: Module, end: str) -> None:
    async with worker(module(f"output.write(b'head\\nhalf')\noutput.flush()\n{end}"), b"") as process:
        assert await process.head() == b"head\n"
        with pytest.raises(WorkerError, match="before its body was complete"):
            await process.body(1000)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("sys.exit(0)", "before its head"),
        ("output.write(b'half')", "before its head"),
        ("output.write(b'x' * 10**6)", "no end"),
    ],
)
async def test_a_head_that_is_missing_or_endless_is_noticed(module: Module, lines: str, problem: str) -> None:
    async with worker(module(lines), b"") as process:
        with pytest.raises(WorkerError, match=problem):
            await process.head()


async def test_a_process_that_stands_still_is_gone_after_the_block(module: Module) -> None:
    name = module("import os\noutput.write(b'%d\\n' % os.getpid())\noutput.flush()\ntime.sleep(600)")
    async with worker(name, b"") as process:
        pid = int(await process.head())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await process.piece()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
