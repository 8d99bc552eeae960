"""Examples of answers, which the documentation of the calls shows: one company's October and November."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from exporter.charges import HOUR, NANO, Amounts, BilledRequest, Invoice, Window
from exporter.events.summaries import Difference
from exporter.forecasting import drivers as causes
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, Forecast
from exporter.forecasting.what_if import Setting, WhatIf
from exporter.machines import AppSettings, Efficiency, Parts
from exporter.queries import drivers, machines
from exporter.queries.coverage import Coverage
from exporter.queries.forecasts import AccountsAnswer, BudgetsAnswer
from exporter.queries.requests import AccountDifferences, DifferencesAnswer, RequestRow, RequestsAnswer
from exporter.queries.usage import UsageAnswer, UsageRow

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
            credit_floor=0,
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

_FLUX = causes.Item("default", "model_apis", "fal-ai/flux/dev", "", "", "image")
_VEO = causes.Item("default", "model_apis", "fal-ai/veo3", "", "", "second")
_COMPARED = causes.drivers(
    {_FLUX: causes.Purchase(4000 * NANO, 100 * NANO, 100 * NANO)},
    {
        _FLUX: causes.Purchase(5000 * NANO, 150 * NANO, 150 * NANO),
        _VEO: causes.Purchase(75 * NANO, 30 * NANO, 30 * NANO),
    },
)

DRIVERS = drivers.DriversAnswer(
    window=drivers.Side(_NOVEMBER.start, datetime(2026, 11, 21, tzinfo=UTC), 180 * NANO, complete=True),
    compare=drivers.Side(_OCTOBER.start, datetime(2026, 10, 21, tzinfo=UTC), 100 * NANO, complete=True),
    timezone="UTC",
    difference=80 * NANO,
    parts=causes.total(_COMPARED),
    items=_COMPARED,
    others=drivers.Others(0, 0, causes.NO_PARTS),
    notes=(),
)

_IDLE_APP = Parts(running=41_250_000_000, idle=412 * NANO, pending=6_500_000_000, draining=2_250_000_000)

MACHINES = machines.MachinesAnswer(
    start=_NOVEMBER.start,
    end=datetime(2026, 11, 21, 15, tzinfo=UTC),
    timezone="UTC",
    apps=(
        machines.AppMachines(
            account="default",
            app="upscale-preview",
            environment="staging",
            gpu_class="A100",
            spend=_IDLE_APP,
            gpu_seconds=Parts(148_500 * NANO, 1_483_200 * NANO, 23_400 * NANO, 8_100 * NANO),
            settings=AppSettings("default", "studio", "upscale-preview", "staging", "GPU-A100", 600, 1, 4, _NOW),
        ),
    ),
    spend=_IDLE_APP,
    gpu_seconds=Parts(148_500 * NANO, 1_483_200 * NANO, 23_400 * NANO, 8_100 * NANO),
    requests=(
        Efficiency(
            account="default",
            product="serverless",
            name="upscale-preview",
            requests=5_280,
            succeeded=5_016,
            failed=264,
            cold_starts=87,
            cost=_IDLE_APP.total,
            cost_per_success=round(Fraction(_IDLE_APP.total, 5_016)),
            failed_cost=2_062_500_000,
            start_cost=6_500_000_000,
            start_seconds=23_400 * NANO,
        ),
    ),
    coverage=replace(USAGE.coverage, complete=False),
    what_if=(
        WhatIf(
            account="default",
            app="upscale-preview",
            environment="staging",
            present=Setting(600, 1),
            proposed=Setting(600, 0),
            hours=168,
            least=61_400_000_000,
            likely=84_150_000_000,
            most=96_200_000_000,
            likely_starts=31,
            most_starts=62,
        ),
    ),
    notes=("Hours after 2026-11-21T13:00Z are not complete yet.",),
)

FOCUS = "BilledCost,BillingAccountId,BillingAccountName,BillingCurrency,...\n0.075,default,default,USD,...\n"

REQUEST = RequestRow(
    "default",
    BilledRequest(
        request_id="764cabcf-b745-4b3e-ae38-1200304cf45b",
        at=datetime(2026, 11, 21, 13, 4, 5, tzinfo=UTC),
        model="fal-ai/veo3",
        team="studio",
        api_key="9d1b1e0e-checkout",
        member="",
        quantity=8 * NANO,
        unit_price=400_000_000,
        discount_percent=10 * NANO,
        list_cost=3_200_000_000,
        discount=320_000_000,
        cost=2_880_000_000,
        tags='{"customer":"acme","feature":"trailer"}',
    ),
    "checkout",
)

REQUESTS = RequestsAnswer(
    datetime(2026, 11, 20, 14, 5, tzinfo=UTC),
    _NOW,
    (REQUEST,),
    f"0123456789abcdef.2880000000.{REQUEST.request.request_id}",
    complete=False,
    notes=(
        (
            "1 of 25 hours of account default has not been read to the end (2026-11-21T14:00Z to 2026-11-21T15:00Z); "
            "requests of that time can be missing."
        ),
    ),
)

DIFFERENCES = DifferencesAnswer(
    datetime(2026, 11, 13, 14, tzinfo=UTC),
    datetime(2026, 11, 21, 14, tzinfo=UTC),
    (
        AccountDifferences(
            account="default",
            hours=143,
            not_read=0,
            events=1_204_310_000_000,
            ledger=1_204_385_000_000,
            differences=(
                Difference(datetime(2026, 11, 18, 9, tzinfo=UTC), "fal-ai/flux/dev", 55, 4_125_000_000, 4_200_000_000),
            ),
        ),
    ),
)
