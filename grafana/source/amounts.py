"""Amounts in words, as labels: PromQL that writes dollars and durations, for a table of findings of every kind.

Grafana formats the values of a column, not of a row: a column of dollars and durations together has to be text. A
finding carries its numbers in labels, as they are (`dollars`, `lasting`), and `written` makes words of those of all
findings at once, so that a query stays short enough for the address of a request.
"""

FIRST, SECOND, BETWEEN = "amounts", "second", "between"
"""Labels of the numbers, and of the words between them; the text stands in the first."""

_DOLLARS = (
    (r"(-?\\d+)", "$1.00"),
    (r"(-?\\d+\\.\\d)", "${1}0"),
    (r"(-?\\d+)(\\d{3}\\..*)", "$1,$2"),
    (r"(-?\\d+)(\\d{3},.*)", "$1,$2"),
    (r"(-?)(\\d.*\\.\\d\\d)", "$1$$$2"),
)
_LASTING = (
    (r"(\\d+)d(\\d+)h", "$1 days $2 hours"),
    ("0 days (.+)", "$1"),
    ("1 days (.+)", "1 day $1"),
    ("(.* )?1 hours", "${1}1 hour"),
    ("(.+) 0 hours", "$1"),
    ("0 hours", "less than an hour"),
)


def dollars(amount: str, by: str, label: str = FIRST) -> str:
    """Return a series for each value of a label, with its amount in another.

    Args:
        amount: US dollars, one series for each value of the label.
        by: the label; empty for one amount without labels.
        label: where the amount is put.
    """
    return f'count_values by ({by}) ("{label}", round({amount}, 0.01))'


def lasting(seconds: str, by: str) -> str:
    """Return the same for durations, in days and hours."""
    days = f'count_values by ({by}) ("{FIRST}", floor(({seconds}) / 86400))'
    hours = f'count_values by ({by}) ("{SECOND}", floor(({seconds}) % 86400 / 3600))'
    joined = f'label_join({days} * on ({by}) group_left ({SECOND}) {hours}, "{FIRST}", "d", "{FIRST}", "{SECOND}")'
    text = _rewritten(joined, FIRST, "(.+)", "${1}h")
    return f'label_replace({text}, "{SECOND}", "", "", "")'


def both(first: str, second: str, by: str) -> str:
    """Return the series of `dollars` or `lasting` with a second amount, which `dollars` has put into SECOND."""
    return f"{first} * on ({by}) group_left ({SECOND}) {second}"


def written(findings: str) -> str:
    """Return series with their amounts in words: $1,029.18 of $1,110.00, 2 days 21 hours."""
    text = findings
    for label in (FIRST, SECOND):
        for pattern, replacement in _DOLLARS:
            text = _rewritten(text, label, pattern, replacement)
    for pattern, replacement in _LASTING:
        text = _rewritten(text, FIRST, pattern, replacement)
    return f'label_join({text}, "{FIRST}", "", "{FIRST}", "{BETWEEN}", "{SECOND}")'


def _rewritten(text: str, label: str, pattern: str, replacement: str) -> str:
    return f'label_replace({text}, "{label}", "{replacement}", "{label}", "{pattern}")'
