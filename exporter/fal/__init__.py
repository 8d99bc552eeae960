"""The only package that knows fal: its calls, its words, its ways to fail.

Lives here: one exchange (`endpoints`, `transport`, `answers`, `client`, `paging`, `pacing`, `errors`), reading of rows
(`rows`, `aggregation`), the usage sources (`platform_usage`, `reporting`, `focus.usage`), and what else an account has
(`account`, `listings`, `machines`, `focus.bill`). May import: `charges`, `machines`, `focus`, `settings`; never the
ledger. Begin reading at `client`, then `platform_usage` and `aggregation`; `sources` lists the sources by name.
"""

from exporter.fal.account import Invoices, read_balance, read_invoices, read_standing, read_username
from exporter.fal.aggregation import Detail, Reading, UsageSource
from exporter.fal.answers import LOCK_ADVICE, LOCK_REASONS
from exporter.fal.buckets import Allowance, Buckets
from exporter.fal.client import PLATFORM_URL, REPORTING_FALLBACK_URL, REPORTING_URL, Client
from exporter.fal.endpoints import Deadline, Limits, Observer, Silent
from exporter.fal.errors import REASONS, ApiError, BadRequestError, FeatureError, NotFoundError, ScopeError
from exporter.fal.focus.bill import CORRECTION, FocusBills
from exporter.fal.focus.report import Progress, download, fetch
from exporter.fal.focus.report import file_name as report_file_name
from exporter.fal.focus.request import FocusRequest, FocusRequestError
from exporter.fal.listings import read_api_keys, read_list_prices, read_teams
from exporter.fal.machines import ListedApp, read_apps, read_idle_runners, read_queue, read_requests, read_runners
from exporter.fal.pacing import Pacing, Rates
from exporter.fal.platform_usage import organization_totals, read_tagged, source_of_product
from exporter.fal.rows import OUTSIDE_WINDOW, REJECTIONS
from exporter.fal.sources import (
    DETAILED,
    SOURCES,
    TELL_LIST_PRICES,
    USAGE,
    Probe,
    automatic_sources,
    probe,
    unpolled_sources,
    usage_source,
)

__all__ = [
    "CORRECTION",
    "DETAILED",
    "LOCK_ADVICE",
    "LOCK_REASONS",
    "OUTSIDE_WINDOW",
    "PLATFORM_URL",
    "REASONS",
    "REJECTIONS",
    "REPORTING_FALLBACK_URL",
    "REPORTING_URL",
    "SOURCES",
    "TELL_LIST_PRICES",
    "USAGE",
    "Allowance",
    "ApiError",
    "BadRequestError",
    "Buckets",
    "Client",
    "Deadline",
    "Detail",
    "FeatureError",
    "FocusBills",
    "FocusRequest",
    "FocusRequestError",
    "Invoices",
    "Limits",
    "ListedApp",
    "NotFoundError",
    "Observer",
    "Pacing",
    "Probe",
    "Progress",
    "Rates",
    "Reading",
    "ScopeError",
    "Silent",
    "UsageSource",
    "automatic_sources",
    "download",
    "fetch",
    "organization_totals",
    "probe",
    "read_api_keys",
    "read_apps",
    "read_balance",
    "read_idle_runners",
    "read_invoices",
    "read_list_prices",
    "read_queue",
    "read_requests",
    "read_runners",
    "read_standing",
    "read_tagged",
    "read_teams",
    "read_username",
    "report_file_name",
    "source_of_product",
    "unpolled_sources",
    "usage_source",
]
