"""Coverage: how much of a window the ledger can vouch for."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.charges import NANO, Window, dollar_text
from exporter.queries.parameters import NoDataYetError, QuestionError

if TYPE_CHECKING:
    from exporter.ledger import RejectedRows
    from exporter.ledger.accounting.coverage import ScopeState
    from exporter.ledger.reader import LedgerSnapshot
    from exporter.overview import AccountOverview
    from exporter.publication import Publication


@dataclass(frozen=True, slots=True)
class Coverage:
    """Known hours of some accounts.

    Attributes:
        data_through: end of the last hour that is known whole of every source; None while one is not known at all.
        settled_through: end of the last hour that counts as settled in every source; None before.
        available_from: start of the first hour from which on every source is known; None while one is not known.
        complete: whether every hour of the window that was asked for is known, to its end and whole, of every source.
        notes: what is missing, in sentences.
    """

    data_through: datetime | None
    settled_through: datetime | None
    available_from: datetime | None
    complete: bool
    notes: tuple[str, ...]


def why_nothing(error: NoDataYetError, publication: "Publication | None") -> NoDataYetError:
    """Return an error with what keeps accounts from being read, in the sentences of the landing page.

    Args:
        error: nothing has been read.
        publication: the latest; None before the first.
    """
    causes = (
        f"account {account.name}: {problem}"
        for account in (publication.overview.accounts if publication is not None else ())
        for problem in (*account.problems, *(source.problem for source in account.sources if source.problem))
    )
    return NoDataYetError("; ".join((str(error), *causes)))


def lacking(publication: "Publication | None", accounts: Collection[str] = ()) -> tuple[str, ...]:
    """Return what is in no figure of some accounts, or of all, whatever hours the ledger has; see `AccountOverview`.

    Args:
        publication: the latest; None before the first.
        accounts: those that are wanted; none for all.
    """
    return tuple(
        f"{account.name}: {sentence}"
        for account in (publication.overview.accounts if publication is not None else ())
        for sentence in account.lacks
        if not accounts or account.name in accounts
    )


def left_out(publication: "Publication", accounts: Collection[str] = ()) -> tuple[str, ...]:
    """Return what forecasts and budgets are made without.

    That is: sources that have not been read, or not of late, rows that cannot be read, and charges that the key cannot.

    Args:
        publication: the latest.
        accounts: those that are wanted; none for all.
    """
    unread = sorted(
        f"{source} of {account.name}"
        for account in publication.overview.accounts
        for source in [item.name for item in account.sources if item.data_through is None] or _none_of(account)
        if not accounts or account.name in accounts
    )
    notes = [f"Not read yet: {', '.join(unread)}."] if unread else []
    for account in publication.overview.accounts:
        if accounts and account.name not in accounts:
            continue
        gap = account.gaps.get("current_hour")
        if gap is not None and gap.reason == "behind" and gap.known_until is not None:
            notes.append(
                f"{account.name} has been read until {_written(gap.known_until.astimezone(UTC))}; "
                "what was charged later is missing."
            )
        notes += [
            f"{source.name} of {account.name}: {source.problem}"
            for source in account.sources
            if source.state == "partial"
        ]
    return (*notes, *lacking(publication, accounts))


def _none_of(account: "AccountOverview") -> tuple[str, ...]:
    return () if account.sources else ("usage",)


def wanted_sources(
    scopes: "Iterable[ScopeState]", accounts: Collection[str] = (), *, told: Collection[str] = ()
) -> "tuple[ScopeState, ...]":
    """Return the sources of some accounts, or of all.

    Args:
        scopes: all that the ledger counts.
        accounts: those that are wanted; none for all.
        told: accounts of which something else than the ledger tells.

    Raises:
        QuestionError: the ledger does not know an account.
        NoDataYetError: no source has been read yet, and nothing else tells of any.
    """
    known = tuple(scopes)
    check_accounts((scope.account for scope in known), accounts)
    wanted = tuple(scope for scope in known if not accounts or scope.account in accounts)
    if not told and all(scope.data_through is None for scope in wanted):
        raise NoDataYetError("nothing has been read from fal yet")
    return wanted


def coverage(
    sources: "Iterable[ScopeState]",
    parts: "Mapping[Window, Sequence[ScopeState]]",
    rejected: "Mapping[Window, Mapping[tuple[str, str], RejectedRows]]",
    kept_from: datetime | None,
) -> Coverage:
    """Return how much of a window the ledger knows of some sources.

    Args:
        sources: see `wanted_sources`.
        parts: the sources by the part of the window that the ledger has to know of them; see `parts_of`.
        rejected: the rows of each part that cannot be read, by account and source.
        kept_from: the first hour that the ledger keeps; None where it keeps all.
    """
    wanted = tuple(sources)
    notes: list[str] = []
    for part, its in parts.items():
        of_these = {scope.account for scope in its}
        notes += _missing(its, part, kept_from)
        notes += _unreadable({key: rows for key, rows in rejected[part].items() if key[0] in of_these})
    return Coverage(
        data_through=_first(scope.data_through for scope in wanted),
        settled_through=_first(scope.settled_through for scope in wanted),
        available_from=_available_from(wanted, kept_from),
        complete=not notes,
        notes=tuple(notes),
    )


def parts_of(
    window: Window, scopes: "Iterable[ScopeState]", told: Mapping[str, datetime]
) -> "Mapping[Window, list[ScopeState]]":
    """Return the sources by the part of a window that the ledger has to know of them.

    Args:
        window: whole UTC hours.
        scopes: the sources.
        told: by account, up to where the window is told by something else than the ledger.
    """
    parts: dict[Window, list[ScopeState]] = {}
    for scope in scopes:
        start = max(window.start, told.get(scope.account, window.start))
        if start < window.end:
            parts.setdefault(Window(start, window.end), []).append(scope)
    return parts


def _available_from(scopes: "Iterable[ScopeState]", kept_from: datetime | None) -> datetime | None:
    available_from = _last(scope.history_from for scope in scopes)
    if available_from is None or kept_from is None:
        return available_from
    return max(available_from, kept_from)


def check_accounts(known: Iterable[str], wanted: Collection[str]) -> None:
    """Make sure that there are accounts, and those that are asked for among them.

    Raises:
        QuestionError: one is not.
        NoDataYetError: there is none.
    """
    names = sorted(set(known))
    if not names:
        raise NoDataYetError("nothing has been read from fal yet")
    if not set(wanted) <= set(names):
        raise QuestionError("account", f"is not an account that is polled; accepted are {', '.join(names)}")


def _missing(scopes: "Collection[ScopeState]", window: Window, kept_from: datetime | None) -> Iterable[str]:
    unread = sorted(f"{scope.source} of {scope.account}" for scope in scopes if scope.data_through is None)
    if unread:
        yield f"Not read yet: {', '.join(unread)}."
    read = [scope for scope in scopes if scope.data_through is not None]
    if not read:
        return
    available_from, data_through = _available_from(read, kept_from), _first(scope.data_through for scope in read)
    if available_from is not None and window.start < available_from:
        yield f"The ledger has every hour from {_written(available_from)} on; earlier hours are not all included."
    if data_through is not None and data_through < window.end:
        yield f"Hours after {_written(data_through)} are not complete yet."


def _unreadable(rejected: "Mapping[tuple[str, str], RejectedRows]") -> Iterable[str]:
    for (account, source), rows in sorted(rejected.items()):
        count = sum(rows.by_reason.values())
        missing = f" {dollar_text(rows.cost)} in these rows is not included." if rows.cost else ""
        yield (
            f"{count} {'row' if count == 1 else 'rows'} of {source} of {account} cannot be read, or only partly; "
            f"their hours keep their previous values.{missing}"
        )


def _first(instants: Iterable[datetime | None]) -> datetime | None:
    """Return the earliest, None where one is not known."""
    known = list(instants)
    return None if None in known else min(instant for instant in known if instant is not None)


def _last(instants: Iterable[datetime | None]) -> datetime | None:
    known = list(instants)
    return None if None in known else max(instant for instant in known if instant is not None)


def _written(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%MZ}"


_HALF_A_CENT = NANO // 200
"""From here on a difference shows when it is written in cents."""


def unread_by_tags(ledger: "LedgerSnapshot", window: Window, sources: "Iterable[ScopeState]") -> Iterator[str]:
    """Yield a sentence for each account of which tags do not explain a window as a whole.

    Either its hours have not been read by tags for good, or fal states another sum by tags than it charges, as where a
    row by tags cannot be read.
    """
    for account in sorted({scope.account for scope in sources}):
        missing = len(window) - ledger.hours_read_by_tags(account, window)
        if missing:
            yield (
                f"{account}: {missing} of {len(window)} hours have not been read by tags for good yet; what "
                "fal tags in them later is untagged so far."
            )
        difference = ledger.difference_by_tags(account, window)
        if abs(difference) >= _HALF_A_CENT:
            how, effect = ("less", "higher") if difference < 0 else ("more", "lower")
            yield (
                f"{account}: for the hours that have been read by tags fal states {dollar_text(abs(difference))} {how} "
                f"by tags than it charges; untagged is {effect} by that."
            )
