"""`fal-exporter focus fetch`: fal's own report as a data set in a folder."""

import asyncio
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from exporter.app.focus.datasets import fetched_dataset, keep_pieces
from exporter.app.wiring import client_of
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError, FalExporterError
from exporter.fal import FocusRequest, Progress, Silent, fetch, report_file_name
from exporter.focus.outputs import Format, require
from exporter.focus.values import instant_text
from exporter.settings import Account, Settings

_MEBIBYTE = 2**20
_SHOWN_EVERY = _MEBIBYTE


class UnwritableFolderError(FalExporterError):
    """The report cannot be written to where it was to go."""

    exit_code = 2


def run_fetch(
    settings: Settings,
    request: FocusRequest,
    folder: Path,
    *,
    account: str | None,
    longest: timedelta,
    resume: bool,
    output_format: Format = Format.CSV,
    by_period: bool = False,
    clock: Clock = utc_now,
) -> int:
    """Download a report into files of a folder, print their paths, and return the exit code.

    Pieces as fal gives them; or, in another format or by billing period, files made of these, which are kept in a
    hidden folder until then.

    Args:
        settings: those of `serve`.
        request: what to ask fal for.
        folder: where the files are made.
        account: whose report; None for the only one that is configured.
        longest: how long a piece of an estimate is, at most.
        resume: whether pieces that are in the folder already are kept.
        output_format: of the files.
        by_period: whether each billing period has a file of its own.
        clock: returns the present.

    Raises:
        ConfigurationError: there is no such account, or several to choose from; or what is asked for is in the future.
        ApiError: fal did not answer as its interface promises; finished pieces are kept.
        UnwritableFolderError: a file cannot be written.
    """
    chosen = _chosen(settings.accounts, account)
    require(output_format)
    _refuse_future(request, clock())
    meter = Meter(shown=sys.stderr.isatty())
    as_given = output_format is Format.CSV and not by_period
    place = folder if as_given else folder / _PIECES
    try:
        place.mkdir(parents=True, exist_ok=True)
        paths = asyncio.run(_fetched(settings, chosen, request, place, longest=longest, resume=resume, meter=meter))
        if as_given:
            keep_pieces(folder, paths, request, clock())
        else:
            name = report_file_name(request).removesuffix(".csv")
            files = fetched_dataset(
                folder, paths, request, output_format=output_format, by_period=by_period, name=name, now=clock()
            )
            shutil.rmtree(place)
            paths = tuple(files)
    except OSError as error:
        raise UnwritableFolderError(f"{folder} cannot be written: {error.strerror}; name another --folder") from None
    finally:
        meter.end()
    for path in paths:
        click.echo(path)
    return 0


_PIECES = ".pieces"


def _refuse_future(request: FocusRequest, now: datetime) -> None:
    """Refuse what has not begun yet: of it fal gives a file without a row, which looks like a month without charges."""
    month = request.charge_month or request.billing_month
    begins = f"{month} begins" if f"{now.astimezone(UTC):%Y-%m}" < month else ""
    if request.start is not None and request.start > now:
        begins = f"{instant_text(request.start)} is"
    if begins:
        raise ConfigurationError(f"{begins} in the future; nothing has been charged after it yet")


async def _fetched(
    settings: Settings,
    account: Account,
    request: FocusRequest,
    folder: Path,
    *,
    longest: timedelta,
    resume: bool,
    meter: "Meter",
) -> tuple[Path, ...]:
    client = client_of(account, settings, Silent())
    try:
        return await fetch(client, request, folder, longest=longest, resume=resume, on_progress=meter)
    finally:
        await client.aclose()


def _chosen(accounts: tuple[Account, ...], name: str | None) -> Account:
    names = ", ".join(account.name for account in accounts)
    if name is None and len(accounts) > 1:
        raise ConfigurationError(f"several accounts are configured; choose one with --from-account: {names}")
    for account in accounts:
        if name in {None, account.name}:
            return account
    raise ConfigurationError(f"there is no account {name!r}; configured accounts are: {names}")


class Meter:
    """Shows how far a download has come, in one line that changes, to a person who watches."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._next = 0
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Show what has come in, not more often than once a mebibyte."""
        if not self._shown or (not progress.done and progress.size < self._next):
            return
        self._next = 0 if progress.done else progress.size + _SHOWN_EVERY
        size = progress.size / _MEBIBYTE
        text = f"file {progress.number} of {progress.pieces}: {progress.path.name}, {size:,.1f} MiB"
        click.echo(f"\r\033[K{text}", nl=False, err=True)
        self._open = True

    def end(self) -> None:
        """Leave the line, if there is one."""
        if self._open:
            click.echo(err=True)
            self._open = False
