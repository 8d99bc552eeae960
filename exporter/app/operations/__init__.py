"""Operations done by hand: first settings, checks, the figures in a terminal, care of the ledger, a backfill.

Each module is one command or a family of them, and ends with an exit code. May import: the rest of `app`. Begin reading
at `check`.
"""
