"""What lies ahead, from the hours behind: runway, budgets, forecasts, expected spend. Pure; knows no ledger."""
