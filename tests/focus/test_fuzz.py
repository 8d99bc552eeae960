"""Damaged files: whatever the bytes are, they are rows, findings, or one clean error, with Polars and without alike.

The corpus, files in `corpus`, is read in every run. The long part damages files anew for FOCUS_FUZZ_SECONDS: four
minutes of `.ci/run`, ten before a release. What fails is written to FOCUS_FUZZ_FAILED, if that names a folder; once
mended, it belongs to the corpus.
"""

import gzip
import io
import json
import math
import os
import random
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import pytest
from focus.conftest import base_rows, header, to_csv

from exporter.app.focus.files import run_check, run_summary
from exporter.focus.checks import Checker
from exporter.focus.findings import FocusError
from exporter.focus.reader import Reader

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
SECONDS = float(os.environ.get("FOCUS_FUZZ_SECONDS", "10"))
FAILED = os.environ.get("FOCUS_FUZZ_FAILED", "")
JSON_COLUMNS = ("Tags", "SkuPriceDetails", "ContractApplied", "AllocatedTags", "AllocatedMethodDetails")
TOKENS = (
    *(
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\x00",
        b"\x01",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc2\xa0",
    ),
    *(b"NaN", b"Infinity", b"1E70", b"1E999999999999999999999", b"-0", b"$40.198572", b"0." + b"1" * 70, b"9" * 62),
    *("\u0663\u0664".encode(), b"null", b"NULL", b"2026-13-01T00:00:00Z", b"0000-00-00", b"9999-12-31T23:59:59-23:59"),
    *(b";", b"\t", b"|", b"=cmd()", b"BilledCost", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"),
)
JSON_TOKENS = (
    *('{"a": 1}', "{}", "[]", '""', "null", "true", "NaN", "-Infinity", "1E999999999999999999999", "-", "0x1", "01"),
    *(
        '{"a": 1, "a": 2}',
        '{"a": "\\ud800"}',
        '{"\\u0000": 1}',
        '{"a": ' * 300 + "1" + "}" * 300,
        "[" * 5_000,
        "{" * 5_000,
    ),
    *(
        '{"a": [1, {"b": 1E70}]}',
        '{"a": 0.' + "3" * 80 + "}",
        '{"a": ' + "9" * 5_000 + "}",
        '{"a"}',
        "{'a': 1}",
        '{"a": 1',
    ),
    *(
        '{"Elements": [{"ContractId": 1}]}',
        '{"Elements": {}}',
        '{"CoreCount": "NaN"}',
        '{"x_": 1}',
        '{"": ""}',
        "\ufeff{}",
    ),
)


def seeds() -> list[bytes]:
    """Return files in which nothing, or little, is wrong."""
    rows = base_rows()
    names = [*header(), *JSON_COLUMNS[2:]]
    return [to_csv(rows), to_csv(rows, names, "\r\n"), to_csv(rows[:3], names)]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a file with some bytes that are others, lost, twice there, or words that readers stumble over."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 2, 10, 400)))
        data = rng.choice(
            (
                data[:start] + rng.choice(TOKENS) + data[end:],
                data[:start] + rng.choice(TOKENS) + data[start:],
                data[:start] + rng.randbytes(end - start) + data[end:],
                data[:start] + data[end:],
                data[:end] + data[start:],
                data[: start or None],
            )
        )
    return data


def with_json(rng: random.Random) -> bytes:
    """Return a file with documents in its JSON columns that may be none."""
    rows = base_rows()[: rng.choice((1, 4, 32))]
    for row in rows:
        for name in JSON_COLUMNS:
            if rng.random() < 0.5:
                text = rng.choice(JSON_TOKENS)
                place = rng.randrange(len(text) + 1)
                row[name] = rng.choice(
                    (text, text[:place], text[:place] + rng.choice(JSON_TOKENS)[:100] + text[place:])
                )
    return to_csv(rows, [*header(), *JSON_COLUMNS[2:]]).replace(b"\xed\xa0\x80", b"?")


def zstd(data: bytes) -> bytes:
    """Compress with zstd."""
    if sys.version_info >= (3, 14):
        from compression import zstd as codec  # noqa: PLC0415  the name is that of this function
    else:
        from backports import zstd as codec  # noqa: PLC0415
    return bytes(codec.compress(data))


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return file.getvalue()


def parquet(data: bytes) -> bytes:
    polars = pytest.importorskip("polars")
    file = io.BytesIO()
    polars.read_csv(io.BytesIO(data), infer_schema=False).write_parquet(file)
    return file.getvalue()


def one_of(rng: random.Random) -> bytes:
    """Return a damaged file: its text, or what it is packed into."""
    kind = rng.random()
    if kind < 0.4:
        return damaged(rng.choice(seeds()), rng)
    if kind < 0.8:
        return with_json(rng)
    if kind < 0.9:
        return damaged(rng.choice([path.read_bytes() for path in CORPUS]), rng)
    if kind < 0.93:
        return parquet(with_json(rng))
    pack = rng.choice((gzip.compress, zstd, zipped, parquet))
    return damaged(pack(seeds()[0]), rng)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Polars have its say on small files, too."""
    monkeypatch.setattr("exporter.focus.checks.POLARS_BLOCK", 2_000)
    monkeypatch.setattr("exporter.focus.dataset.READ", 2_000)


def output(run: Callable[[list[str]], int], path: Path, *, with_polars: bool) -> tuple[str, object]:
    """Return what a command prints, and its exit code or the sentence that it ends with."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr("exporter.focus.dataset.Reader", partial(Reader, polars_block=200 if with_polars else 0))
        patch.setattr("exporter.app.focus.files.Checker", partial(Checker, polars_from=0 if with_polars else math.inf))
        try:
            end: object = run([str(path)])
        except FocusError as error:
            # Any other error is a fault, and fails the test.
            end = str(error)
    return out.getvalue(), end


def judge(path: Path) -> None:
    """Fail unless commands read a file, or say in one line why not; with Polars and without in the same bytes."""
    for run in (
        # In 1.4 no row may occur twice, and all are looked at one by one.
        partial(run_check, version="1.2", output_format="json"),
        partial(run_check, version="1.4", output_format="json"),
        partial(run_summary, output_format="json"),
    ):
        told, end = output(run, path, with_polars=True)
        assert (told, end) == output(run, path, with_polars=False)
        assert end in {0, 1} or (isinstance(end, str) and str(path) in end and "\n" not in end)
        assert isinstance(json.loads(told, parse_constant=pytest.fail), dict)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_files_of_the_corpus_are_rows_findings_or_a_clean_error(path: Path) -> None:
    judge(path)


def test_nothing_but_a_sentence_is_said_of_a_file_at_which_polars_panics(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("polars")
    path = next(path for path in CORPUS if path.name == "parquet-page.parquet")
    with pytest.raises(FocusError, match="the Parquet file cannot be read: it is damaged; get it again"):
        run_check([str(path)], version="1.2", output_format="text")
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_damaged_files_are_rows_findings_or_a_clean_error(tmp_path: Path) -> None:
    end, number = time.monotonic() + SECONDS, 0
    first = random.SystemRandom().randrange(1 << 32)
    path = tmp_path / "file"
    while time.monotonic() < end:
        data = one_of(random.Random(first + number))  # noqa: S311  damage, not secrets
        path.write_bytes(data)
        try:
            judge(path)
        except BaseException:
            if FAILED:
                (Path(FAILED) / f"{first + number}.csv").write_bytes(data)
            print(f"seed {first + number}")
            raise
        number += 1
    assert number
