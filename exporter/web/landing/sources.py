"""How far the data reach, source by source."""

from datetime import datetime

from exporter.metrics.publication import AccountOverview, SourceOverview
from exporter.web.landing.marks import UNKNOWN, badge, stamp
from exporter.web.markup import Markup, fill, join

_STATES = {"waiting": "Waiting", "up": "Up", "failing": "Failing"}
_FEW = 4
"""Accounts whose sources are shown without being asked for."""


def sources(accounts: tuple[AccountOverview, ...], now: datetime) -> Markup:
    """Return the section; folded up where there are many accounts."""
    rows = join(_row(account.name, it, now) for account in accounts for it in account.sources)
    if not rows:
        return Markup()
    return fill(_SECTION, open=Markup(" open") if len(accounts) <= _FEW else Markup(), rows=rows)


def _row(account: str, source: SourceOverview, now: datetime) -> Markup:
    return fill(
        _ROW,
        account=account,
        name=source.name,
        chosen=source.chosen,
        state=badge(source.state, _STATES[source.state]),
        last_success=stamp(source.last_success_at, now),
        data_through=stamp(source.data_through, now),
        settled_through=stamp(source.settled_through, now),
        history=_progress(source.history_progress, f"{account}, {source.name}"),
    )


def _progress(progress: float | None, of: str) -> Markup:
    if progress is None:
        return UNKNOWN
    return fill(
        '<span class="progress"><progress max="100" value="{percent}" aria-label="history of {of}"></progress>'
        "{percent} %</span>",
        percent=int(100 * min(max(progress, 0.0), 1.0)),
        of=of,
    )


_SECTION = """\
<section>
<details{open}><summary><h2>How far the data reach</h2></summary>
<table role="table">
<caption>Sources</caption>
<thead><tr role="row"><th role="columnheader" scope="col">Source</th><th role="columnheader" scope="col">State</th>
<th role="columnheader" scope="col">Last success</th><th role="columnheader" scope="col">Data through</th>
<th role="columnheader" scope="col">Settled through</th><th role="columnheader" scope="col">History</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</details>
</section>
"""

_ROW = """\
<tr role="row"><th role="rowheader" scope="row">{account} · {name}<small>{chosen}</small></th>
<td role="cell" data-title="State">{state}</td>
<td role="cell" data-title="Last success">{last_success}</td>
<td role="cell" data-title="Data through">{data_through}</td>
<td role="cell" data-title="Settled through">{settled_through}</td>
<td role="cell" data-title="History">{history}</td></tr>
"""
