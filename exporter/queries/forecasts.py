"""Balances, budgets and forecasts as published last."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from exporter.forecasting.state import AccountOutlook, BudgetOutlook
from exporter.publication import Publication
from exporter.queries import parameters
from exporter.queries.coverage import check_accounts, left_out
from exporter.queries.parameters import NoDataYetError, Parameter, QuestionError

ACCOUNT = parameters.values("account", "Only these accounts, comma-separated. Default: all.", "default")
BUDGET = parameters.values("budget", "Only these budgets, comma-separated. Default: all.", "studio")
ACCOUNT_PARAMETERS: tuple[Parameter[object], ...] = (ACCOUNT,)
BUDGET_PARAMETERS: tuple[Parameter[object], ...] = (BUDGET,)


@dataclass(frozen=True, slots=True)
class AccountsAnswer:
    """Balance, runway and forecast of accounts, as known at an instant.

    Attributes:
        notes: what forecasts are made without.
    """

    as_of: datetime
    accounts: tuple[AccountOutlook, ...]
    currency: str = "USD"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetsAnswer:
    """Budgets in their current periods, as known at an instant; none where none is configured.

    Attributes:
        notes: what the spend of budgets lacks.
    """

    as_of: datetime
    budgets: tuple[BudgetOutlook, ...]
    currency: str = "USD"
    notes: tuple[str, ...] = ()


def answer_accounts(publication: Publication | None, given: Mapping[str, str]) -> AccountsAnswer:
    """Answer a question with ACCOUNT_PARAMETERS, about balances or about forecasts.

    Args:
        publication: the latest; None before the first.
        given: the texts of the parameters.

    Raises:
        QuestionError: a parameter is not known, cannot be read, or names an account that is not polled.
        NoDataYetError: nothing has been published yet.
    """
    wanted = parameters.Given(given, ACCOUNT_PARAMETERS).get(ACCOUNT)
    if publication is None:
        raise NoDataYetError("nothing has been read from fal yet")
    accounts = publication.outlook.accounts
    check_accounts((account.account for account in accounts), wanted or ())
    return AccountsAnswer(
        publication.at,
        tuple(account for account in accounts if wanted is None or account.account in wanted),
        notes=left_out(publication, wanted or ()),
    )


def answer_budgets(publication: Publication | None, given: Mapping[str, str]) -> BudgetsAnswer:
    """Answer a question with BUDGET_PARAMETERS.

    Raises:
        QuestionError: a parameter is not known, cannot be read, or names a budget that is not configured.
        NoDataYetError: nothing has been published yet.
    """
    wanted = parameters.Given(given, BUDGET_PARAMETERS).get(BUDGET)
    if publication is None:
        raise NoDataYetError("nothing has been read from fal yet")
    budgets = publication.outlook.budgets
    names = sorted(budget.budget for budget in budgets)
    if not set(wanted or ()) <= set(names):
        raise QuestionError("budget", f"is not a budget that is configured; accepted are {', '.join(names) or 'none'}")
    return BudgetsAnswer(
        publication.at,
        tuple(budget for budget in budgets if wanted is None or budget.budget in wanted),
        notes=left_out(publication) if budgets else (),
    )
