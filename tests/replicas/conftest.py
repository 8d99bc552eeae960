"""PostgreSQL for the tests of replicas."""

from ledger.conftest import empty_postgresql, pooled_address, pooler, postgresql_address, postgresql_server

__all__ = ["empty_postgresql", "pooled_address", "pooler", "postgresql_address", "postgresql_server"]
