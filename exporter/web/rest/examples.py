"""Answers to show: real ones but for their figures, so that what is shown is always of the present shape."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from exporter.billing.coverage import Coverage
from exporter.billing.outlooks import AccountsAnswer, BudgetsAnswer
from exporter.billing.usage import UsageAnswer, UsageRow
from exporter.charges import HOUR, NANO, Amounts, Invoice, Window
from exporter.outlook.state import AccountOutlook, BudgetOutlook, Forecast

_OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
_NOVEMBER = Window(_OCTOBER.end, datetime(2026, 12, 1, tzinfo=UTC))
_NOW = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
_MICRO = NANO // 10**6

_ROWS = (
    UsageRow(
        {"model": "fal-ai/veo3", "gpu_class": ""},
        Amounts(list_cost=412 * NANO, discount=41_200_000_000, cost=370_800_000_000),
        {"second": 1030 * NANO},
    ),
    UsageRow(
        {"model": "", "gpu_class": "H100"},
        Amounts(gpu_seconds=86_400 * NANO, list_cost=108 * NANO, cost=108 * NANO),
        {"second": 86_400 * NANO},
    ),
)

USAGE = UsageAnswer(
    start=_OCTOBER.start,
    end=_OCTOBER.end,
    group_by=("model", "gpu_class"),
    timezone="UTC",
    rows=_ROWS,
    total=UsageRow({}, _ROWS[0].amounts.plus(_ROWS[1].amounts), {"second": 87_430 * NANO}),
    coverage=Coverage(
        data_through=datetime(2026, 11, 21, 13, tzinfo=UTC),
        settled_through=datetime(2026, 11, 19, 13, tzinfo=UTC),
        available_from=datetime(2026, 9, 1, tzinfo=UTC),
        complete=True,
        notes=(),
    ),
    next_cursor=None,
    notes=(),
)

INVOICES = (
    Invoice(
        account="default",
        id="inv_4HcZ2XkQ",
        number="FAL-2026-0010",
        status="open",
        period_start=_OCTOBER.start,
        period_end=_OCTOBER.end,
        issued_at=datetime(2026, 11, 2, tzinfo=UTC),
        due_at=datetime(2026, 11, 16, tzinfo=UTC),
        currency="USD",
        subtotal=478_800_000_000,
        credits=-5 * NANO,
        tax=90_022_000_000,
        total=563_822_000_000,
    ),
)

ACCOUNTS = AccountsAnswer(
    _NOW,
    (
        AccountOutlook(
            account="default",
            month=_NOVEMBER,
            balance=7_374_792_800,
            balance_at=_NOW,
            runway=9 * HOUR + timedelta(minutes=20),
            spend=318_250 * 1000 * _MICRO,
            forecast=Forecast(expected=455 * NANO, low=441_500_000_000, high=472_250_000_000),
        ),
    ),
)

BUDGETS = BudgetsAnswer(
    _NOW,
    (
        BudgetOutlook(
            budget="studio",
            period="month",
            window=_NOVEMBER,
            limit=400 * NANO,
            match={"team": ("studio-*",)},
            thresholds=(Fraction(1, 2), Fraction(4, 5), Fraction(1)),
            spend=318_250 * 1000 * _MICRO,
            forecast=Forecast(expected=455 * NANO, low=441_500_000_000, high=472_250_000_000),
            burn={"1h": 1.4, "6h": 1.25, "1d": 1.1, "3d": 1.05},
        ),
    ),
)

FOCUS = "BilledCost,BillingAccountId,BillingAccountName,BillingCurrency,...\n0.075,default,default,USD,...\n"
