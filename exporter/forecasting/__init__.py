"""Forecasts from the hours of the past: runway, budgets, periods, expected spend. Pure; knows no ledger."""
