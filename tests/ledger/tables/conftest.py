"""Both databases for every test of the tables, in the short run too: here is the SQL that differs."""

import pytest
from ledger.conftest import address_of


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> str:
    """The address of an empty ledger, once in either database."""
    return address_of(request)
